//! Taking up executions that have failed.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html>

use std::sync::Arc;
use std::time::Duration;

use asl::machine::Input;
use clock::Timestamp;
use model::stepfunctions::error;
use store::Expect;

use super::drive::chance;
use super::record::{self, Head};
use super::{Executions, Status};
use crate::Error;
use crate::aside::turn;

/// After this time an execution cannot be taken up any more.
const REDRIVABLE_FOR: Duration = Duration::from_secs(14 * 24 * 3600);

impl Executions {
    /// Takes up an execution where it failed. `token` names the request: the same one twice is one.
    /// Gives when it was taken up; `None` if there is no such execution.
    pub async fn redrive(
        self: &Arc<Self>,
        arn: &str,
        token: Option<String>,
    ) -> Result<Option<Timestamp>, Error> {
        let Some(stored) = self.table.get(record::head_key(arn))? else {
            return Ok(None);
        };
        let head: Head = record::decode(&stored.value)?;
        if let (Some(at), None, true) = (head.redriven, &head.end, token.is_some())
            && head.redrive_token == token
        {
            return Ok(Some(Timestamp::from_micros(at)));
        }
        self.check_redrivable(&head)?;
        let number = head.number;
        let now = self.clock.now();
        let mut about = self.about(arn, head)?;
        about.redrives += 1;
        about.redriven = Some(now);
        about.redrive_token = token;
        let about = Arc::new(about);
        let turn = turn(&about.revision.definition).await;
        let live = Arc::new(self.replayed(number, Arc::clone(&about))?);
        let made = {
            let mut state = live.state();
            state.driven = true;
            state.begins = Some(Expect::Revision(stored.revision));
            state.inputs.push_back((Input::Redrive, None));
            live.turn(&mut state, now, &self.missing(&about), chance)?
        };
        drop(turn);
        if made.batch.is_empty() {
            return Err(refused("it did not stop where it could be taken up"));
        }
        self.begin_running(live, made).await.map_err(|err| {
            match err {
                // Somebody has been faster.
                Error::Store(store::Error::Conflict { .. }) => {
                    refused("Execution is RUNNING and cannot be redriven")
                }
                err => err,
            }
        })?;
        Ok(Some(now))
    }

    fn check_redrivable(&self, head: &Head) -> Result<(), Error> {
        let status = super::status_of(head.end.as_ref());
        let stop = match &status {
            Status::Failed { stop, .. } => *stop,
            status => {
                let name = status.name();
                return Err(refused(&format!(
                    "Execution is {name} and cannot be redriven"
                )));
            }
        };
        if self.clock.now() > stop + REDRIVABLE_FOR {
            return Err(refused(
                "Execution was started before the redrivable period of 14 days",
            ));
        }
        Ok(())
    }
}

fn refused(reason: &str) -> Error {
    Error::refused(&error::EXECUTION_NOT_REDRIVABLE, reason)
}
