//! The children of a map run: what they are called, and how one is run.

use std::sync::Arc;

use asl::failure::Failure;
use clock::Timestamp;
use md5::{Digest as _, Md5};
use serde_json::Value;
use uuid::Uuid;

use super::live::Running;
use super::record::{Ended, Input, Outcome, Status};
use crate::Error;
use crate::executions::{self, Described, Executions, Start, Started, Unsuccess};
use crate::machines::{Kind, Revision, Target, arn};
use crate::writing::until_taken;

/// What all children of a run have in common.
#[derive(Debug)]
pub struct Children {
    pub executions: Arc<Executions>,
    pub revision: Arc<Revision>,
    pub id: Uuid,
    pub run_arn: String,
    pub express: bool,
    pub redrives: u32,
    pub trace_header: Option<String>,
    pub test_case: Option<String>,
}

/// A child that is to begin.
#[derive(Debug)]
pub struct Child {
    pub number: u64,
    pub input: Input,
    /// Set if it ended without success before: the attempt in which it began.
    pub again: Option<u32>,
}

/// A name that is always the same for the same things, as AWS makes those of children (version 3).
pub fn name_of(parts: &[&[u8]]) -> Uuid {
    let mut hash = Md5::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    uuid::Builder::from_md5_bytes(hash.finalize().into()).into_uuid()
}

impl Children {
    /// What a child is called that began in this attempt at the run.
    pub fn name(&self, child: u64, named: u32) -> Uuid {
        name_of(&[
            self.id.as_bytes(),
            &child.to_be_bytes(),
            &named.to_be_bytes(),
        ])
    }

    /// The attempt that a child's name has in it: standard ones are taken up where they failed, and
    /// stay what they are; express ones run again from the beginning.
    pub fn named(&self, again: Option<u32>) -> u32 {
        again.filter(|_| !self.express).unwrap_or(self.redrives)
    }

    pub fn arn(&self, child: u64, named: u32) -> String {
        let kind = match self.express {
            true => Kind::Express,
            false => Kind::Standard,
        };
        let name = self.name(child, named).to_string();
        arn::of_execution(&self.revision.machine_arn, kind, &name)
    }

    /// Runs a child to its end. One that runs already, or has ended, is not started again.
    pub async fn run(&self, child: Child) -> Result<Outcome, Error> {
        let input: Value =
            serde_json::from_str(&child.input.text).map_err(|source| Error::Record {
                what: "map run",
                source,
            })?;
        let start = Start {
            target: Target {
                revision: Arc::clone(&self.revision),
                version_arn: None,
                alias_arn: None,
                test_case: self.test_case.clone(),
            },
            name: Some(self.name(child.number, self.redrives).to_string()),
            input_text: child.input.text.into(),
            input: Arc::new(input),
            trace_header: self.trace_header.clone(),
            map_run_arn: Some(self.run_arn.clone()),
        };
        let (described, named) =
            until_taken(|| self.attempt(start.clone(), child.number, child.again)).await?;
        self.outcome(child.number, child.input.items, named, described)
    }

    /// Runs a child to its end, if the store takes it. Gives the attempt that its name has in it,
    /// too.
    async fn attempt(
        &self,
        start: Start,
        child: u64,
        again: Option<u32>,
    ) -> Result<(Described, u32), Error> {
        let described = match (self.express, again) {
            (true, _) => self.executions.run_express(start).await?,
            (false, None) => self.standard(start, child).await?,
            (false, Some(named)) => return self.again(start, child, named).await,
        };
        Ok((described, self.redrives))
    }

    /// Takes up a standard child where it failed; one that cannot be begins anew.
    async fn again(&self, start: Start, child: u64, named: u32) -> Result<(Described, u32), Error> {
        let arn = self.arn(child, named);
        match self.executions.redrive(&arn, None).await {
            Ok(_) => {}
            // It may have been taken up before a restart.
            Err(Error::Refused { .. }) => match self.executions.describe(&arn)? {
                Some(found) if matches!(found.status, executions::Status::Failed { .. }) => {
                    let described = self.standard(start, child).await?;
                    return Ok((described, self.redrives));
                }
                Some(_) => {}
                None => return Err(lost()),
            },
            Err(err) => return Err(err),
        }
        let described = self.executions.ended(&arn).await?.ok_or_else(lost)?;
        Ok((described, named))
    }

    async fn standard(&self, start: Start, child: u64) -> Result<Described, Error> {
        let arn = match self.executions.start(start).await {
            Ok(Started {
                ended: Some(ended), ..
            }) => return Ok(ended),
            Ok(Started { arn, .. }) => arn,
            // It was started before a restart, and may have ended.
            Err(Error::Refused { .. }) => self.arn(child, self.redrives),
            Err(err) => return Err(err),
        };
        self.executions.ended(&arn).await?.ok_or_else(lost)
    }

    /// Stops a child that runs; gives how it ended, which may be otherwise.
    pub async fn stop(&self, child: u64, running: Running) -> Result<Outcome, Error> {
        let Running { items, named } = running;
        if !self.express {
            let arn = self.arn(child, named);
            let nothing = Failure {
                error: None,
                cause: None,
            };
            self.executions.stop(&arn, nothing).await?;
            if let Some(described) = self.executions.describe(&arn)? {
                return self.outcome(child, items, named, described);
            }
        }
        let now = self.executions.clock().now().as_micros();
        Ok(Outcome {
            child,
            items,
            redrives: self.redrives,
            named,
            start: now,
            stop: now,
            how: Ended::Failed {
                status: Status::Aborted,
                error: None,
                cause: None,
            },
        })
    }

    /// Whether a child runs, as far as its own record says.
    pub fn runs(&self, child: u64, named: u32) -> Result<Option<bool>, Error> {
        let described = self.executions.describe(&self.arn(child, named))?;
        Ok(described.map(|described| described.status == executions::Status::Running))
    }

    fn outcome(
        &self,
        child: u64,
        items: u32,
        named: u32,
        described: Described,
    ) -> Result<Outcome, Error> {
        let (how, stop) = match described.status {
            executions::Status::Succeeded { output, stop } => {
                let output = output.to_string();
                (Ended::Succeeded { output }, stop)
            }
            executions::Status::Failed {
                how,
                error,
                cause,
                stop,
            } => {
                let status = match how {
                    Unsuccess::Failed => Status::Failed,
                    Unsuccess::TimedOut => Status::TimedOut,
                    Unsuccess::Aborted => Status::Aborted,
                };
                let how = Ended::Failed {
                    status,
                    error,
                    cause,
                };
                (how, stop)
            }
            executions::Status::Running | executions::Status::PendingRedrive => return Err(lost()),
        };
        Ok(Outcome {
            child,
            items,
            redrives: self.redrives,
            named,
            start: Timestamp::as_micros(described.about.start),
            stop: stop.as_micros(),
            how,
        })
    }
}

fn lost() -> Error {
    Error::Record {
        what: "child of a map run",
        source: serde::de::Error::custom("it should have ended"),
    }
}
