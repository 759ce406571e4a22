use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};

use super::message::{CHECKSUM_BYTES, Message, PRELUDE_BYTES, Value};

/// AWS sends no frame that is larger: 16 MB of payload, 128 KB of headers.
pub(super) const MAX_FRAME_BYTES: usize = (16 << 20) + MAX_HEADER_BYTES + PRELUDE_BYTES + 4;
const MAX_HEADER_BYTES: usize = 128 << 10;

/// Takes frames out of bytes as they come in.
#[derive(Debug, Default)]
pub struct Decoder(BytesMut);

/// Why bytes are no frame. What follows cannot be read either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("an event is larger than event streams allow, or smaller than it says")]
    Length,
    #[error("an event's checksum does not match its content")]
    Checksum,
    #[error("an event's headers cannot be read")]
    Headers,
}

impl Decoder {
    /// Adds bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Whether all bytes were taken out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next frame; `None` until all of it is there.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's end would be final, this one's is not"
    )]
    pub fn next(&mut self) -> Result<Option<Message>, FrameError> {
        let Some(prelude) = self.0.get(..PRELUDE_BYTES) else {
            return Ok(None);
        };
        if crc32fast::hash(&prelude[..8]) != number(&prelude[8..]) {
            return Err(FrameError::Checksum);
        }
        let (total, headers) = (size(&prelude[..4]), size(&prelude[4..8]));
        let payload = total
            .checked_sub(PRELUDE_BYTES + CHECKSUM_BYTES)
            .and_then(|rest| rest.checked_sub(headers));
        let Some(payload) = payload else {
            return Err(FrameError::Length);
        };
        if total > MAX_FRAME_BYTES || headers > MAX_HEADER_BYTES {
            return Err(FrameError::Length);
        }
        if self.0.len() < total {
            return Ok(None);
        }
        let mut frame = self.0.split_to(total).freeze();
        let checked = total - CHECKSUM_BYTES;
        if crc32fast::hash(&frame[..checked]) != number(&frame[checked..]) {
            return Err(FrameError::Checksum);
        }
        frame.advance(PRELUDE_BYTES);
        let headers = read_headers(frame.split_to(headers)).ok_or(FrameError::Headers)?;
        frame.truncate(payload);
        Ok(Some(Message {
            headers,
            payload: frame,
        }))
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn size(bytes: &[u8]) -> usize {
    usize::try_from(number(bytes)).unwrap_or(usize::MAX)
}

fn read_headers(mut bytes: Bytes) -> Option<Vec<(Cow<'static, str>, Value)>> {
    let mut headers = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(bytes.get_u8());
        let name = text(take(&mut bytes, length)?)?;
        if name.is_empty() {
            return None;
        }
        headers.push((name, read_value(&mut bytes)?));
    }
    Some(headers)
}

fn read_value(bytes: &mut Bytes) -> Option<Value> {
    Some(match bytes.try_get_u8().ok()? {
        0 => Value::Bool(true),
        1 => Value::Bool(false),
        2 => Value::Byte(bytes.try_get_i8().ok()?),
        3 => Value::Short(bytes.try_get_i16().ok()?),
        4 => Value::Int(bytes.try_get_i32().ok()?),
        5 => Value::Long(bytes.try_get_i64().ok()?),
        6 => Value::Bytes(take_counted(bytes)?),
        7 => Value::String(text(take_counted(bytes)?)?),
        8 => Value::Timestamp(bytes.try_get_i64().ok()?),
        9 => Value::Uuid(take(bytes, 16)?.as_ref().try_into().ok()?),
        _ => return None,
    })
}

fn take_counted(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(bytes.try_get_u16().ok()?);
    take(bytes, length)
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

fn text(bytes: Bytes) -> Option<Cow<'static, str>> {
    String::from_utf8(bytes.into()).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Vec<Message>, FrameError> {
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        // In pieces, as a connection delivers them.
        for piece in bytes.chunks(7) {
            decoder.push(piece);
            while let Some(message) = decoder.next()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    /// From the test vectors that come with the specification: no headers and no payload, and one
    /// header with a document.
    #[test]
    fn published_vectors_are_read_and_written() {
        let empty = hex("000000100000000005c248eb7d98c8ff");
        let message = Message::default();
        assert_eq!(decode(&empty).unwrap(), std::slice::from_ref(&message));
        assert_eq!(message.encode(), empty);

        let one = hex(
            "0000003d0000002007fd83960c636f6e74656e742d747970650700106170706c69636174696f6e2f6a73\
             6f6e7b27666f6f273a27626172277d8d9c08b1",
        );
        let message = Message {
            headers: vec![(
                Cow::Borrowed("content-type"),
                Value::String(Cow::Borrowed("application/json")),
            )],
            payload: Bytes::from_static(b"{'foo':'bar'}"),
        };
        assert_eq!(decode(&one).unwrap(), std::slice::from_ref(&message));
        assert_eq!(message.encode(), one);
    }

    #[test]
    fn damage_is_noticed() {
        let frame = Message::event(
            "PayloadChunk",
            "application/json",
            Bytes::from_static(b"{}"),
        );
        let frame = frame.encode();
        for index in 0..frame.len() {
            let mut damaged = frame.to_vec();
            damaged[index] ^= 0x10;
            assert!(decode(&damaged).is_err(), "byte {index}");
        }
        assert_eq!(decode(&frame[..frame.len() - 1]).unwrap(), []);
    }

    #[test]
    fn frames_of_impossible_sizes_are_refused() {
        for (total, headers) in [
            (15_u32, 0_u32),
            (100, 90),
            (u32::MAX, 0),
            (16 << 20, 1 << 20),
        ] {
            let mut frame = Vec::new();
            frame.extend(total.to_be_bytes());
            frame.extend(headers.to_be_bytes());
            frame.extend(crc32fast::hash(&frame).to_be_bytes());
            frame.extend([0; 200]);
            assert_eq!(decode(&frame), Err(FrameError::Length), "{total} {headers}");
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        let byte = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i8>().prop_map(Value::Byte),
            any::<i16>().prop_map(Value::Short),
            any::<i32>().prop_map(Value::Int),
            any::<i64>().prop_map(Value::Long),
            any::<i64>().prop_map(Value::Timestamp),
            any::<[u8; 16]>().prop_map(Value::Uuid),
            ".{0,20}".prop_map(|text| Value::String(Cow::Owned(text))),
            prop::collection::vec(any::<u8>(), 0..20)
                .prop_map(|bytes| Value::Bytes(Bytes::from(bytes))),
        ]
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            headers in prop::collection::vec(("[a-z:-]{1,20}", value()), 0..5),
            payload in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let headers = headers.into_iter().map(|(name, value)| (Cow::Owned(name), value));
            let message = Message { headers: headers.collect(), payload: Bytes::from(payload) };
            let twice = [message.encode(), message.encode()].concat();
            prop_assert_eq!(decode(&twice).unwrap(), [message.clone(), message]);
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            // With right checksums, so that the headers are looked at.
            let mut frame = Vec::new();
            let total = u32::try_from(bytes.len() + 16).unwrap();
            frame.extend(total.to_be_bytes());
            frame.extend((total - 16).to_be_bytes());
            frame.extend(crc32fast::hash(&frame).to_be_bytes());
            frame.extend(&bytes);
            frame.extend(crc32fast::hash(&frame).to_be_bytes());
            let _ = decode(&frame);
        }
    }
}
