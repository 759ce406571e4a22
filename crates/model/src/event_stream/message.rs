use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

/// Length of a frame, length of its headers, and the checksum of both.
pub(super) const PRELUDE_BYTES: usize = 12;
pub(super) const CHECKSUM_BYTES: usize = 4;

/// One frame: headers and a payload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Names and values, in order. A name has 1 to 255 bytes.
    pub headers: Vec<(Cow<'static, str>, Value)>,
    pub payload: Bytes,
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Byte(i8),
    Short(i16),
    Int(i32),
    Long(i64),
    /// Of at most 65,535 bytes, like [`Value::String`].
    Bytes(Bytes),
    String(Cow<'static, str>),
    /// Milliseconds since the epoch.
    Timestamp(i64),
    Uuid([u8; 16]),
}

impl Message {
    /// An event called `name`.
    pub fn event(name: &'static str, content_type: &'static str, payload: Bytes) -> Self {
        let text = |text| Value::String(Cow::Borrowed(text));
        Self {
            headers: vec![
                (Cow::Borrowed(":event-type"), text(name)),
                (Cow::Borrowed(":content-type"), text(content_type)),
                (Cow::Borrowed(":message-type"), text("event")),
            ],
            payload,
        }
    }

    /// The text of a header.
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        match value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The event's name; `None` if the message is no event.
    pub fn event_type(&self) -> Option<&str> {
        match self.text(":message-type") {
            Some("event") => self.text(":event-type"),
            _ => None,
        }
    }

    /// The frame, ready to be sent. Headers that no frame can carry are left out.
    pub fn encode(&self) -> Bytes {
        let headers: usize = self.headers.iter().map(header_bytes).sum();
        let total = PRELUDE_BYTES + headers + self.payload.len() + CHECKSUM_BYTES;
        let mut out = BytesMut::with_capacity(total);
        out.put_u32(length(total));
        out.put_u32(length(headers));
        out.put_u32(crc32fast::hash(&out));
        for (name, value) in self
            .headers
            .iter()
            .filter(|header| header_bytes(header) > 0)
        {
            out.put_u8(name.len().try_into().unwrap_or(u8::MAX));
            out.put_slice(name.as_bytes());
            put_value(&mut out, value);
        }
        out.put_slice(&self.payload);
        out.put_u32(crc32fast::hash(&out));
        out.freeze()
    }
}

/// What is sent at once is far below this; see [`super::decoder::MAX_FRAME_BYTES`].
fn length(bytes: usize) -> u32 {
    bytes.try_into().unwrap_or(u32::MAX)
}

/// The size of a header in its frame; 0 if it fits in none.
fn header_bytes((name, value): &(Cow<'static, str>, Value)) -> usize {
    if name.is_empty() || name.len() > usize::from(u8::MAX) {
        return 0;
    }
    let value = match value {
        Value::Bool(_) => 0,
        Value::Byte(_) => 1,
        Value::Short(_) => 2,
        Value::Int(_) => 4,
        Value::Long(_) | Value::Timestamp(_) => 8,
        Value::Uuid(_) => 16,
        Value::Bytes(bytes) if bytes.len() <= usize::from(u16::MAX) => 2 + bytes.len(),
        Value::String(text) if text.len() <= usize::from(u16::MAX) => 2 + text.len(),
        Value::Bytes(_) | Value::String(_) => return 0,
    };
    1 + name.len() + 1 + value
}

/// A type and a value; the numbers of the types are those of the specification.
fn put_value(out: &mut BytesMut, value: &Value) {
    let with_length = |out: &mut BytesMut, kind, bytes: &[u8]| {
        out.put_u8(kind);
        out.put_u16(bytes.len().try_into().unwrap_or(u16::MAX));
        out.put_slice(bytes);
    };
    match value {
        Value::Bool(true) => out.put_u8(0),
        Value::Bool(false) => out.put_u8(1),
        Value::Byte(number) => {
            out.put_u8(2);
            out.put_i8(*number);
        }
        Value::Short(number) => {
            out.put_u8(3);
            out.put_i16(*number);
        }
        Value::Int(number) => {
            out.put_u8(4);
            out.put_i32(*number);
        }
        Value::Long(number) => {
            out.put_u8(5);
            out.put_i64(*number);
        }
        Value::Bytes(bytes) => with_length(out, 6, bytes),
        Value::String(text) => with_length(out, 7, text.as_bytes()),
        Value::Timestamp(millis) => {
            out.put_u8(8);
            out.put_i64(*millis);
        }
        Value::Uuid(uuid) => {
            out.put_u8(9);
            out.put_slice(uuid);
        }
    }
}
