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
mod tests {
    use super::*;

    const TEXT: Writer = Writer {
        format: LogFormat::Text,
        threshold: Level::Info,
    };
    const JSON: Writer = Writer {
        format: LogFormat::Json,
        threshold: Level::Info,
    };

    fn report() -> Report {
        Report {
            duration: Duration::from_micros(1_234),
            billed: Duration::from_millis(107),
            max_memory_mb: Some(35),
            init_duration: Some(Duration::from_micros(105_204)),
            ..Report::default()
        }
    }

    fn finished<'a>(status: &'a Status, report: &'a Report) -> Finished<'a> {
        Finished {
            request_id: "id",
            status,
            message: None,
            report,
            memory_mb: 128,
            trace: None,
            details: Details::default(),
        }
    }

    fn lines(writer: Writer, finished: &Finished<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        writer.finish(
            Timestamp::from_millis(1_550_088_758_950),
            finished,
            |line| lines.push(line),
        );
        lines
    }

    #[test]
    fn report_is_tab_separated_with_a_trailing_tab() {
        let report = report();
        assert_eq!(
            lines(TEXT, &finished(&Status::Success, &report)),
            [
                "END RequestId: id\n",
                "REPORT RequestId: id\tDuration: 1.23 ms\tBilled Duration: 107 ms\tMemory Size: 128 MB\t\
             Max Memory Used: 35 MB\tInit Duration: 105.20 ms\t\n",
            ]
        );
        let warm = Report {
            init_duration: None,
            ..report
        };
        assert!(lines(TEXT, &finished(&Status::Success, &warm))[1].ends_with("Used: 35 MB\t\n"));
    }

    /// The numbers of a REPORT line recorded on AWS.
    fn restored() -> Report {
        Report {
            duration: Duration::from_micros(306_340),
            billed: Duration::from_millis(610),
            max_memory_mb: Some(155),
            init_duration: None,
            restore_duration: Some(Duration::from_micros(511_250)),
            billed_restore_duration: Some(Duration::from_millis(303)),
        }
    }

    #[test]
    fn report_after_a_restore_tells_its_duration_and_what_is_billed_of_it() {
        let report = restored();
        let finished = Finished {
            request_id: "b771fecc-1b53-4faf-922d-1d74357b1676",
            memory_mb: 3009,
            ..finished(&Status::Success, &report)
        };
        assert_eq!(
            lines(TEXT, &finished)[1],
            "REPORT RequestId: b771fecc-1b53-4faf-922d-1d74357b1676\tDuration: 306.34 ms\t\
             Billed Duration: 610 ms\tMemory Size: 3009 MB\tMax Memory Used: 155 MB\t\
             Restore Duration: 511.25 ms\tBilled Restore Duration: 303 ms\t\n"
        );
        let record: Value = serde_json::from_str(&lines(JSON, &finished)[0]).unwrap();
        let metrics = &record["record"]["metrics"];
        assert_eq!(metrics["restoreDurationMs"], 511.25);
        assert_eq!(metrics["billedRestoreDurationMs"], 303);
        assert_eq!(metrics.get("initDurationMs"), None);
    }

    fn versions() -> Versions {
        Versions {
            runtime: "java:11.v21".into(),
            arn: "arn:aws:lambda:us-east-1::runtime:156a".into(),
        }
    }

    fn restore_lines(writer: Writer, status: &Status) -> Vec<String> {
        let mut lines = Vec::new();
        let now = Timestamp::from_millis(1_550_088_758_950);
        let duration = Duration::from_micros(1_236_040);
        writer.restore_report(now, duration, status, |line| lines.push(line));
        lines
    }

    #[test]
    fn restore_phase_is_announced_and_reported() {
        let function = crate::testing::function();
        let now = Timestamp::from_millis(1_550_088_758_950);
        assert_eq!(
            TEXT.restore_start(now, &function, &versions()).unwrap(),
            "RESTORE_START Runtime Version: java:11.v21\t\
             Runtime Version ARN: arn:aws:lambda:us-east-1::runtime:156a\n"
        );
        for (status, end) in [
            (Status::Success, "\n"),
            (Status::Timeout, "\tStatus: timeout\n"),
            (
                Status::Error("Runtime.ExitError".into()),
                "\tStatus: error\tError Type: Runtime.ExitError\n",
            ),
        ] {
            assert_eq!(
                restore_lines(TEXT, &status),
                [format!("RESTORE_REPORT Restore Duration: 1236.04 ms{end}")]
            );
        }
    }

    #[test]
    fn restore_phase_in_json_has_the_records_of_the_telemetry_schema() {
        let function = crate::testing::function();
        let now = Timestamp::from_millis(1_550_088_758_950);
        let start = JSON.restore_start(now, &function, &versions()).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&start).unwrap(),
            json!({
                "time": "2019-02-13T20:12:38.950Z",
                "type": "platform.restoreStart",
                "record": {
                    "runtimeVersion": "java:11.v21",
                    "runtimeVersionArn": "arn:aws:lambda:us-east-1::runtime:156a",
                    "functionName": "f",
                    "functionVersion": "$LATEST",
                },
            })
        );
        let debug = Writer {
            threshold: Level::Debug,
            ..JSON
        };
        let records = |writer, status| -> Vec<Value> {
            let lines = restore_lines(writer, status);
            lines
                .iter()
                .map(|line| {
                    let mut line: Value = serde_json::from_str(line).unwrap();
                    json!([line["type"].take(), line["record"].take()])
                })
                .collect()
        };
        let report = json!({"status": "success", "metrics": {"durationMs": 1236.04}});
        assert_eq!(
            records(debug, &Status::Success),
            [
                json!(["platform.restoreRuntimeDone", {"status": "success"}]),
                json!(["platform.restoreReport", report]),
            ]
        );
        assert_eq!(
            records(JSON, &Status::Success),
            [json!(["platform.restoreReport", report])]
        );
        let failed = Status::Error("Runtime.AfterRestoreError".into());
        assert_eq!(
            records(JSON, &failed)[0],
            json!([
                "platform.restoreRuntimeDone",
                {"status": "error", "errorType": "Runtime.AfterRestoreError"}
            ])
        );
    }

    #[test]
    fn init_of_a_snapshot_has_a_report_of_its_own() {
        let now = Timestamp::from_millis(1_550_088_758_950);
        let duration = Duration::from_micros(612_330);
        let line = TEXT.init_report(now, duration, Phase::Snapshot, &Status::Success);
        assert_eq!(
            line.unwrap(),
            "INIT_REPORT Init Duration: 612.33 ms\tPhase: init\n"
        );
        let none = TEXT.init_report(now, duration, Phase::Init, &Status::Success);
        assert_eq!(none, None);
        let line = JSON.init_report(now, duration, Phase::Snapshot, &Status::Success);
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(line["record"]["initializationType"], "snap-start");
        assert_eq!(line["record"]["phase"], "init");
        let function = crate::testing::function();
        let line = JSON.init_start(now, Phase::Snapshot, &function, &versions());
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(line["record"]["initializationType"], "snap-start");
    }

    #[test]
    fn traced_invocation_has_an_xray_line() {
        let report = Report {
            init_duration: None,
            ..report()
        };
        let traced = Finished {
            trace: Some(("1-5e-10", "07b1")),
            ..finished(&Status::Success, &report)
        };
        assert!(lines(TEXT, &traced)[1].ends_with(
            "Max Memory Used: 35 MB\t\nXRAY TraceId: 1-5e-10\tSegmentId: 07b1\tSampled: true\t\n"
        ));
    }

    #[test]
    fn timeout_is_told_before_the_end() {
        let report = Report {
            init_duration: None,
            ..report()
        };
        let timed_out = Finished {
            message: Some("Task timed out after 3.00 seconds"),
            ..finished(&Status::Timeout, &report)
        };
        let lines = lines(TEXT, &timed_out);
        assert_eq!(
            lines[0],
            "2019-02-13T20:12:38.950Z id Task timed out after 3.00 seconds\n\n"
        );
        assert!(lines[2].ends_with("Max Memory Used: 35 MB\tStatus: timeout\n"));
    }

    #[test]
    fn broken_runtime_is_named_in_the_log_and_in_the_report() {
        let report = Report {
            init_duration: None,
            ..report()
        };
        let status = Status::Error("Runtime.ExitError".into());
        let exited = Finished {
            message: Some("Runtime exited with error: exit status 1"),
            ..finished(&status, &report)
        };
        let lines = lines(TEXT, &exited);
        assert_eq!(
            lines[0],
            "RequestId: id Error: Runtime exited with error: exit status 1\nRuntime.ExitError\n"
        );
        assert!(lines[2].ends_with("\tStatus: error\tError Type: Runtime.ExitError\n"));
    }

    #[test]
    fn failed_init_has_its_own_report() {
        let now = Timestamp::default();
        let status = Status::Error("Runtime.ExitError".into());
        assert_eq!(
            TEXT.init_report(now, Duration::from_micros(206_721), Phase::Init, &status)
                .unwrap(),
            "INIT_REPORT Init Duration: 206.72 ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\n"
        );
        let timeout = TEXT.init_report(
            now,
            Duration::from_secs(10),
            Phase::Invoke,
            &Status::Timeout,
        );
        assert_eq!(
            timeout.unwrap(),
            "INIT_REPORT Init Duration: 10000.00 ms\tPhase: invoke\tStatus: timeout\n"
        );
        assert_eq!(
            TEXT.init_report(now, Duration::ZERO, Phase::Init, &Status::Success),
            None
        );
    }

    #[test]
    fn json_report_follows_the_telemetry_schema() {
        let report = report();
        let lines = lines(JSON, &finished(&Status::Success, &report));
        let event: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(lines.len(), 1, "a good runtimeDone is below INFO");
        assert_eq!(
            event,
            json!({
                "time": "2019-02-13T20:12:38.950Z",
                "type": "platform.report",
                "record": {
                    "requestId": "id",
                    "metrics": {
                        "durationMs": 1.234, "billedDurationMs": 107, "memorySizeMB": 128,
                        "maxMemoryUsedMB": 35, "initDurationMs": 105.204,
                    },
                    "status": "success",
                },
            })
        );
    }

    #[test]
    fn extensions_and_subscriptions_have_a_line_each() {
        let standing = Standing {
            name: "collector".into(),
            state: "Ready",
            events: vec!["INVOKE", "SHUTDOWN"],
            error_type: None,
        };
        let now = Timestamp::from_millis(1_550_088_758_950);
        assert_eq!(
            TEXT.extension(now, &standing).unwrap(),
            "EXTENSION\tName: collector\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n"
        );
        let line: Value = serde_json::from_str(&JSON.extension(now, &standing).unwrap()).unwrap();
        assert_eq!(
            line["record"],
            json!({"name": "collector", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]})
        );
        let failed = Standing {
            state: "LaunchError",
            events: Vec::new(),
            error_type: Some("PermissionDenied".into()),
            ..standing
        };
        assert_eq!(
            TEXT.extension(now, &failed).unwrap(),
            "EXTENSION\tName: collector\tState: LaunchError\tEvents: []\t\
             Error Type: PermissionDenied\n"
        );
    }

    #[test]
    fn measured_spans_and_bytes_are_part_of_the_records() {
        let report = report();
        let start = Timestamp::from_millis(1_550_088_758_950);
        let spans = [Span::new(
            "responseLatency",
            start,
            Duration::from_micros(1_500),
        )];
        let after = [Span::new(
            "extensionOverhead",
            start,
            Duration::from_millis(7),
        )];
        let finished = Finished {
            details: Details {
                produced_bytes: Some(42),
                spans: &spans,
                after: &after,
            },
            ..finished(&Status::Success, &report)
        };
        let done = finished.runtime_done_record();
        assert_eq!(done["metrics"]["producedBytes"], 42);
        let span = json!({"name": "responseLatency", "start": "2019-02-13T20:12:38.950Z",
                          "durationMs": 1.5});
        assert_eq!(done["spans"], json!([span]));
        let report = finished.full_report_record();
        assert_eq!(report["spans"][0]["name"], "extensionOverhead");
        assert_eq!(report["spans"][0]["durationMs"], 7.0);
    }

    #[test]
    fn runtimes_are_split_into_name_and_version() {
        assert_eq!(split_version("python3.12"), ("python", "3.12"));
        assert_eq!(split_version("nodejs22.x"), ("nodejs", "22"));
        assert_eq!(split_version("provided.al2023"), ("provided", "al2023"));
        assert_eq!(split_version("provided"), ("provided", ""));
    }
}
