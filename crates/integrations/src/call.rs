//! One task, and what becomes of it.

use std::sync::Arc;

use asl::definition::Resource;
use asl::failure::Failure;
use model::{AccountId, Region};
use serde_json::Value;

/// A task to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Names this run of this task, also after a restart: what is called with it is called once.
    pub id: String,
    pub account: AccountId,
    pub region: Region,
    pub machine_arn: String,
    pub execution_arn: String,
    /// The role of the machine.
    pub role_arn: String,
    /// The role that the task is to be run with instead.
    pub task_role_arn: Option<String>,
    pub resource: Resource,
    pub input: Arc<Value>,
    /// What is to be sent back, where the task waits for that.
    pub token: Option<String>,
    pub timeout_seconds: Option<u64>,
    pub trace_header: Option<String>,
}

/// What has become of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// The call is about to be made.
    Started,
    /// The call of a `.sync` or `.waitForTaskToken` task has answered.
    Submitted(Value),
    /// It is over.
    Succeeded(Value),
    /// It is over.
    Failed(Failure),
}

/// Takes what becomes of a task.
pub type Report = Arc<dyn Fn(Update) + Send + Sync>;

/// On whose behalf a service is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    pub account: AccountId,
    pub region: Region,
    /// The role that the request is made with.
    pub role_arn: String,
    /// Names the session of the role.
    pub session: String,
    pub trace_header: Option<String>,
}

impl Context {
    /// The context of a task: its own role, in the account of that role, else the machine's.
    pub fn of(call: &Call) -> Self {
        let own = call.task_role_arn.as_deref();
        let role = own.unwrap_or(&call.role_arn);
        // A machine's role counts as one of its account, whatever its ARN says.
        let account = own.and_then(|role| role.split(':').nth(4)?.parse().ok());
        let session = call.execution_arn.rsplit(':').next().unwrap_or_default();
        Self {
            account: account.unwrap_or(call.account),
            region: call.region.clone(),
            role_arn: role.to_owned(),
            // Names of sessions are shorter than those of executions.
            session: session.chars().take(64).collect(),
            trace_header: call.trace_header.clone(),
        }
    }
}
