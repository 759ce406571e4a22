//! What is stored of executions: the only form in which they reach the disk.
//!
//! One table holds all of it, so that a turn of an execution is one atomic write:
//!
//! ```text
//! h <arn>              Head: what it was started with, and how it ended
//! j <number> <turn>    Turn: what happened, and the events that came of it
//! r <number>           Running: that it runs, and what wakes it; gone once it has ended
//! i <scope> 0 <newest first>   its line in lists
//! x <number>           Express: Head of an express execution that was started and has not ended
//! n                    numbers below this one may have been used
//! ```

use asl::history::HistoryEvent;
use asl::machine::{Input, Outcome};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The format of [`Running`].
const FORMAT: u8 = 1;

pub const HEADS: &[u8] = b"h";
pub const TURNS: &[u8] = b"j";
pub const RUNNING: &[u8] = b"r";
pub const LINES: &[u8] = b"i";
pub const EXPRESS: &[u8] = b"x";
pub const NUMBERS: &[u8] = b"n";

/// An execution as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Head {
    pub number: u64,
    pub name: String,
    pub revision: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_run_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_case: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_header: Option<String>,
    /// The text as it was given.
    pub input: String,
    /// Microseconds since the epoch, as all times here.
    pub start: i64,
    #[serde(default)]
    pub redrives: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven: Option<i64>,
    /// What the client named its last redrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrive_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// An express execution that has not ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Express {
    pub arn: String,
    pub head: Head,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct End {
    pub stop: i64,
    pub outcome: Outcome,
}

/// What an execution has taken in at once, and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Turn {
    pub inputs: Vec<Taken>,
    pub events: Vec<HistoryEvent>,
}

/// One input with all that the interpreter was given with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Taken {
    pub input: Input,
    pub now_ms: i64,
    pub seed: u64,
    /// The activities of the definition that did not exist then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// A line in a list of executions. Everything that the list shows is in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub arn: String,
    pub name: String,
    pub machine_arn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_run_arn: Option<String>,
    pub start: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<i64>,
    pub status: String,
    #[serde(default)]
    pub redrives: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven: Option<i64>,
}

/// That an execution runs. Read for every one of them when the server starts, so it is small and no
/// JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Milliseconds since the epoch; `None` if no time will change anything.
    pub due_ms: Option<i64>,
    /// It waits for something that ends with the server, or for a worker to fetch a task.
    pub attended: bool,
    pub arn: String,
}

impl Running {
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(10 + self.arn.len());
        bytes.push(FORMAT);
        bytes.push(u8::from(self.attended));
        bytes.extend_from_slice(&self.due_ms.unwrap_or(i64::MAX).to_be_bytes());
        bytes.extend_from_slice(self.arn.as_bytes());
        bytes.into()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[FORMAT, attended], rest) = bytes.split_first_chunk()? else {
            return None;
        };
        let (due, arn) = rest.split_first_chunk()?;
        let due_ms = i64::from_be_bytes(*due);
        Some(Self {
            due_ms: (due_ms != i64::MAX).then_some(due_ms),
            attended: attended != 0,
            arn: String::from_utf8(arn.to_vec()).ok()?,
        })
    }
}

pub fn encode(value: &impl Serialize) -> Result<Bytes, Error> {
    crate::record::encode("execution", value)
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    crate::record::decode("execution", bytes)
}

pub fn head_key(arn: &str) -> Vec<u8> {
    [HEADS, arn.as_bytes()].concat()
}

pub fn turns_of(number: u64) -> Vec<u8> {
    [TURNS, &number.to_be_bytes()].concat()
}

pub fn turn_key(number: u64, turn: u64) -> Vec<u8> {
    [TURNS, &number.to_be_bytes(), &turn.to_be_bytes()].concat()
}

pub fn running_key(number: u64) -> Vec<u8> {
    [RUNNING, &number.to_be_bytes()].concat()
}

pub fn express_key(number: u64) -> Vec<u8> {
    [EXPRESS, &number.to_be_bytes()].concat()
}

/// The number at the end of a key.
pub fn number_of(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|number| u64::from_be_bytes(*number))
}

/// The prefix of the lines of a machine or map run.
pub fn lines_of(scope: &str) -> Vec<u8> {
    [LINES, scope.as_bytes(), b"\0"].concat()
}

/// Lists show what began last first, so a key falls as the time grows.
pub fn line_key(scope: &str, start: i64, number: u64) -> Vec<u8> {
    let falling = (i64::MAX - start).to_be_bytes();
    let newest_first = (u64::MAX - number).to_be_bytes();
    [
        LINES,
        scope.as_bytes(),
        b"\0",
        &falling[..],
        &newest_first[..],
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_execution_comes_back_as_it_was_stored() {
        for due_ms in [None, Some(0), Some(1_763_000_000_000)] {
            let running = Running {
                due_ms,
                attended: due_ms.is_none(),
                arn: "arn:aws:states:eu-west-1:1:execution:a:b".into(),
            };
            assert_eq!(Running::decode(&running.encode()), Some(running));
        }
        assert_eq!(Running::decode(b""), None);
        assert_eq!(Running::decode(&[9; 30]), None);
    }

    /// What just could be read has more around it in here, and must be readable again.
    #[test]
    fn turn_with_a_deeply_nested_result_can_be_read_again() {
        let task = serde_json::from_value(serde_json::json!({"fiber": 0, "run": 1}));
        let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
        let input = Input::TaskSucceeded {
            task: task.unwrap(),
            output: serde_json::from_str(&deep).unwrap(),
        };
        let turn = Turn {
            inputs: vec![Taken {
                input: input.checked(),
                now_ms: 0,
                seed: 0,
                missing: Vec::new(),
            }],
            events: Vec::new(),
        };
        let stored = encode(&turn).unwrap();
        assert_eq!(decode::<Turn>(&stored).unwrap().inputs.len(), 1);
    }

    #[test]
    fn later_executions_come_first_in_lists() {
        let key = |start, number| line_key("machine", start, number);
        assert!(key(2_000, 1) < key(1_000, 2));
        assert!(key(1_000, 2) < key(1_000, 1));
    }
}
