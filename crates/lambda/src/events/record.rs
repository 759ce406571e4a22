//! How events and deliveries are stored: one record each, in one table.
//!
//! An event's key is its function and the moment of its arrival, so that a scan finds the events of
//! a function in order. The value is a short header and then the payload as it came, which is never
//! copied into a larger structure.

use bytes::Bytes;
use clock::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::delivery::Service;
use crate::error::Error;
use crate::function::{FunctionId, Scope};

const FORMAT: u8 = 1;
pub const EVENTS: &[u8] = b"e/";
pub const RETRIES: &[u8] = b"r/";
pub const DELIVERIES: &[u8] = b"d/";

/// Moment of arrival, and a number that tells events of the same microsecond apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub at: Timestamp,
    pub tie: u64,
}

/// An accepted event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub head: Head,
    pub payload: Bytes,
}

/// What goes with the payload of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub request_id: String,
    /// As the caller gave it: `None`, `$LATEST`, a number or an alias.
    pub qualifier: Option<String>,
    pub trace_header: String,
}

/// How far the tries of an event have come; a record of its own, so that a retry does not write the
/// payload again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    pub errors: u8,
    pub due: Timestamp,
}

/// A message for a destination or a dead-letter queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub note: Note,
    pub body: Bytes,
}

/// What goes with the body of a delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The ARN it goes to.
    pub target: String,
    /// Whose event it was: account, region, name.
    pub function: (String, String, String),
    /// With the qualifier.
    pub function_arn: String,
    pub request_id: String,
    pub trace_header: String,
    pub purpose: Purpose,
}

/// Why something is delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Purpose {
    Success,
    Failure,
    /// AWS describes the error of a dead letter in attributes of the message.
    DeadLetter {
        error_code: Option<u16>,
        error_message: String,
    },
}

impl Slot {
    fn write(self, key: &mut Vec<u8>) {
        // No event arrives before 1970.
        let micros = u64::try_from(self.at.as_micros()).unwrap_or(0);
        key.extend_from_slice(&micros.to_be_bytes());
        key.extend_from_slice(&self.tie.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (micros, tie) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            at: Timestamp::from_micros(i64::try_from(u64::from_be_bytes(*micros)).ok()?),
            tie: u64::from_be_bytes(tie.try_into().ok()?),
        })
    }
}

pub fn event_key(function: &FunctionId, slot: Slot) -> Vec<u8> {
    key_of_function(EVENTS, function, slot)
}

pub fn retry_key(function: &FunctionId, slot: Slot) -> Vec<u8> {
    key_of_function(RETRIES, function, slot)
}

pub fn delivery_key(service: Service, slot: Slot) -> Vec<u8> {
    let mut key = [DELIVERIES, service.name().as_bytes(), b"\0"].concat();
    slot.write(&mut key);
    key
}

/// The function and slot of an event's or a retry's key.
pub fn parse_key(prefix: &[u8], key: &[u8]) -> Option<(FunctionId, Slot)> {
    let rest = key.strip_prefix(prefix)?;
    // Names hold no zero byte; the slot may.
    let end = rest.iter().position(|byte| *byte == 0)?;
    let mut parts = std::str::from_utf8(&rest[..end]).ok()?.split('/');
    let scope = Scope {
        account: parts.next()?.parse().ok()?,
        region: parts.next()?.parse().ok()?,
    };
    let name = parts.next()?.to_owned();
    Some((FunctionId { scope, name }, Slot::read(&rest[end + 1..])?))
}

/// The service and slot of a delivery's key.
pub fn parse_delivery_key(key: &[u8]) -> Option<(Service, Slot)> {
    let rest = key.strip_prefix(DELIVERIES)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let service = Service::named(std::str::from_utf8(&rest[..end]).ok()?)?;
    Some((service, Slot::read(&rest[end + 1..])?))
}

fn key_of_function(prefix: &[u8], function: &FunctionId, slot: Slot) -> Vec<u8> {
    let FunctionId { scope, name } = function;
    let path = format!("{}/{}/{name}\0", scope.account, scope.region);
    let mut key = Vec::with_capacity(prefix.len() + path.len() + 16);
    key.extend_from_slice(prefix);
    key.extend_from_slice(path.as_bytes());
    slot.write(&mut key);
    key
}

impl Event {
    pub fn encode(&self) -> Result<Bytes, Error> {
        encode(&self.head, &self.payload)
    }

    pub fn decode(value: &Bytes) -> Result<Self, Error> {
        let (head, payload) = decode(value)?;
        Ok(Self { head, payload })
    }
}

impl Delivery {
    pub fn encode(&self) -> Result<Bytes, Error> {
        encode(&self.note, &self.body)
    }

    pub fn decode(value: &Bytes) -> Result<Self, Error> {
        let (note, body) = decode(value)?;
        Ok(Self { note, body })
    }
}

impl Retry {
    pub fn encode(&self) -> Result<Bytes, Error> {
        encode(self, &[])
    }

    pub fn decode(value: &Bytes) -> Result<Self, Error> {
        decode(value).map(|(retry, _)| retry)
    }
}

/// Format, length of the head, head, body.
fn encode(head: &impl Serialize, body: &[u8]) -> Result<Bytes, Error> {
    let head = postcard::to_stdvec(head).map_err(|_| Error::EventRecord)?;
    let length = u32::try_from(head.len()).map_err(|_| Error::EventRecord)?;
    let mut value = Vec::with_capacity(5 + head.len() + body.len());
    value.push(FORMAT);
    value.extend_from_slice(&length.to_be_bytes());
    value.extend_from_slice(&head);
    value.extend_from_slice(body);
    Ok(value.into())
}

fn decode<T: DeserializeOwned>(value: &Bytes) -> Result<(T, Bytes), Error> {
    let (&[format, ref length @ ..], rest) =
        value.split_first_chunk::<5>().ok_or(Error::EventRecord)?;
    let length = u32::from_be_bytes(*length) as usize;
    if format != FORMAT || rest.len() < length {
        return Err(Error::EventRecord);
    }
    let head = postcard::from_bytes(&rest[..length]).map_err(|_| Error::EventRecord)?;
    Ok((head, value.slice(5 + length..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::tests::function;

    fn slot(micros: i64, tie: u64) -> Slot {
        let at = Timestamp::from_micros(micros);
        Slot { at, tie }
    }

    #[test]
    fn an_event_is_read_back_as_it_was_written() {
        let event = Event {
            head: Head {
                request_id: "id".into(),
                qualifier: Some("live".into()),
                trace_header: "Root=1".into(),
            },
            payload: Bytes::from_static(b"{\"a\": 1}"),
        };
        assert_eq!(Event::decode(&event.encode().unwrap()).unwrap(), event);
        let retry = Retry {
            errors: 1,
            due: Timestamp::from_secs(60),
        };
        assert_eq!(Retry::decode(&retry.encode().unwrap()).unwrap(), retry);
    }

    #[test]
    fn damaged_and_foreign_records_are_errors() {
        let whole = Event {
            head: Head {
                request_id: "id".into(),
                qualifier: None,
                trace_header: String::new(),
            },
            payload: Bytes::new(),
        };
        let whole = whole.encode().unwrap();
        for length in 0..whole.len() {
            assert!(Event::decode(&whole.slice(..length)).is_err(), "{length}");
        }
        let mut foreign = whole.to_vec();
        foreign[0] = 2;
        assert!(Event::decode(&foreign.into()).is_err());
    }

    #[test]
    fn keys_sort_by_function_and_arrival_and_read_back() {
        let id = function("a.b_c-d").id;
        let (early, late) = (slot(1, u64::MAX), slot(256, 0));
        assert!(event_key(&id, early) < event_key(&id, late));
        for slot in [early, late] {
            let key = event_key(&id, slot);
            assert_eq!(parse_key(EVENTS, &key), Some((id.clone(), slot)));
            assert_eq!(parse_key(RETRIES, &key), None);
            let key = delivery_key(Service::Sqs, slot);
            assert_eq!(parse_delivery_key(&key), Some((Service::Sqs, slot)));
        }
        assert_eq!(parse_key(EVENTS, b"e/nonsense"), None);
    }
}
