//! Answers that take the place of what tasks would call, in the format of Step Functions Local.
//!
//! A file says for each machine which test cases there are, and for each state of a test case which
//! answers it gets, by the number of the attempt. States that a test case does not name call what
//! they would call without it.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/sfn-local-mock-cfg-file.html>

mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use asl::failure::{Failure, names};
use serde_json::Value;

/// Everything that a file of mocks says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mocks {
    /// Test cases by the name of their machine and their own.
    machines: BTreeMap<String, BTreeMap<String, Arc<TestCase>>>,
}

/// What the states of a machine answer in one test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestCase {
    states: BTreeMap<String, Arc<Responses>>,
}

/// What a task answers instead of being run.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    Return(Value),
    Throw(Failure),
}

/// Answers by attempt, without a gap from 0 on.
#[derive(Clone, Debug, PartialEq)]
struct Responses {
    /// The last attempt that an answer is for, and the answer.
    until: Vec<(u64, Response)>,
}

/// Why a file of mocks cannot be used. It names the file and the place in it.
#[derive(Debug, thiserror::Error)]
pub enum MockFileError {
    #[error("cannot read the mock file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the mock file {} is not JSON", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the mock file {}: {problem}", path.display())]
    Content { path: PathBuf, problem: String },
}

impl Mocks {
    /// Reads a file. Whatever is wrong with it is an error, so that no test runs without its mocks.
    pub fn load(path: &Path) -> Result<Self, MockFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| MockFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// As [`Mocks::load`], of a text; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, MockFileError> {
        let document = serde_json::from_str(text).map_err(|source| MockFileError::Json {
            path: path.to_owned(),
            source,
        })?;
        parse::mocks(&document).map_err(|problem| MockFileError::Content {
            path: path.to_owned(),
            problem,
        })
    }

    /// The test case that an ARN names with `#TestCase`.
    pub fn find(&self, machine_name: &str, test_case: &str) -> Option<Arc<TestCase>> {
        self.machines.get(machine_name)?.get(test_case).cloned()
    }

    /// Machines and their test cases, in the order of their names.
    pub fn test_cases(&self) -> impl Iterator<Item = (&str, &str, &Arc<TestCase>)> {
        self.machines.iter().flat_map(|(machine, cases)| {
            let case = move |(name, case): (_, _)| (machine.as_str(), String::as_str(name), case);
            cases.iter().map(case)
        })
    }
}

impl TestCase {
    /// A test case of one answer per state, whatever the attempt.
    pub fn of(states: impl IntoIterator<Item = (String, Response)>) -> Self {
        let states = states.into_iter().map(|(name, response)| {
            let until = vec![(u64::MAX, response)];
            (name, Arc::new(Responses { until }))
        });
        Self {
            states: states.collect(),
        }
    }

    /// The same with the answers of another one, which win.
    pub fn with(&self, other: Self) -> Self {
        let mut states = self.states.clone();
        states.extend(other.states);
        Self { states }
    }

    /// What a state answers at an attempt, counted from 0; `None` for a state that is not mocked. An
    /// attempt beyond the last answer fails: a test that retries more often than its author thought
    /// must not call what it mocks.
    pub fn respond(&self, state_name: &str, attempt: u64) -> Option<Response> {
        let responses = self.states.get(state_name)?;
        let found = responses.until.iter().find(|(last, _)| attempt <= *last);
        Some(match found {
            Some((_, response)) => response.clone(),
            None => Response::Throw(Failure::new(
                names::RUNTIME,
                format!(
                    "No mocked response definition for state '{state_name}' and retry number \
                     '{attempt}'"
                ),
            )),
        })
    }

    /// The names of the states that it mocks.
    pub fn states(&self) -> impl Iterator<Item = &str> {
        self.states.keys().map(String::as_str)
    }
}
