//! An event, and how it is stored.
//!
//! Events are kept in the order in which they arrived, which nearly always is that of their
//! timestamps. Each carries the highest timestamp of its stream so far: that never decreases, so
//! that a time can be found by halving. Once an event has come late, all behind it are marked, and
//! readers of such a stream sort.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Error;

const FORMAT: u8 = 1;
const HEADER: usize = 1 + 8 + 8 + 8 + 8 + 1;

/// What AWS adds to the size of each message.
pub(crate) const OVERHEAD_BYTES: usize = 26;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) sequence: u64,
    /// Milliseconds since the epoch, as all times here.
    pub(crate) timestamp: i64,
    pub(crate) ingested: i64,
    /// The highest timestamp of the stream up to this event.
    pub(crate) high: i64,
    /// The sizes of all events of the stream up to this one.
    pub(crate) total_bytes: u64,
    /// Whether this or an earlier event of the stream came late.
    pub(crate) disordered: bool,
    pub(crate) message: Bytes,
}

impl Event {
    pub(crate) fn encode(&self) -> Bytes {
        let mut stored = BytesMut::with_capacity(HEADER + self.message.len());
        stored.put_u8(FORMAT);
        stored.put_i64(self.timestamp);
        stored.put_i64(self.ingested);
        stored.put_i64(self.high);
        stored.put_u64(self.total_bytes);
        stored.put_u8(u8::from(self.disordered));
        stored.put_slice(&self.message);
        stored.freeze()
    }

    pub(crate) fn decode(entry: &store::Entry) -> Result<Self, Error> {
        let stored = &entry.value;
        let mut input: &[u8] = stored;
        let header = take::<HEADER>(&mut input).filter(|header| header[0] == FORMAT);
        let Some(header) = header else {
            return Err(Error::Record { what: "event" });
        };
        let mut fields = header[1..33].chunks_exact(8).map(|field| {
            field
                .iter()
                .fold(0u64, |value, &byte| value << 8 | u64::from(byte))
        });
        let mut next = || fields.next().unwrap_or_default();
        Ok(Self {
            sequence: entry.sequence,
            timestamp: next().cast_signed(),
            ingested: next().cast_signed(),
            high: next().cast_signed(),
            total_bytes: next(),
            disordered: header[33] != 0,
            message: stored.slice(HEADER..),
        })
    }

    pub(crate) fn size(&self) -> usize {
        self.message.len() + OVERHEAD_BYTES
    }

    /// The message as text; what is stored always is.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.message).into_owned()
    }

    /// The identifier that AWS gives events: 56 digits, in the order of time.
    pub(crate) fn id(&self, stream: uuid::Uuid) -> String {
        // 24 digits hold the first 79 bits of the stream's id.
        let stream = stream.as_u128() >> 49;
        format!(
            "{:013}{stream:024}{:019}",
            self.timestamp.max(0),
            self.sequence
        )
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = input.split_first_chunk::<N>()?;
    *input = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_decoded_as_it_was_encoded() {
        let event = Event {
            sequence: 9,
            timestamp: -1,
            ingested: 1_700_000_000_000,
            high: 5,
            total_bytes: 1 << 40,
            disordered: true,
            message: "text".into(),
        };
        let entry = store::Entry {
            sequence: 9,
            value: event.encode(),
        };
        assert_eq!(Event::decode(&entry).unwrap(), event);
        assert_eq!(event.id(uuid::Uuid::max()).len(), 56);
        let short = store::Entry {
            sequence: 9,
            value: event.encode().slice(..20),
        };
        assert!(Event::decode(&short).is_err());
    }
}
