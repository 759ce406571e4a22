//! Events about the status of executions, as AWS puts them on the default event bus.

use std::sync::Arc;
use std::time::Duration;

use clock::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::EventHook;
use super::queue::{Receiver, Weigh};
use crate::executions::{About, Status, Unsuccess};

/// `PutEvents` takes no more at once.
const AT_ONCE: usize = 10;
/// Waits before another try. Then the events are lost, and that is logged.
const RETRIES: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
];
/// Input and output are left out if they take more together, with their escapes.
const MAX_DATA_BYTES: usize = 248 * 1024;

/// Why events did not reach the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untold {
    /// Another try may go better.
    Unreachable(String),
    /// The bus does not want them.
    Refused(String),
}

/// A change of an execution's status, as an event of the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusChange {
    pub account: String,
    pub region: String,
    pub execution_arn: String,
    pub machine_arn: String,
    pub status: &'static str,
    pub at: Timestamp,
    /// The member `detail` of the event.
    pub detail: Value,
}

impl StatusChange {
    pub const SOURCE: &'static str = "aws.states";
    pub const DETAIL_TYPE: &'static str = "Step Functions Execution Status Change";

    pub(super) fn of(about: &About, status: &Status) -> Self {
        let (stop, output, error, cause) = match status {
            Status::Running | Status::PendingRedrive => (None, None, None, None),
            Status::Succeeded { output, stop } => {
                (Some(*stop), Some(output.to_string()), None, None)
            }
            Status::Failed {
                error, cause, stop, ..
            } => (Some(*stop), None, error.as_deref(), cause.as_deref()),
        };
        let input = &*about.input_text;
        let output_bytes = output.as_deref().map_or(0, escaped);
        let keep_output = output_bytes <= MAX_DATA_BYTES;
        let kept_bytes = if keep_output { output_bytes } else { 0 };
        let keep_input = escaped(input) + kept_bytes <= MAX_DATA_BYTES;
        let (redrivable, reason) = redrivable(about, status);
        let detail = json!({
            "executionArn": about.arn,
            "stateMachineArn": about.revision.machine_arn,
            "name": about.name,
            "status": status.name(),
            "startDate": about.start.as_millis(),
            "stopDate": stop.map(Timestamp::as_millis),
            "input": keep_input.then_some(input),
            "output": output.as_deref().filter(|_| keep_output),
            "stateMachineVersionArn": about.version_arn,
            "stateMachineAliasArn": about.alias_arn,
            "redriveCount": about.redrives,
            "redriveDate": about.redriven.map(Timestamp::as_millis),
            "redriveStatus": redrivable,
            "redriveStatusReason": reason,
            "inputDetails": {"included": keep_input},
            "outputDetails": output.as_ref().map(|_| json!({"included": keep_output})),
            "error": error,
            "cause": cause,
        });
        Self {
            account: about.account().to_owned(),
            region: about.region().to_owned(),
            execution_arn: about.arn.clone(),
            machine_arn: about.revision.machine_arn.clone(),
            status: status.name(),
            at: stop.unwrap_or(about.redriven.unwrap_or(about.start)),
            detail,
        }
    }

    /// The event as rules see it.
    pub fn event(&self) -> Value {
        json!({
            "version": "0",
            "id": Uuid::new_v4().to_string(),
            "detail-type": Self::DETAIL_TYPE,
            "source": Self::SOURCE,
            "account": self.account,
            "time": whole_seconds(self.at),
            "region": self.region,
            "resources": [self.execution_arn],
            "detail": self.detail,
        })
    }

    /// The event as an entry of `PutEvents`.
    pub fn entry(&self) -> Value {
        json!({
            "Time": self.at.as_secs(),
            "Source": Self::SOURCE,
            "Resources": [self.execution_arn],
            "DetailType": Self::DETAIL_TYPE,
            "Detail": self.detail.to_string(),
        })
    }
}

impl Weigh for Arc<StatusChange> {
    fn bytes(&self) -> usize {
        let text = |name: &str| self.detail[name].as_str().map_or(0, str::len);
        512 + 3 * self.execution_arn.len() + text("input") + text("output") + text("cause")
    }
}

/// Whether it can be taken up again, in AWS's words.
fn redrivable(about: &About, status: &Status) -> (&'static str, Option<String>) {
    let no = |why: &str| {
        (
            "NOT_REDRIVABLE",
            Some(format!("Execution is {why} and cannot be redriven")),
        )
    };
    match status {
        Status::Running => no("RUNNING"),
        Status::PendingRedrive => no("PENDING_REDRIVE"),
        Status::Succeeded { .. } => no("SUCCEEDED"),
        Status::Failed {
            how: Unsuccess::Failed | Unsuccess::TimedOut | Unsuccess::Aborted,
            ..
        } if about.map_run_arn.is_some() => ("REDRIVABLE_BY_MAP_RUN", None),
        Status::Failed { .. } => ("REDRIVABLE", None),
    }
}

fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_secs(at.as_secs())
        .to_string()
        .replace(".000", "")
}

/// How long a text is within JSON.
fn escaped(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
            0..=31 => 6,
            _ => 1,
        })
        .sum()
}

/// Hands events on until the queue ends.
pub(super) async fn run(mut queue: Receiver<Arc<StatusChange>>, hook: EventHook) {
    while let Some(taken) = queue.take(AT_ONCE).await {
        // A call is on behalf of one account in one region.
        let mut scopes: Vec<Vec<Arc<StatusChange>>> = Vec::new();
        for change in taken {
            let same = scopes.iter_mut().find(|scope| {
                scope[0].account == change.account && scope[0].region == change.region
            });
            match same {
                Some(scope) => scope.push(change),
                None => scopes.push(vec![change]),
            }
        }
        for scope in scopes {
            deliver(scope, &hook).await;
        }
    }
}

async fn deliver(changes: Vec<Arc<StatusChange>>, hook: &EventHook) {
    let mut pauses = RETRIES.into_iter();
    loop {
        let (error, pause) = match hook(changes.clone()).await {
            Ok(()) => return,
            Err(Untold::Unreachable(error)) => (error, pauses.next()),
            Err(Untold::Refused(error)) => (error, None),
        };
        let Some(pause) = pause else {
            let lost = changes.len();
            tracing::error!(error, lost, "lost events about the status of executions");
            return;
        };
        tokio::time::sleep(pause).await;
    }
}
