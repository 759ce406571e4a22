use std::io::Write as _;

use bytes::Bytes;
use cbor4ii::core::enc::{Encode, Write};
use cbor4ii::core::{marker, types};

use crate::json::ToJson;
use crate::{Blob, Timestamp};

/// Appends a document to a buffer: JSON, or another format that says the same.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    /// Maps and lists of unstated length.
    Cbor,
    /// As the Query protocol has it: an element per member, `member` in lists, `entry` in maps.
    Xml,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// An empty buffer, for JSON.
    pub fn new() -> Self {
        Self::of(Format::Json)
    }

    /// An empty buffer, for CBOR.
    pub fn cbor() -> Self {
        Self::of(Format::Cbor)
    }

    /// An empty buffer, for XML.
    pub fn xml() -> Self {
        Self::of(Format::Xml)
    }

    fn of(format: Format) -> Self {
        // Most answers fit, so that the buffer grows at most once or twice.
        let out = Vec::with_capacity(512);
        Self { out, format }
    }

    /// What has been written.
    pub fn into_bytes(self) -> Bytes {
        self.out.into()
    }

    /// Starts an object; [`ObjectWriter::end`] closes it.
    pub fn object(&mut self) -> ObjectWriter<'_> {
        self.container(false)
    }

    /// Starts a map, whose keys are data; [`ObjectWriter::end`] closes it.
    pub fn map(&mut self) -> ObjectWriter<'_> {
        self.container(true)
    }

    fn container(&mut self, is_map: bool) -> ObjectWriter<'_> {
        match self.format {
            Format::Json => self.out.push(b'{'),
            Format::Cbor => self
                .out
                .push(cbor4ii::core::major::MAP << 5 | marker::START),
            Format::Xml => {}
        }
        ObjectWriter {
            writer: self,
            empty: true,
            is_map,
        }
    }

    /// Writes `text` as it is: a literal, or a part of the document from elsewhere.
    pub fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Writes `true` or `false`.
    pub fn boolean(&mut self, value: bool) {
        match self.format {
            Format::Json | Format::Xml => self.raw(if value { "true" } else { "false" }),
            Format::Cbor => self.cbor_value(&value),
        }
    }

    /// Writes a string.
    pub fn string(&mut self, text: &str) {
        match self.format {
            Format::Json => self.json_string(text),
            Format::Cbor => self.cbor_value(&text),
            Format::Xml => self.xml_text(text),
        }
    }

    fn json_string(&mut self, text: &str) {
        self.out.push(b'"');
        let bytes = text.as_bytes();
        let mut copied = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                0..=0x1f => &unicode_escape(*byte),
                _ => continue,
            };
            self.out.extend_from_slice(&bytes[copied..at]);
            self.out.extend_from_slice(escape);
            copied = at + 1;
        }
        self.out.extend_from_slice(&bytes[copied..]);
        self.out.push(b'"');
    }

    /// Characters that XML cannot carry become U+FFFD.
    fn xml_text(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.raw("&amp;"),
                '<' => self.raw("&lt;"),
                '>' => self.raw("&gt;"),
                '"' => self.raw("&quot;"),
                '\r' => self.raw("&#xD;"),
                '\n' | '\t' => self.out.push(character as u8),
                '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => self.raw("\u{fffd}"),
                _ => {
                    let mut utf8 = [0; 4];
                    self.raw(character.encode_utf8(&mut utf8));
                }
            }
        }
    }

    fn cbor_value(&mut self, value: &impl Encode) {
        // Writing to memory cannot fail.
        let _ = value.encode(&mut Sink(&mut self.out));
    }

    /// Writes a whole number.
    pub fn integer(&mut self, value: i64) {
        match self.format {
            Format::Json | Format::Xml => self.display(format_args!("{value}")),
            Format::Cbor => self.cbor_value(&value),
        }
    }

    /// Writes a number, or the names AWS gives to values that JSON has no number for.
    pub fn float(&mut self, value: f64) {
        if self.format == Format::Cbor {
            return self.cbor_value(&value);
        }
        let name = if value.is_nan() {
            "NaN"
        } else if value.is_infinite() && value > 0.0 {
            "Infinity"
        } else if value.is_infinite() {
            "-Infinity"
        } else {
            return self.display(format_args!("{value:?}"));
        };
        self.string(name);
    }

    /// Writes a moment: as seconds since the epoch, with as many decimals as it needs, or as date
    /// and time where the format is made for text.
    pub fn timestamp(&mut self, moment: Timestamp) {
        match self.format {
            Format::Json => self.json_timestamp(moment),
            Format::Cbor if moment.as_micros() % 1_000_000 == 0 => {
                self.cbor_value(&types::Tag(1, moment.as_secs()));
            }
            Format::Cbor => self.cbor_value(&types::Tag(1, moment.as_secs_f64())),
            Format::Xml => self.display(format_args!("{}", moment.to_jiff())),
        }
    }

    fn json_timestamp(&mut self, moment: Timestamp) {
        let micros = moment.as_micros();
        let sign = if micros < 0 { "-" } else { "" };
        let (secs, fraction) = (
            micros.unsigned_abs() / 1_000_000,
            micros.unsigned_abs() % 1_000_000,
        );
        if fraction == 0 {
            self.display(format_args!("{sign}{secs}"));
        } else if fraction % 1_000 == 0 {
            self.display(format_args!("{sign}{secs}.{:03}", fraction / 1_000));
        } else {
            self.display(format_args!("{sign}{secs}.{fraction:06}"));
        }
    }

    /// Writes a blob.
    pub fn base64(&mut self, blob: &Blob) {
        match self.format {
            Format::Json => {
                self.out.push(b'"');
                self.out.extend_from_slice(&blob.to_base64());
                self.out.push(b'"');
            }
            // What cannot be decoded came from a client, and only outputs are written so.
            Format::Cbor => {
                let bytes = blob.decode().unwrap_or_default();
                self.cbor_value(&types::Bytes(&bytes[..]));
            }
            Format::Xml => self.out.extend_from_slice(&blob.to_base64()),
        }
    }

    /// Writes a list.
    pub fn array<'v, T: ToJson + 'v>(&mut self, values: impl IntoIterator<Item = &'v T>) {
        match self.format {
            Format::Json => self.out.push(b'['),
            Format::Cbor => self
                .out
                .push(cbor4ii::core::major::ARRAY << 5 | marker::START),
            Format::Xml => {}
        }
        for (index, value) in values.into_iter().enumerate() {
            match self.format {
                Format::Json if index > 0 => self.out.push(b','),
                Format::Json | Format::Cbor => {}
                Format::Xml => {
                    self.element("member", |writer| value.to_json(writer));
                    continue;
                }
            }
            value.to_json(self);
        }
        match self.format {
            Format::Json => self.out.push(b']'),
            Format::Cbor => self.out.push(marker::BREAK),
            Format::Xml => {}
        }
    }

    /// Writes an XML element. Its name comes from an interface and needs no escapes.
    pub(crate) fn element(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.display(format_args!("<{name}>"));
        content(self);
        self.display(format_args!("</{name}>"));
    }

    fn display(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a Vec cannot fail.
        let _ = self.out.write_fmt(text);
    }
}

/// Where the CBOR encoder puts its bytes.
struct Sink<'a>(&'a mut Vec<u8>);

impl Write for Sink<'_> {
    type Error = std::convert::Infallible;

    fn push(&mut self, input: &[u8]) -> Result<(), Self::Error> {
        self.0.extend_from_slice(input);
        Ok(())
    }
}

fn unicode_escape(byte: u8) -> [u8; 6] {
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]
}

/// An object being written.
#[derive(Debug)]
pub struct ObjectWriter<'a> {
    writer: &'a mut Writer,
    empty: bool,
    is_map: bool,
}

impl ObjectWriter<'_> {
    /// Writes a member that is always there.
    pub fn entry<T: ToJson + ?Sized>(&mut self, name: &str, value: &T) {
        let first = std::mem::take(&mut self.empty);
        let writer = &mut *self.writer;
        match writer.format {
            Format::Json => {
                if !first {
                    writer.out.push(b',');
                }
                writer.json_string(name);
                writer.out.push(b':');
                value.to_json(writer);
            }
            Format::Cbor => {
                writer.cbor_value(&name);
                value.to_json(writer);
            }
            Format::Xml if self.is_map => writer.element("entry", |writer| {
                writer.element("key", |writer| writer.xml_text(name));
                writer.element("value", |writer| value.to_json(writer));
            }),
            Format::Xml => writer.element(name, |writer| value.to_json(writer)),
        }
    }

    /// Writes a member unless it is absent.
    pub fn member<T: ToJson>(&mut self, name: &str, value: &Option<T>) {
        if let Some(value) = value {
            self.entry(name, value);
        }
    }

    /// Closes the object.
    pub fn end(self) {
        match self.writer.format {
            Format::Json => self.writer.out.push(b'}'),
            Format::Cbor => self.writer.out.push(marker::BREAK),
            Format::Xml => {}
        }
    }
}
