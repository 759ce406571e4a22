//! What is stored of map runs.
//!
//! ```text
//! r <id>                 Run: what it is, and how it ended
//! l <execution> 0 <id>   its line in the list of an execution
//! a <id>                 it has not ended
//! c <id> <first child>   Chunk: the inputs of some children, in order
//! o <id> <number>        Outcomes: how some children ended
//! ```
//!
//! Inputs are on disk before a child that has one of them begins, so that a child is the same one
//! after a restart whatever has become of the dataset. Outcomes are written many at a time; one that
//! is not on disk yet is found out again, from the child's own record or by running it again.

use asl::definition::StateId;
use asl::failure::Failure;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::limits::Limits;
use super::tally::Counts;
use crate::Error;

const FORMAT: u8 = 1;

pub const RUNS: u8 = b'r';
pub const LINES: u8 = b'l';
pub const ACTIVE: u8 = b'a';
pub const CHUNKS: u8 = b'c';
pub const OUTCOMES: u8 = b'o';

/// A map run as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub arn: String,
    /// Names it for its execution.
    pub task: String,
    pub execution_arn: String,
    /// The machine that its children run.
    pub machine_arn: String,
    /// What the machine's revision is called.
    pub revision: String,
    pub state: StateId,
    pub express: bool,
    /// Microseconds since the epoch, as all times here.
    pub start: i64,
    pub limits: Limits,
    /// How often its execution had been redriven when it began, or was last taken up.
    #[serde(default)]
    pub execution_redrives: u32,
    #[serde(default)]
    pub redrives: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven: Option<i64>,
    /// Set once all items have been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Read>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    pub children: u64,
    pub items: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    pub stop: i64,
    pub how: How,
    pub counts: Counts,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum How {
    Succeeded(Value),
    Failed(Failure),
    Aborted,
}

/// The inputs of children that follow one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// How many items have been read before this chunk.
    pub items_before: u64,
    pub inputs: Vec<Input>,
}

/// What a child is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// How many items are in it.
    pub items: u32,
    pub text: String,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub child: u64,
    pub items: u32,
    /// In which attempt at the whole run: outcomes of later ones replace those of earlier ones.
    pub redrives: u32,
    /// The attempt in which it began, which is in its name.
    pub named: u32,
    pub start: i64,
    pub stop: i64,
    pub how: Ended,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Succeeded {
        output: String,
    },
    Failed {
        status: Status,
        error: Option<String>,
        cause: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Failed,
    TimedOut,
    Aborted,
}

impl Status {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::Aborted => "ABORTED",
        }
    }
}

pub fn key(kind: u8, id: Uuid) -> Vec<u8> {
    [&[kind][..], id.as_bytes()].concat()
}

pub fn numbered(kind: u8, id: Uuid, number: u64) -> Vec<u8> {
    [&[kind][..], id.as_bytes(), &number.to_be_bytes()].concat()
}

pub fn line_prefix(execution_arn: &str) -> Vec<u8> {
    [&[LINES][..], execution_arn.as_bytes(), b"\0"].concat()
}

pub fn line_key(execution_arn: &str, start: i64, id: Uuid) -> Vec<u8> {
    let prefix = line_prefix(execution_arn);
    [&prefix[..], &start.to_be_bytes(), id.as_bytes()].concat()
}

/// The number at the end of a key.
pub fn number_of(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|number| u64::from_be_bytes(*number))
}

/// The run at the end of a key.
pub fn id_of(key: &[u8]) -> Option<Uuid> {
    key.last_chunk().map(|id| Uuid::from_bytes(*id))
}

pub fn encode_run(run: &Run) -> Result<Bytes, Error> {
    crate::record::encode("map run", run)
}

pub fn decode_run(value: &[u8]) -> Result<Run, Error> {
    crate::record::decode("map run", value)
}

impl Chunk {
    pub fn encode(&self) -> Bytes {
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.items_before.to_be_bytes());
        for input in &self.inputs {
            out.extend_from_slice(&input.items.to_be_bytes());
            put_text(&mut out, Some(&input.text));
        }
        out.into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes)?;
        let items_before = reader.u64()?;
        let mut inputs = Vec::new();
        while !reader.rest.is_empty() {
            let items = reader.u32()?;
            let text = reader.text()?.ok_or_else(broken)?;
            inputs.push(Input { items, text });
        }
        Ok(Self {
            items_before,
            inputs,
        })
    }

    pub fn items(&self) -> u64 {
        self.inputs.iter().map(|input| u64::from(input.items)).sum()
    }
}

impl Outcome {
    /// About how long it is on disk.
    pub fn bytes(&self) -> usize {
        let texts = match &self.how {
            Ended::Succeeded { output } => output.len(),
            Ended::Failed { error, cause, .. } => {
                let len = |text: &Option<String>| text.as_ref().map_or(0, String::len);
                len(error) + len(cause)
            }
        };
        texts + 48
    }

    /// Keeps no more than what is counted.
    pub fn forget_texts(&mut self) {
        match &mut self.how {
            Ended::Succeeded { output } => *output = String::new(),
            Ended::Failed { error, cause, .. } => (*error, *cause) = (None, None),
        }
    }
}

pub fn encode_outcomes(outcomes: &[Outcome]) -> Bytes {
    let mut out = vec![FORMAT];
    for outcome in outcomes {
        out.extend_from_slice(&outcome.child.to_be_bytes());
        out.extend_from_slice(&outcome.items.to_be_bytes());
        out.extend_from_slice(&outcome.redrives.to_be_bytes());
        out.extend_from_slice(&outcome.named.to_be_bytes());
        out.extend_from_slice(&outcome.start.to_be_bytes());
        out.extend_from_slice(&outcome.stop.to_be_bytes());
        match &outcome.how {
            Ended::Succeeded { output } => {
                out.push(0);
                put_text(&mut out, Some(output));
            }
            Ended::Failed {
                status,
                error,
                cause,
            } => {
                out.push(match status {
                    Status::Failed => 1,
                    Status::TimedOut => 2,
                    Status::Aborted => 3,
                });
                put_text(&mut out, error.as_deref());
                put_text(&mut out, cause.as_deref());
            }
        }
    }
    out.into()
}

pub fn decode_outcomes(bytes: &[u8]) -> Result<Vec<Outcome>, Error> {
    let mut reader = Reader::new(bytes)?;
    let mut outcomes = Vec::new();
    while !reader.rest.is_empty() {
        outcomes.push(Outcome {
            child: reader.u64()?,
            items: reader.u32()?,
            redrives: reader.u32()?,
            named: reader.u32()?,
            start: i64::from_be_bytes(reader.take()?),
            stop: i64::from_be_bytes(reader.take()?),
            how: match reader.take::<1>()? {
                [0] => Ended::Succeeded {
                    output: reader.text()?.ok_or_else(broken)?,
                },
                [status] => Ended::Failed {
                    status: match status {
                        1 => Status::Failed,
                        2 => Status::TimedOut,
                        3 => Status::Aborted,
                        _ => return Err(broken()),
                    },
                    error: reader.text()?,
                    cause: reader.text()?,
                },
            },
        });
    }
    Ok(outcomes)
}

/// Nothing is told from an empty text by a length that no text has.
fn put_text(out: &mut Vec<u8>, text: Option<&str>) {
    let len = text.map_or(u32::MAX, |text| {
        u32::try_from(text.len()).unwrap_or(u32::MAX - 1)
    });
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.unwrap_or_default().as_bytes());
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => Ok(Self { rest }),
            _ => Err(broken()),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(broken)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.take().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<Option<String>, Error> {
        let len = self.u32()?;
        if len == u32::MAX {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| broken())?;
        let (text, rest) = self.rest.split_at_checked(len).ok_or_else(broken)?;
        self.rest = rest;
        let text = String::from_utf8(text.to_vec()).map_err(|_| broken())?;
        Ok(Some(text))
    }
}

fn broken() -> Error {
    Error::Record {
        what: "map run",
        source: serde::de::Error::custom("it is incomplete or of an unknown format"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_and_outcomes_come_back_as_they_were_stored() {
        let chunk = Chunk {
            items_before: 7,
            inputs: vec![
                Input {
                    items: 1,
                    text: "{}".into(),
                },
                Input {
                    items: 3,
                    text: String::new(),
                },
            ],
        };
        assert_eq!(Chunk::decode(&chunk.encode()).unwrap(), chunk);
        assert_eq!(chunk.items(), 4);
        let outcome = |child, how| Outcome {
            child,
            items: 2,
            redrives: 1,
            named: 0,
            start: -5,
            stop: 9,
            how,
        };
        let failed = |status, cause: Option<&str>| Ended::Failed {
            status,
            error: None,
            cause: cause.map(str::to_owned),
        };
        let outcomes = vec![
            outcome(1, Ended::Succeeded { output: "1".into() }),
            outcome(2, failed(Status::Failed, Some(""))),
            outcome(3, failed(Status::TimedOut, None)),
            outcome(4, failed(Status::Aborted, Some("x"))),
        ];
        assert_eq!(
            decode_outcomes(&encode_outcomes(&outcomes)).unwrap(),
            outcomes
        );
    }

    #[test]
    fn cut_records_are_refused() {
        let outcomes = [Outcome {
            child: 1,
            items: 2,
            redrives: 0,
            named: 0,
            start: 0,
            stop: 0,
            how: Ended::Succeeded {
                output: "\"text\"".into(),
            },
        }];
        let stored = encode_outcomes(&outcomes);
        for end in 2..stored.len() {
            assert!(decode_outcomes(&stored[..end]).is_err(), "{end}");
        }
        assert!(decode_outcomes(b"").is_err());
        assert!(Chunk::decode(&[9]).is_err());
        let huge = [&[FORMAT][..], &[0; 12], &[0xff, 0xff, 0xff, 0xf0]].concat();
        assert!(Chunk::decode(&huge).is_err());
    }
}
