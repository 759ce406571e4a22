//! Outcomes and inputs, read back from the disk a part at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use clock::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::super::children::Children;
use super::super::live::{Halt, Live};
use super::super::marks::Marks;
use super::super::record::{self, Chunk, Ended, Outcome};
use super::super::{MapRuns, PAGE};

/// Chunks of inputs that are kept in memory: children end about in the order in which they began.
const MAX_CHUNKS: usize = 16;

/// What is stored of a run.
pub struct Stored<'a> {
    runs: &'a MapRuns,
    live: &'a Live,
    children: &'a Children,
    /// The first child of each chunk.
    firsts: Vec<u64>,
    chunks: BTreeMap<u64, Arc<Chunk>>,
}

/// Which outcome of a child counts.
#[derive(Debug, Default)]
pub struct Latest {
    succeeded: Marks,
    /// The last attempt of those that have not succeeded.
    failed: HashMap<u64, u32>,
}

impl Latest {
    pub fn is(&self, outcome: &Outcome) -> bool {
        match outcome.how {
            Ended::Succeeded { .. } => true,
            Ended::Failed { .. } => {
                !self.succeeded.has(outcome.child)
                    && self.failed.get(&outcome.child) == Some(&outcome.redrives)
            }
        }
    }

    fn has(&self, child: u64) -> bool {
        self.succeeded.has(child) || self.failed.contains_key(&child)
    }
}

/// Everything that is known of a child, in AWS's order.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Whole<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    execution_arn: String,
    input: &'a str,
    input_details: Included,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_details: Option<Included>,
    redrive_count: u32,
    redrive_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    redrive_status_reason: Option<&'static str>,
    start_date: String,
    state_machine_arn: &'a str,
    status: &'static str,
    stop_date: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Included {
    included: bool,
}

const INCLUDED: Included = Included { included: true };

impl<'a> Stored<'a> {
    pub fn open(runs: &'a MapRuns, live: &'a Live, children: &'a Children) -> Result<Self, Halt> {
        let prefix = record::key(record::CHUNKS, live.id);
        let mut firsts = Vec::new();
        let mut after: Option<Bytes> = None;
        loop {
            let keys = runs.table.keys(&prefix, after.as_deref(), PAGE)?;
            firsts.extend(keys.iter().filter_map(|key| record::number_of(key)));
            if keys.len() < PAGE {
                break;
            }
            after = keys.last().cloned();
        }
        Ok(Self {
            runs,
            live,
            children,
            firsts,
            chunks: BTreeMap::new(),
        })
    }

    /// Reads all outcomes once, to know which of them count.
    pub fn latest(&self) -> Result<Latest, Halt> {
        let mut latest = Latest::default();
        let mut after = None;
        while let Some(outcomes) = self.next(&mut after)? {
            for outcome in outcomes {
                match outcome.how {
                    Ended::Succeeded { .. } => {
                        latest.succeeded.add(outcome.child);
                    }
                    Ended::Failed { .. } => {
                        let last = latest.failed.entry(outcome.child).or_default();
                        *last = outcome.redrives.max(*last);
                    }
                }
            }
        }
        let succeeded = &latest.succeeded;
        latest.failed.retain(|child, _| !succeeded.has(*child));
        Ok(latest)
    }

    /// The outcomes of the next record; `None` at the end.
    pub fn next(&self, after: &mut Option<Bytes>) -> Result<Option<Vec<Outcome>>, Halt> {
        let prefix = record::key(record::OUTCOMES, self.live.id);
        let found = self.runs.table.scan(&prefix, after.as_deref(), 1)?;
        let Some(stored) = found.into_iter().next() else {
            return Ok(None);
        };
        let outcomes = record::decode_outcomes(&stored.value)?;
        *after = Some(stored.key);
        Ok(Some(outcomes))
    }

    /// Children of the next chunk that never ran, as JSON texts; `None` at the end.
    pub fn next_pending(
        &mut self,
        after: &mut Option<usize>,
        latest: &Latest,
    ) -> Result<Option<Vec<String>>, Halt> {
        let index = after.map_or(0, |index| index + 1);
        let Some(&first) = self.firsts.get(index) else {
            return Ok(None);
        };
        *after = Some(index);
        let chunk = self.chunk(first)?;
        let pending = chunk.inputs.iter().zip(first..);
        let pending = pending.filter(|(_, child)| !latest.has(*child));
        let shown = pending.map(|(input, child)| {
            json!({
                "ExecutionArn": self.children.arn(child, self.children.redrives),
                "Input": input.text,
                "InputDetails": {"Included": true},
                "Name": self.children.name(child, self.children.redrives).to_string(),
                "StateMachineArn": self.children.revision.machine_arn,
                "Status": "PENDING",
            })
            .to_string()
        });
        Ok(Some(shown.collect()))
    }

    /// A child with its input, as JSON text.
    pub fn whole(&mut self, outcome: &Outcome) -> Result<String, Halt> {
        let at = self.firsts.partition_point(|first| *first <= outcome.child);
        let first = at.checked_sub(1).map_or(0, |index| self.firsts[index]);
        let chunk = self.chunk(first)?;
        let index = usize::try_from(outcome.child - first).unwrap_or(usize::MAX);
        let input = chunk.inputs.get(index).map_or("", |input| &input.text);
        let mut whole = Whole {
            cause: None,
            error: None,
            execution_arn: self.children.arn(outcome.child, outcome.named),
            input,
            input_details: INCLUDED,
            name: self.children.name(outcome.child, outcome.named).to_string(),
            output: None,
            output_details: None,
            redrive_count: outcome.redrives - outcome.named.min(outcome.redrives),
            redrive_status: "NOT_REDRIVABLE",
            redrive_status_reason: None,
            start_date: moment(outcome.start),
            state_machine_arn: &self.children.revision.machine_arn,
            status: "SUCCEEDED",
            stop_date: moment(outcome.stop),
        };
        match &outcome.how {
            Ended::Succeeded { output } => {
                whole.output = Some(output);
                whole.output_details = Some(INCLUDED);
                whole.redrive_status_reason = Some("Execution is SUCCEEDED and cannot be redriven");
            }
            Ended::Failed {
                status,
                error,
                cause,
            } => {
                whole.error = error.as_deref();
                whole.cause = cause.as_deref();
                whole.redrive_status = "REDRIVABLE_BY_MAP_RUN";
                whole.status = status.name();
            }
        }
        serde_json::to_string(&whole).map_err(|source| {
            Halt::Error(crate::Error::Record {
                what: "map run",
                source,
            })
        })
    }

    fn chunk(&mut self, first: u64) -> Result<Arc<Chunk>, Halt> {
        if let Some(chunk) = self.chunks.get(&first) {
            return Ok(Arc::clone(chunk));
        }
        let key = record::numbered(record::CHUNKS, self.live.id, first);
        let chunk = match self.runs.table.get(key)? {
            Some(stored) => Arc::new(Chunk::decode(&stored.value)?),
            None => Arc::default(),
        };
        if self.chunks.len() >= MAX_CHUNKS {
            self.chunks.pop_first();
        }
        self.chunks.insert(first, Arc::clone(&chunk));
        Ok(chunk)
    }
}

fn moment(micros: i64) -> String {
    let ms = Timestamp::from_micros(micros).as_millis();
    asl::machine::moment(ms)
}
