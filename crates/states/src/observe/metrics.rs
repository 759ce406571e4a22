//! What is measured of executions, under AWS's names.
//!
//! Only counts are kept of tasks: how long each took would need the moments of its earlier events,
//! which are on disk by then.

use asl::history::{EventKind, HistoryEvent, TaskEvent, TaskKind};
use clock::Timestamp;

use super::MetricHook;
use crate::executions::{About, Status, Unsuccess};
use crate::machines::Kind;

/// Express executions are billed by this much.
const BILLED_MS: f64 = 100.0;

/// A metric of the namespace `AWS/States`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metric(&'static str, Unit);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    Count,
    Milliseconds,
}

impl Metric {
    pub const NAMESPACE: &'static str = "AWS/States";
    pub const EXECUTION_TIME: Self = Self("ExecutionTime", Unit::Milliseconds);

    const fn count(name: &'static str) -> Self {
        Self(name, Unit::Count)
    }

    pub const fn name(self) -> &'static str {
        self.0
    }

    pub const fn unit(self) -> Unit {
        self.1
    }
}

/// Values that were measured at once.
#[derive(Debug)]
pub struct Measured<'a> {
    pub account: &'a str,
    pub region: &'a str,
    /// What they were measured of: the name and the value of the dimension.
    pub of: (&'static str, &'a str),
    /// The version or alias that was started; the values count there as well.
    pub under: Option<(&'static str, &'a str)>,
    pub at: Timestamp,
    pub values: &'a [(Metric, f64)],
}

pub(super) fn of_execution(about: &About, status: &Status, hook: &MetricHook) {
    let redriven = about.redrives > 0;
    let mut values = [(Metric::count(""), 1.0); 4];
    let mut len = 0;
    let mut add = |metric: Metric, value: f64| {
        values[len] = (metric, value);
        len += 1;
    };
    let mut ended = |stop: Timestamp, name: &'static str, again: &'static str| {
        add(Metric::count(name), 1.0);
        let took = stop.duration_since(about.start).as_secs_f64() * 1000.0;
        add(Metric::EXECUTION_TIME, took);
        if about.revision.kind == Kind::Express {
            let billed = (took / BILLED_MS).ceil().max(1.0) * BILLED_MS;
            add(
                Metric("ExpressExecutionBilledDuration", Unit::Milliseconds),
                billed,
            );
        }
        if redriven {
            add(Metric::count(again), 1.0);
        }
        stop
    };
    let at = match status {
        Status::Running if redriven => {
            add(Metric::count("ExecutionsRedriven"), 1.0);
            about.redriven.unwrap_or(about.start)
        }
        Status::Running => {
            add(Metric::count("ExecutionsStarted"), 1.0);
            about.start
        }
        Status::PendingRedrive => return,
        Status::Succeeded { stop, .. } => {
            ended(*stop, "ExecutionsSucceeded", "RedrivenExecutionsSucceeded")
        }
        Status::Failed { how, stop, .. } => match how {
            Unsuccess::Failed => ended(*stop, "ExecutionsFailed", "RedrivenExecutionsFailed"),
            Unsuccess::TimedOut => ended(*stop, "ExecutionsTimedOut", "RedrivenExecutionsTimedOut"),
            Unsuccess::Aborted => ended(*stop, "ExecutionsAborted", "RedrivenExecutionsAborted"),
        },
    };
    let last = |arn: &'_ Option<String>| -> Option<usize> { arn.as_ref()?.rfind(':') };
    let under = match (&about.alias_arn, &about.version_arn) {
        (Some(alias), _) => last(&about.alias_arn).map(|colon| ("Alias", &alias[colon + 1..])),
        (None, Some(version)) => {
            last(&about.version_arn).map(|colon| ("Version", &version[colon + 1..]))
        }
        (None, None) => None,
    };
    hook(&Measured {
        account: about.account(),
        region: about.region(),
        of: ("StateMachineArn", &about.revision.machine_arn),
        under,
        at,
        values: &values[..len],
    });
}

pub(super) fn of_tasks(about: &About, events: &[HistoryEvent], hook: &MetricHook) {
    for event in events {
        let EventKind::Task { task, event: what } = &event.kind else {
            continue;
        };
        let Some(name) = counted(task, what) else {
            continue;
        };
        let tell = |dimension, arn: &str| {
            hook(&Measured {
                account: about.account(),
                region: about.region(),
                of: (dimension, arn),
                under: None,
                at: Timestamp::from_millis(event.at_ms),
                values: &[(Metric::count(name), 1.0)],
            });
        };
        match task {
            TaskKind::Lambda { arn } => tell("LambdaFunctionArn", arn),
            TaskKind::Activity { arn } => tell("ActivityArn", arn),
            TaskKind::Service { service, action } => tell(
                "ServiceIntegrationResourceArn",
                &format!("arn:aws:states:::{service}:{action}"),
            ),
        }
    }
}

fn counted(task: &TaskKind, event: &TaskEvent) -> Option<&'static str> {
    let of_kind = |function, activity, service| match task {
        TaskKind::Lambda { .. } => function,
        TaskKind::Activity { .. } => activity,
        TaskKind::Service { .. } => service,
    };
    Some(match event {
        TaskEvent::Scheduled { .. } => of_kind(
            "LambdaFunctionsScheduled",
            "ActivitiesScheduled",
            "ServiceIntegrationsScheduled",
        ),
        TaskEvent::Started { .. } => of_kind(
            "LambdaFunctionsStarted",
            "ActivitiesStarted",
            "ServiceIntegrationsStarted",
        ),
        TaskEvent::Succeeded { .. } => of_kind(
            "LambdaFunctionsSucceeded",
            "ActivitiesSucceeded",
            "ServiceIntegrationsSucceeded",
        ),
        TaskEvent::Failed(_) => of_kind(
            "LambdaFunctionsFailed",
            "ActivitiesFailed",
            "ServiceIntegrationsFailed",
        ),
        TaskEvent::TimedOut(failure) => {
            let heartbeat = failure.error.as_deref() == Some("States.HeartbeatTimeout");
            match task {
                TaskKind::Activity { .. } if heartbeat => "ActivitiesHeartbeatTimedOut",
                _ => of_kind(
                    "LambdaFunctionsTimedOut",
                    "ActivitiesTimedOut",
                    "ServiceIntegrationsTimedOut",
                ),
            }
        }
        TaskEvent::Submitted { .. } => return None,
    })
}
