//! Running tasks.

mod apigateway;
mod bedrock;
mod connections;
mod executions;
mod http_task;
mod jobs;
mod lambda;
mod repeat;
mod service;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use asl::definition::{Pattern, Resource};
use asl::failure::{Failure, names};
use serde_json::Value;

use crate::support::{self, Integration};
use crate::{Call, Context, Integrations, Report, Update, catalog, wire};

/// A call that is being run.
struct Task<'a> {
    integrations: &'a Arc<Integrations>,
    call: &'a Call,
    context: Context,
    report: &'a Report,
}

/// How a call ended.
enum End {
    Done(Value),
    /// Somebody sends the token back.
    Waiting,
}

impl Integrations {
    /// Runs a task and reports what becomes of it: that it starts, what its call has answered if it
    /// is to wait for more, and its end. One that waits for its token ends without a report.
    ///
    /// Dropped while it waits for a job or an execution, it asks for that to be stopped, unless the
    /// server is ending.
    pub async fn run(self: &Arc<Self>, call: Call, report: Report) {
        report(Update::Started);
        self.begin(&call, &report, false).await;
    }

    /// Takes up a task that had started before the server last did. `submitted` is what its call
    /// had answered by then.
    ///
    /// A call that does the same when it is made twice is made again, and what was waited for is
    /// waited for again. Of any other it is not known whether it was made: it fails, and whether to
    /// try again is the workflow's decision.
    pub async fn resume(self: &Arc<Self>, call: Call, submitted: Option<Value>, report: Report) {
        match submitted {
            Some(_) if call.token.is_some() => {}
            Some(submitted) => {
                let task = Task::new(self, &call, &report);
                let ended = Box::pin(task.wait_on(submitted)).await;
                report_end(&report, ended.map(End::Done));
            }
            None if repeat::is_safe(&call) => self.begin(&call, &report, true).await,
            None => {
                let cause = "The server stopped while this task ran, and it is not known how far it \
                             came. A Retry for States.TaskFailed runs it again.";
                report(Update::Failed(Failure::new(names::TASK_FAILED, cause)));
            }
        }
    }

    async fn begin(self: &Arc<Self>, call: &Call, report: &Report, again: bool) {
        let task = Task::new(self, call, report);
        // Boxed: what runs a thousand tasks should not reserve room for the largest kind of each.
        let ended = Box::pin(task.perform(again)).await;
        report_end(report, ended);
    }
}

/// What is wrong with the parameters of a task, in AWS's words. Such a task fails before it is
/// scheduled.
pub fn invalid(resource: &Resource, parameters: &Value) -> Vec<String> {
    let Resource::Service {
        service, action, ..
    } = resource
    else {
        return Vec::new();
    };
    let found = match support::find(service, action) {
        Some(Integration::Sdk(entry, _, operation)) => {
            let interface = entry.interface();
            interface.map(|interface| wire::check(interface, operation, parameters))
        }
        Some(Integration::Optimised(known, _)) if known.name == "apigateway" => {
            apigateway::check(parameters).err()
        }
        Some(Integration::Optimised(known, action)) => {
            let own = ["bedrock", "elasticmapreduce", "http"].contains(&known.name);
            let entry = catalog::find(known.service).filter(|_| !own);
            entry.and_then(|entry| {
                let (_, operation) = entry.operation(action.name)?;
                Some(wire::check(entry.interface()?, operation, parameters))
            })
        }
        None => None,
    };
    let found = found.into_iter().flatten();
    found.map(|invalid| invalid.to_string()).collect()
}

fn report_end(report: &Report, ended: Result<End, Failure>) {
    match ended {
        Ok(End::Done(output)) => report(Update::Succeeded(output)),
        Ok(End::Waiting) => {}
        Err(failure) => report(Update::Failed(failure)),
    }
}

impl<'a> Task<'a> {
    fn new(integrations: &'a Arc<Integrations>, call: &'a Call, report: &'a Report) -> Self {
        let context = Context::of(call);
        Self {
            integrations,
            call,
            context,
            report,
        }
    }

    async fn perform(&self, again: bool) -> Result<End, Failure> {
        let (service, action, pattern) = match &self.call.resource {
            Resource::Lambda { arn } => return self.function(arn).await.map(End::Done),
            Resource::Activity { arn } => {
                let cause = format!("The activity {arn} is not for this part of the server");
                return Err(Failure::new(names::RUNTIME, cause));
            }
            Resource::Service {
                service,
                action,
                pattern,
            } => (service, action, *pattern),
        };
        let integration = support::find(service, action).ok_or_else(|| {
            let cause = format!("{service}:{action} is not a resource that tasks can have");
            Failure::new(names::RUNTIME, cause)
        })?;
        let answered = match integration {
            Integration::Sdk(entry, name, operation) => self.sdk(entry, (name, operation)).await?,
            Integration::Optimised(known, action) => match (known.name, action.name) {
                ("lambda", _) => self.invoke_function(known).await?,
                ("states", _) => self.start_execution(known, again).await?,
                ("http", _) => self.http().await?,
                ("apigateway", _) => self.invoke_api().await?,
                ("bedrock", "invokeModel") => self.invoke_model(known).await?,
                ("events", _) => self.put_events(known).await?,
                ("elasticmapreduce", _) => self.map_reduce(known, action).await?,
                _ => self.optimised(known, action.name).await?,
            },
        };
        match pattern {
            Pattern::RequestResponse => Ok(End::Done(answered)),
            Pattern::WaitForTaskToken => {
                (self.report)(Update::Submitted(answered));
                Ok(End::Waiting)
            }
            Pattern::Sync | Pattern::Sync2 => {
                (self.report)(Update::Submitted(answered.clone()));
                self.wait_on(answered).await.map(End::Done)
            }
        }
    }

    /// Waits for what a call has begun.
    async fn wait_on(&self, submitted: Value) -> Result<Value, Failure> {
        match &self.call.resource {
            Resource::Service {
                service, pattern, ..
            } if service == "states" => {
                let as_json = *pattern == Pattern::Sync2;
                self.await_execution(&submitted, as_json).await
            }
            Resource::Service {
                service, action, ..
            } => {
                self.await_job(service, support::bare(action), submitted)
                    .await
            }
            Resource::Lambda { .. } | Resource::Activity { .. } => Ok(submitted),
        }
    }
}
