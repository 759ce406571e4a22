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
