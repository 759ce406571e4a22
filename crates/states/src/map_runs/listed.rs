//! Map runs as operations show and change them.

use asl::failure::Failure;
use clock::Timestamp;
use uuid::Uuid;

use super::limits::Limits;
use super::record::{self, How, Run};
use super::tally::Counts;
use super::{MapRuns, PAGE};
use crate::Error;
use crate::lock::lock;

/// A map run and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    pub arn: String,
    pub execution_arn: String,
    /// The machine that its children run.
    pub machine_arn: String,
    pub start: Timestamp,
    pub status: Status,
    pub limits: Limits,
    pub counts: Counts,
    pub redrives: u32,
    pub redriven: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Running,
    Succeeded(Timestamp),
    Failed(Timestamp),
    Aborted(Timestamp),
}

/// New values of limits; `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Change {
    pub max_concurrency: Option<u64>,
    pub tolerated_count: Option<u64>,
    pub tolerated_percentage: Option<f64>,
}

impl MapRuns {
    /// The run with this ARN.
    pub fn describe(&self, arn: &str) -> Result<Option<Described>, Error> {
        let Some(id) = id_of(arn) else {
            return Ok(None);
        };
        Ok(self.shown(id)?.filter(|described| described.arn == arn))
    }

    /// The runs of an execution, the first one first, each with its place in the list.
    pub fn list(
        &self,
        execution_arn: &str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Described)>, Error> {
        let prefix = record::line_prefix(execution_arn);
        let after = after.map(|after| [&prefix[..], after].concat());
        let keys = self
            .table
            .keys(&prefix, after.as_deref(), limit.min(PAGE + 1))?;
        let mut runs = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(id) = record::id_of(&key) else {
                continue;
            };
            if let Some(described) = self.shown(id)? {
                runs.push((key[prefix.len()..].to_vec(), described));
            }
        }
        Ok(runs)
    }

    /// Changes the limits of a run that has not ended; `false` if it has, or there is none.
    pub async fn update(&self, arn: &str, change: Change) -> Result<bool, Error> {
        let live = id_of(arn).and_then(|id| lock(&self.live).get(&id).cloned());
        let Some(live) = live.filter(|live| live.run().arn == arn) else {
            return Ok(false);
        };
        self.change(&live, |run| {
            let limits = &mut run.limits;
            if let Some(number) = change.max_concurrency {
                limits.max_concurrency = number;
            }
            if let Some(number) = change.tolerated_count {
                limits.tolerated_count = number;
            }
            if let Some(number) = change.tolerated_percentage {
                limits.tolerated_percentage = number;
            }
        })
        .await?;
        live.changed.notify_one();
        Ok(true)
    }

    fn shown(&self, id: Uuid) -> Result<Option<Described>, Error> {
        let live = lock(&self.live).get(&id).cloned();
        if let Some(live) = live {
            return Ok(Some(described(live.run().clone(), live.counts())));
        }
        let Some(run) = self.stored(id)? else {
            return Ok(None);
        };
        let counts = match &run.end {
            Some(end) => end.counts,
            // It begins in this moment.
            None => Counts::default(),
        };
        Ok(Some(described(run, counts)))
    }
}

fn described(run: Run, counts: Counts) -> Described {
    let status = match &run.end {
        None => Status::Running,
        Some(end) => {
            let stop = Timestamp::from_micros(end.stop);
            match &end.how {
                How::Succeeded(_) => Status::Succeeded(stop),
                How::Failed(Failure { .. }) => Status::Failed(stop),
                How::Aborted => Status::Aborted(stop),
            }
        }
    };
    Described {
        arn: run.arn,
        execution_arn: run.execution_arn,
        machine_arn: run.machine_arn,
        start: Timestamp::from_micros(run.start),
        status,
        limits: run.limits,
        counts,
        redrives: run.redrives,
        redriven: run.redriven.map(Timestamp::from_micros),
    }
}

fn id_of(arn: &str) -> Option<Uuid> {
    arn.rsplit_once(':')?.1.parse().ok()
}
