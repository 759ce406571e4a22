//! The lines that the platform itself writes into a function's log.
//!
//! Text follows what CloudWatch shows, byte for byte. JSON follows the
//! [Telemetry API schema](https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html)
//! and the
//! [system log levels](https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html)
//! of the events.

use std::fmt::Write as _;
use std::time::Duration;

use clock::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::extensions::Standing;
use crate::telemetry::Notice;
use crate::{Function, LogFormat, Report};

/// Writes the platform's lines in the format and from the level that a function asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer {
    format: LogFormat,
    threshold: Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Debug,
    Info,
    Warn,
}

/// How an init phase or an invocation went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Success,
    /// The runtime reported an error: to the platform the invocation went well.
    FunctionError(Option<String>),
    /// The runtime broke, with this error type.
    Error(String),
    Timeout,
}

/// What an init ran for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// An invocation, ahead of it.
    Init,
    /// The same inside it, after the first had failed.
    Invoke,
    /// Invocations that may come, in a provisioned environment.
    Provisioned,
    /// A snapshot.
    Snapshot,
}

/// What END and REPORT tell of an invocation.
#[derive(Debug)]
pub(crate) struct Finished<'a> {
    pub request_id: &'a str,
    pub status: &'a Status,
    /// The message of a broken runtime or of a timeout.
    pub message: Option<&'a str>,
    pub report: &'a Report,
    pub memory_mb: u32,
    /// Trace and segment, if the invocation was sampled.
    pub trace: Option<(&'a str, &'a str)>,
    pub details: Details<'a>,
}

/// What is measured only in environments with extensions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Details<'a> {
    pub produced_bytes: Option<usize>,
    /// Of the runtime.
    pub spans: &'a [Span],
    /// Of the extensions.
    pub after: &'a [Span],
}

/// A part of an invocation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Span {
    pub name: &'static str,
    pub start: String,
    pub duration_ms: f64,
}

impl Span {
    pub fn new(name: &'static str, start: Timestamp, duration: Duration) -> Self {
        Self {
            name,
            start: start.to_string(),
            duration_ms: millis_f64(duration),
        }
    }
}

impl Writer {
    pub fn of(function: &Function) -> Self {
        let threshold = match function.system_log_level.as_deref() {
            Some("DEBUG") => Level::Debug,
            Some("WARN") => Level::Warn,
            _ => Level::Info,
        };
        Self {
            format: function.log_format,
            threshold,
        }
    }

    pub fn init_start(
        &self,
        now: Timestamp,
        phase: Phase,
        function: &Function,
        versions: &Versions,
    ) -> Option<String> {
        match self.format {
            LogFormat::Text => Some(format!(
                "INIT_START Runtime Version: {}\tRuntime Version ARN: {}\n",
                versions.runtime, versions.arn
            )),
            LogFormat::Json => self.json(
                Level::Info,
                now,
                "platform.initStart",
                init_start_record(phase, function, versions),
            ),
        }
    }

    /// The runtime has come up, or failed to; extensions may still be at it. Text does not tell.
    pub fn init_runtime_done(
        &self,
        now: Timestamp,
        phase: Phase,
        status: &Status,
    ) -> Option<String> {
        match self.format {
            LogFormat::Text => None,
            LogFormat::Json => {
                let (level, record) = init_runtime_done(phase, status);
                self.json(level, now, "platform.initRuntimeDone", record)
            }
        }
    }

    /// Where an extension stands at the end of the init phase.
    pub fn extension(&self, now: Timestamp, standing: &Standing) -> Option<String> {
        match self.format {
            LogFormat::Text => {
                let mut line = format!(
                    "EXTENSION\tName: {}\tState: {}\tEvents: [{}]",
                    standing.name,
                    standing.state,
                    standing.events.join(", ")
                );
                if let Some(error_type) = &standing.error_type {
                    // Writing to a String cannot fail.
                    let _ = write!(line, "\tError Type: {error_type}");
                }
                line.push('\n');
                Some(line)
            }
            LogFormat::Json => {
                let level = if standing.error_type.is_none() {
                    Level::Info
                } else {
                    Level::Warn
                };
                self.json(level, now, "platform.extension", extension_record(standing))
            }
        }
    }

    /// That an extension has subscribed to telemetry.
    pub fn subscription(&self, now: Timestamp, notice: &Notice) -> Option<String> {
        match self.format {
            LogFormat::Text => {
                let types: Vec<_> = notice.categories.iter().map(|kind| kind.title()).collect();
                Some(format!(
                    "{}\tName: {}\tState: Subscribed\tTypes: [{}]\n",
                    notice.api.title(),
                    notice.extension,
                    types.join(", ")
                ))
            }
            LogFormat::Json => self.json(Level::Info, now, notice.api.event(), notice.record()),
        }
    }

    /// A good init is part of REPORT and has no line of its own, unless it was for a snapshot.
    pub fn init_report(
        &self,
        now: Timestamp,
        duration: Duration,
        phase: Phase,
        status: &Status,
    ) -> Option<String> {
        match self.format {
            LogFormat::Text => {
                if phase != Phase::Snapshot && status.words().is_none() {
                    return None;
                }
                let mut line = format!(
                    "INIT_REPORT Init Duration: {} ms\tPhase: {}",
                    millis(duration),
                    phase.as_str(),
                );
                status.append_to(&mut line);
                Some(line)
            }
            LogFormat::Json => {
                let mut record = json!({
                    "initializationType": phase.initialization_type(),
                    "phase": phase.as_str(),
                    "metrics": {"durationMs": millis_f64(duration)},
                });
                let good = match phase {
                    Phase::Init | Phase::Invoke | Phase::Provisioned => Level::Debug,
                    Phase::Snapshot => Level::Info,
                };
                let level = status.put_into(&mut record, good);
                self.json(level, now, "platform.initReport", record)
            }
        }
    }

    pub fn restore_start(
        &self,
        now: Timestamp,
        function: &Function,
        versions: &Versions,
    ) -> Option<String> {
        match self.format {
            LogFormat::Text => Some(format!(
                "RESTORE_START Runtime Version: {}\tRuntime Version ARN: {}\n",
                versions.runtime, versions.arn
            )),
            LogFormat::Json => self.json(
                Level::Info,
                now,
                "platform.restoreStart",
                json!({
                    "runtimeVersion": versions.runtime,
                    "runtimeVersionArn": versions.arn,
                    "functionName": function.name,
                    "functionVersion": function.version,
                }),
            ),
        }
    }

    /// The lines that end a restore phase, in order.
    pub fn restore_report(
        &self,
        now: Timestamp,
        duration: Duration,
        status: &Status,
        mut emit: impl FnMut(String),
    ) {
        match self.format {
            LogFormat::Text => {
                let mut line = format!("RESTORE_REPORT Restore Duration: {} ms", millis(duration));
                status.append_to(&mut line);
                emit(line);
            }
            LogFormat::Json => {
                let mut record = json!({});
                let level = status.put_into(&mut record, Level::Debug);
                self.json(level, now, "platform.restoreRuntimeDone", record)
                    .map(&mut emit);
                let mut record = json!({"metrics": {"durationMs": millis_f64(duration)}});
                let level = status.put_into(&mut record, Level::Info);
                self.json(level, now, "platform.restoreReport", record)
                    .map(emit);
            }
        }
    }

    pub fn start(&self, now: Timestamp, request_id: &str, version: &str) -> Option<String> {
        match self.format {
            LogFormat::Text => Some(format!(
                "START RequestId: {request_id} Version: {version}\n"
            )),
            LogFormat::Json => self.json(
                Level::Info,
                now,
                "platform.start",
                json!({"requestId": request_id, "version": version}),
            ),
        }
    }

    /// The lines that end an invocation, in order.
    pub fn finish(&self, now: Timestamp, finished: &Finished<'_>, mut emit: impl FnMut(String)) {
        match self.format {
            LogFormat::Text => {
                if let Some(failure) = finished.failure_text(now) {
                    emit(failure);
                }
                emit(format!("END RequestId: {}\n", finished.request_id));
                emit(finished.report_text());
            }
            LogFormat::Json => {
                let (level, record) = finished.runtime_done();
                self.json(level, now, "platform.runtimeDone", record)
                    .map(&mut emit);
                let (level, record) = finished.report_record();
                self.json(level, now, "platform.report", record).map(emit);
            }
        }
    }

    fn json(&self, level: Level, now: Timestamp, kind: &str, record: Value) -> Option<String> {
        (level >= self.threshold)
            .then(|| json!({"time": now.to_string(), "type": kind, "record": record}).to_string())
    }
}

fn init_runtime_done(phase: Phase, status: &Status) -> (Level, Value) {
    let mut record = json!({
        "initializationType": phase.initialization_type(),
        "phase": phase.as_str(),
    });
    let level = status.put_into(&mut record, Level::Debug);
    (level, record)
}

fn init_report(duration: Duration, phase: Phase, status: &Status) -> (Level, Value) {
    let mut record = json!({
        "initializationType": phase.initialization_type(),
        "phase": phase.as_str(),
        "metrics": {"durationMs": millis_f64(duration)},
    });
    let good = match phase {
        Phase::Init | Phase::Invoke | Phase::Provisioned => Level::Debug,
        Phase::Snapshot => Level::Info,
    };
    let level = status.put_into(&mut record, good);
    (level, record)
}

/// The record of `platform.initStart`.
pub(crate) fn init_start_record(phase: Phase, function: &Function, versions: &Versions) -> Value {
    json!({
        "initializationType": phase.initialization_type(),
        "phase": phase.as_str(),
        "runtimeVersion": versions.runtime,
        "runtimeVersionArn": versions.arn,
        "functionName": function.name,
        "functionVersion": function.version,
    })
}

/// The record of `platform.initRuntimeDone`.
pub(crate) fn init_runtime_done_record(phase: Phase, status: &Status) -> Value {
    init_runtime_done(phase, status).1
}

/// The record of `platform.initReport`.
pub(crate) fn init_report_record(duration: Duration, phase: Phase, status: &Status) -> Value {
    init_report(duration, phase, status).1
}

/// The record of `platform.extension`.
pub(crate) fn extension_record(standing: &Standing) -> Value {
    let mut record = json!({
        "name": standing.name,
        "state": standing.state,
        "events": standing.events,
    });
    if let Some(error_type) = &standing.error_type {
        record["errorType"] = error_type.as_str().into();
    }
    record
}

/// The record of `platform.start`.
pub(crate) fn start_record(request_id: &str, version: &str, trace: Option<(&str, &str)>) -> Value {
    let mut record = json!({"requestId": request_id, "version": version});
    put_trace(&mut record, trace);
    record
}

fn put_trace(record: &mut Value, trace: Option<(&str, &str)>) {
    if let Some((trace, segment)) = trace {
        record["tracing"] = json!({
            "spanId": segment,
            "type": "X-Amzn-Trace-Id",
            "value": format!("Root={trace};Parent={segment};Sampled=1"),
        });
    }
}

/// The runtime's version as INIT_START names it.
#[derive(Clone, Debug)]
pub(crate) struct Versions {
    pub runtime: String,
    pub arn: String,
}

impl Versions {
    pub fn of(function: &Function, version: Option<&str>) -> Self {
        let (name, number) = split_version(&function.runtime);
        let mut runtime = name.to_owned();
        for part in [number, version.unwrap_or_default()] {
            if !part.is_empty() {
                runtime.push(':');
                runtime.push_str(part);
            }
        }
        Self {
            runtime,
            arn: runtime_version_arn(&function.region, &function.runtime),
        }
    }
}

/// `python3.12` is `python` and `3.12`; `nodejs22.x` is `nodejs` and `22`; `provided.al2023` is
/// `provided` and `al2023`.
fn split_version(runtime: &str) -> (&str, &str) {
    if let Some((name, os)) = runtime.split_once(".al") {
        return (name, &runtime[runtime.len() - os.len() - 2..]);
    }
    let at = runtime
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(runtime.len());
    let (name, number) = runtime.split_at(at);
    (name, number.trim_end_matches(".x"))
}

/// The ARN under which this server's version of a runtime appears, in INIT_START and in
/// `RuntimeVersionConfig`: stable for a runtime, and shaped like AWS's.
pub fn runtime_version_arn(region: &str, runtime: &str) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = hex::encode(Sha256::digest(format!("firn:{runtime}")));
    format!("arn:aws:lambda:{region}::runtime:{digest}")
}

impl Phase {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Init | Self::Provisioned | Self::Snapshot => "init",
            Self::Invoke => "invoke",
        }
    }

    /// As `AWS_LAMBDA_INITIALIZATION_TYPE` tells the runtime.
    pub(crate) const fn initialization_type(self) -> &'static str {
        match self {
            Self::Init | Self::Invoke => "on-demand",
            Self::Provisioned => "provisioned-concurrency",
            Self::Snapshot => "snap-start",
        }
    }
}

impl Status {
    /// What the text lines say about it: nothing, unless the platform had to step in.
    fn words(&self) -> Option<(&'static str, Option<&str>)> {
        match self {
            Self::Success | Self::FunctionError(_) => None,
            Self::Error(error_type) => Some(("error", Some(error_type))),
            Self::Timeout => Some(("timeout", None)),
        }
    }

    /// Ends a line of the init or restore phase.
    fn append_to(&self, line: &mut String) {
        if let Some((name, error_type)) = self.words() {
            // Writing to a String cannot fail.
            let _ = write!(line, "\tStatus: {name}");
            if let Some(error_type) = error_type {
                let _ = write!(line, "\tError Type: {error_type}");
            }
        }
        line.push('\n');
    }

    /// Adds `status` and `errorType`, and says at which level the event belongs.
    fn put_into(&self, record: &mut Value, good: Level) -> Level {
        let (name, error_type, level) = match self {
            Self::Success => ("success", None, good),
            Self::FunctionError(error_type) => ("error", error_type.as_deref(), Level::Warn),
            Self::Error(error_type) => ("error", Some(error_type.as_str()), Level::Warn),
            Self::Timeout => ("timeout", None, Level::Warn),
        };
        record["status"] = name.into();
        if let Some(error_type) = error_type {
            record["errorType"] = error_type.into();
        }
        level
    }
}

impl Finished<'_> {
    fn failure_text(&self, now: Timestamp) -> Option<String> {
        let message = self.message?;
        Some(match self.status {
            Status::Timeout => format!("{now} {} {message}\n\n", self.request_id),
            Status::Error(error_type) => {
                format!(
                    "RequestId: {} Error: {message}\n{error_type}\n",
                    self.request_id
                )
            }
            Status::Success | Status::FunctionError(_) => return None,
        })
    }

    fn report_text(&self) -> String {
        let mut line = String::with_capacity(256);
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            "REPORT RequestId: {}\tDuration: {} ms\tBilled Duration: {} ms\tMemory Size: {} MB\t\
             Max Memory Used: {} MB\t",
            self.request_id,
            millis(self.report.duration),
            self.report.billed.as_millis(),
            self.memory_mb,
            self.report.max_memory_mb.unwrap_or(0),
        );
        if let Some(init) = self.report.init_duration {
            let _ = write!(line, "Init Duration: {} ms\t", millis(init));
        }
        if let Some(restore) = self.report.restore_duration {
            let billed = self.report.billed_restore_duration.unwrap_or_default();
            let _ = write!(
                line,
                "Restore Duration: {} ms\tBilled Restore Duration: {} ms\t",
                millis(restore),
                billed.as_millis(),
            );
        }
        if let Some((name, error_type)) = self.status.words() {
            let _ = write!(line, "Status: {name}");
            if let Some(error_type) = error_type {
                let _ = write!(line, "\tError Type: {error_type}");
            }
        }
        line.push('\n');
        if let Some((trace, segment)) = self.trace {
            let _ = writeln!(
                line,
                "XRAY TraceId: {trace}\tSegmentId: {segment}\tSampled: true\t"
            );
        }
        line
    }

    /// The record of `platform.runtimeDone`.
    pub fn runtime_done_record(&self) -> Value {
        self.runtime_done().1
    }

    /// The record of `platform.report`.
    pub fn full_report_record(&self) -> Value {
        self.report_record().1
    }

    /// What broke the invocation, in words; `None` if the platform did not have to step in.
    pub fn fault_text(&self, now: Timestamp) -> Option<String> {
        self.failure_text(now)
    }

    fn runtime_done(&self) -> (Level, Value) {
        let mut record = json!({
            "requestId": self.request_id,
            "metrics": {"durationMs": millis_f64(self.report.duration)},
        });
        if let Some(produced) = self.details.produced_bytes {
            record["metrics"]["producedBytes"] = produced.into();
        }
        put_spans(&mut record, self.details.spans);
        let level = self.status.put_into(&mut record, Level::Debug);
        put_trace(&mut record, self.trace);
        (level, record)
    }

    fn report_record(&self) -> (Level, Value) {
        let mut metrics = json!({
            "durationMs": millis_f64(self.report.duration),
            "billedDurationMs": self.report.billed.as_millis(),
            "memorySizeMB": self.memory_mb,
            "maxMemoryUsedMB": self.report.max_memory_mb.unwrap_or(0),
        });
        if let Some(init) = self.report.init_duration {
            metrics["initDurationMs"] = millis_f64(init).into();
        }
        if let Some(restore) = self.report.restore_duration {
            let billed = self.report.billed_restore_duration.unwrap_or_default();
            metrics["restoreDurationMs"] = millis_f64(restore).into();
            metrics["billedRestoreDurationMs"] =
                u64::try_from(billed.as_millis()).unwrap_or(u64::MAX).into();
        }
        let mut record = json!({"requestId": self.request_id, "metrics": metrics});
        put_spans(&mut record, self.details.after);
        let level = self.status.put_into(&mut record, Level::Info);
        put_trace(&mut record, self.trace);
        (level, record)
    }
}

fn put_spans(record: &mut Value, spans: &[Span]) {
    if !spans.is_empty() {
        record["spans"] = json!(spans);
    }
}

/// Milliseconds with two decimals.
fn millis(duration: Duration) -> String {
    let hundredths = (duration.as_micros() + 5) / 10;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn millis_f64(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests;
