//! Evaluating in another process, which has a memory limit.
//!
//! The library bounds time and depth, and not memory: an expression may ask for gigabytes at once,
//! and an allocation that fails ends the process. So an expression that is not known to stay small
//! ([`super::cost`]) is written down with its data and goes to somebody who has processes for that.
//! This module says what is written; it starts none, and reads no socket.
//!
//! Who that is, is said once per process, not passed to every evaluation: an evaluation that was
//! handed nobody would quietly run where it can do harm, and there are as many ways to an evaluation
//! as there are fields of states. Where nobody is named, as in a library's tests, everything is
//! evaluated where it stands.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jsonata_core::ast::AstNode;
use jsonata_core::parser;

use super::data::{self, Bound, Reader};
use super::run::{Given, Panicked, Refusal, guarded, run};

/// Sends a request to another process, and gives its answer. The answer may take as long as is said,
/// waiting for a process included.
pub type Elsewhere = dyn Fn(&[u8], Duration) -> Result<Vec<u8>, Lost> + Send + Sync;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error("the process has asked for more memory than it may have")]
    Memory,
    #[error("there is no answer in time")]
    Time,
    #[error("the process has ended")]
    Process,
}

static ELSEWHERE: OnceLock<Box<Elsewhere>> = OnceLock::new();

/// Lets whatever is not known to stay small be evaluated by this. To be called when the program
/// starts; a second call changes nothing.
pub fn evaluate_with(elsewhere: Box<Elsewhere>) {
    // The first one stays.
    let _ = ELSEWHERE.set(elsewhere);
}

pub(super) fn elsewhere() -> Option<&'static Elsewhere> {
    ELSEWHERE.get().map(|elsewhere| &**elsewhere)
}

pub(super) struct Request<'a> {
    pub source: &'a str,
    pub bindings: &'a [(&'a str, Bound<'a>)],
    pub seed: u64,
    pub now_ms: i64,
    pub limit: Duration,
}

impl Request<'_> {
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        data::write_text(self.source, &mut bytes);
        bytes.extend(self.seed.to_be_bytes());
        bytes.extend(self.now_ms.to_be_bytes());
        let limit_ms = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX);
        bytes.extend(limit_ms.to_be_bytes());
        data::write_length(self.bindings.len(), &mut bytes);
        for (name, value) in self.bindings {
            data::write_text(name, &mut bytes);
            value.write(&mut bytes);
        }
        bytes
    }
}

fn read<'a>(reader: &mut Reader<'a>) -> Option<(&'a str, Given)> {
    let source = reader.text()?;
    let seed = reader.number()?;
    let now_ms = reader.number()?.cast_signed();
    let limit = Duration::from_millis(reader.number()?);
    let length = reader.length()?;
    let bindings = (0..length).map(|_| Some((reader.text()?.to_owned(), reader.value()?)));
    let bindings = bindings.collect::<Option<_>>()?;
    let given = Given {
        bindings,
        seed,
        now_ms,
        limit,
    };
    Some((source, given))
}

const VALUE: u8 = 0;
const BECAUSE: u8 = 1;
const TOO_LARGE: u8 = 2;
const TOO_LONG: u8 = 3;

fn write_answer(answer: &Result<String, Refusal>) -> Vec<u8> {
    let (kind, text) = match answer {
        Ok(text) => (VALUE, text.as_str()),
        Err(Refusal::Because(reason)) => (BECAUSE, reason.as_str()),
        Err(Refusal::TooLarge) => (TOO_LARGE, ""),
        Err(Refusal::TooLong) => (TOO_LONG, ""),
    };
    let mut bytes = Vec::with_capacity(1 + text.len());
    bytes.push(kind);
    bytes.extend(text.as_bytes());
    bytes
}

/// The value of an answer, as JSON; `None` for what is no answer.
pub(super) fn read_answer(bytes: Vec<u8>) -> Option<Result<String, Refusal>> {
    let mut text = bytes;
    let kind = *text.first()?;
    text.remove(0);
    let text = String::from_utf8(text).ok()?;
    Some(match kind {
        VALUE => Ok(text),
        BECAUSE => Err(Refusal::Because(text)),
        TOO_LARGE => Err(Refusal::TooLarge),
        TOO_LONG => Err(Refusal::TooLong),
        _ => return None,
    })
}

/// As many expressions are kept parsed, and as many bytes of their texts.
const MAX_KEPT: usize = 256;
const MAX_KEPT_BYTES: usize = 1 << 20;

/// The other side: evaluates what requests say, and keeps the expressions that it has parsed.
#[derive(Debug, Default)]
pub struct Evaluators {
    trees: HashMap<Box<str>, Kept>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    tree: Arc<AstNode>,
    used: u64,
}

impl Evaluators {
    pub fn new() -> Self {
        Self::default()
    }

    /// The answer to a request.
    pub fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        let unread = || Refusal::Because("could not be read.".to_owned());
        let answer = read(&mut Reader(request))
            .ok_or_else(unread)
            .and_then(|(source, given)| {
                let tree = self.tree(source).ok_or_else(unread)?;
                run(&tree, source, given)
            });
        write_answer(&answer)
    }

    fn tree(&mut self, source: &str) -> Option<Arc<AstNode>> {
        self.uses += 1;
        if let Some(kept) = self.trees.get_mut(source) {
            kept.used = self.uses;
            return Some(Arc::clone(&kept.tree));
        }
        let parsed = guarded(|| parser::parse(source)).map_err(|Panicked| ());
        let tree = Arc::new(parsed.ok()?.ok()?);
        self.bytes += source.len();
        while !self.trees.is_empty()
            && (self.trees.len() >= MAX_KEPT || self.bytes > MAX_KEPT_BYTES)
        {
            self.forget_oldest();
        }
        let kept = Kept {
            tree: Arc::clone(&tree),
            used: self.uses,
        };
        self.trees.insert(source.into(), kept);
        Some(tree)
    }

    fn forget_oldest(&mut self) {
        let oldest = self.trees.iter().min_by_key(|(_, kept)| kept.used);
        if let Some(source) = oldest.map(|(source, _)| source.clone()) {
            self.trees.remove(&source);
            self.bytes -= source.len();
        }
    }
}
