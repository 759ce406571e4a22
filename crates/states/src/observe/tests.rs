use std::collections::BTreeMap;

use asl::failure::Failure;
use asl::history::{EventKind, StateKind, TaskEvent, TaskKind};
use serde_json::{Value, json};

use super::*;
use crate::executions::Unsuccess;
use crate::machines::{Logging, Revision};

const ARN: &str = "arn:aws:states:eu-west-1:111111111111:execution:m:run";
const DEFINITION: &str = r#"{"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}"#;

fn about(kind: Kind, logging: Option<Logging>) -> About {
    let revision = Revision {
        id: "r".into(),
        first: true,
        machine_arn: "arn:aws:states:eu-west-1:111111111111:stateMachine:m".into(),
        machine_name: "m".into(),
        kind,
        role_arn: "arn:aws:iam::111111111111:role/r".into(),
        definition_text: DEFINITION.into(),
        definition: Arc::new(asl::Definition::parse(DEFINITION).unwrap()),
        logging: logging.map(Arc::new),
        tracing: false,
        created: Timestamp::from_secs(1),
    };
    About {
        arn: ARN.into(),
        name: "run".into(),
        revision: Arc::new(revision),
        version_arn: None,
        alias_arn: None,
        map_run_arn: None,
        test_case: None,
        trace_header: None,
        input_text: r#"{"a": 1}"#.into(),
        input: Arc::new(json!({"a": 1})),
        start: Timestamp::from_millis(1_700_000_000_000),
        redrives: 0,
        redriven: None,
        redrive_token: None,
    }
}

fn logging(level: LogLevel, include_execution_data: bool) -> Logging {
    Logging {
        level,
        include_execution_data,
        destinations: vec!["arn:aws:logs:eu-west-1:111111111111:log-group:g:*".into()],
    }
}

fn event(id: u64, kind: EventKind) -> HistoryEvent {
    HistoryEvent {
        id,
        previous: id - 1,
        at_ms: 1_700_000_000_000,
        kind,
    }
}

fn failure() -> Failure {
    Failure {
        error: Some("E".into()),
        cause: Some("because".into()),
    }
}

fn history() -> Vec<HistoryEvent> {
    let task = TaskKind::Service {
        service: "sqs".into(),
        action: "sendMessage".into(),
    };
    vec![
        event(
            1,
            EventKind::ExecutionStarted {
                input: Arc::new(json!({"a": 1})),
                role_arn: "role".into(),
            },
        ),
        event(
            2,
            EventKind::StateEntered {
                state: StateKind::Task,
                name: "A".into(),
                input: Arc::new(json!({"a": 1})),
            },
        ),
        event(
            3,
            EventKind::Task {
                task: task.clone(),
                event: TaskEvent::Scheduled {
                    input: Arc::new(json!({"MessageBody": "secret"})),
                    region: "eu-west-1".into(),
                    timeout_seconds: None,
                    heartbeat_seconds: None,
                    role_arn: None,
                },
            },
        ),
        event(
            4,
            EventKind::Task {
                task,
                event: TaskEvent::Failed(failure()),
            },
        ),
        event(5, EventKind::ExecutionFailed(failure())),
    ]
}

fn lines_of(level: LogLevel, with_data: bool) -> Vec<Value> {
    let logging = logging(level, with_data);
    let about = about(Kind::Standard, Some(logging.clone()));
    let lines = lines::Lines::of(&about, &logging, &history());
    lines
        .map(|lines| lines.lines)
        .unwrap_or_default()
        .iter()
        .map(|(_, line)| serde_json::from_str(line).unwrap())
        .collect()
}

fn types(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect()
}

#[test]
fn each_level_lets_its_events_through() {
    assert_eq!(lines_of(LogLevel::All, true).len(), 5);
    let errors = lines_of(LogLevel::Error, true);
    assert_eq!(types(&errors), ["TaskFailed", "ExecutionFailed"]);
    assert_eq!(types(&lines_of(LogLevel::Fatal, true)), ["ExecutionFailed"]);
    assert_eq!(lines_of(LogLevel::Off, true), [] as [Value; 0]);
}

#[test]
fn a_line_reads_as_on_aws() {
    let lines = lines_of(LogLevel::All, true);
    let expected = json!({
        "id": "1",
        "type": "ExecutionStarted",
        "details": {
            "input": "{\"a\":1}",
            "inputDetails": {"truncated": false},
            "roleArn": "role",
        },
        "previous_event_id": "0",
        "event_timestamp": "1700000000000",
        "execution_arn": ARN,
        "redrive_count": "0",
    });
    assert_eq!(lines[0], expected);
}

#[test]
fn data_is_left_out_unless_it_was_asked_for() {
    let lines = lines_of(LogLevel::All, false);
    assert_eq!(lines[0]["details"], json!({"roleArn": "role"}));
    assert_eq!(lines[1]["details"], json!({"name": "A"}));
    assert!(
        lines
            .iter()
            .all(|line| !line.to_string().contains("secret"))
    );
    assert_eq!(
        lines[4]["details"],
        json!({"error": "E", "cause": "because"})
    );
}

#[test]
fn long_data_is_cut_off_and_says_so() {
    let logging = logging(LogLevel::All, true);
    let about = about(Kind::Express, Some(logging.clone()));
    let output = Arc::new(Value::from("\"é".repeat(200 * 1024)));
    let events = [event(2, EventKind::ExecutionSucceeded { output })];
    let lines = lines::Lines::of(&about, &logging, &events).unwrap();
    let (_, line) = &lines.lines[0];
    assert!(line.len() < 249 * 1024 + 500, "{}", line.len());
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["details"]["outputDetails"], json!({"truncated": true}));
}

fn ended() -> Status {
    Status::Failed {
        how: Unsuccess::Failed,
        error: Some("E".into()),
        cause: Some("because".into()),
        stop: Timestamp::from_millis(1_700_000_001_500),
    }
}

#[tokio::test]
async fn subscribers_see_each_change_of_a_standard_execution_and_none_of_an_express_one() {
    let observer = Observer::default();
    let mut changes = observer.subscribe();
    observer.status_changed(&about(Kind::Express, None), &ended());
    observer.status_changed(&about(Kind::Standard, None), &Status::Running);
    observer.status_changed(&about(Kind::Standard, None), &ended());
    let running = changes.recv().await.unwrap().event();
    assert_eq!(running["detail"]["status"], "RUNNING");
    assert_eq!(running["detail"]["stopDate"], Value::Null);
    let failed = changes.recv().await.unwrap().event();
    assert_eq!(failed["source"], "aws.states");
    assert_eq!(
        failed["detail-type"],
        "Step Functions Execution Status Change"
    );
    assert_eq!(failed["resources"], json!([ARN]));
    assert_eq!(failed["time"], "2023-11-14T22:13:21Z");
    let expected = json!({
        "executionArn": ARN,
        "stateMachineArn": "arn:aws:states:eu-west-1:111111111111:stateMachine:m",
        "name": "run",
        "status": "FAILED",
        "startDate": 1_700_000_000_000_i64,
        "stopDate": 1_700_000_001_500_i64,
        "input": r#"{"a": 1}"#,
        "output": null,
        "stateMachineVersionArn": null,
        "stateMachineAliasArn": null,
        "redriveCount": 0,
        "redriveDate": null,
        "redriveStatus": "REDRIVABLE",
        "redriveStatusReason": null,
        "inputDetails": {"included": true},
        "outputDetails": null,
        "error": "E",
        "cause": "because",
    });
    assert_eq!(failed["detail"], expected);
}

#[tokio::test]
async fn the_bus_gets_events_in_order_and_another_try() {
    let observer = Observer::default();
    let seen: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let (hook_seen, tries) = (Arc::clone(&seen), Arc::new(Mutex::new(0)));
    let events: EventHook = Arc::new(move |changes| {
        let (seen, tries) = (Arc::clone(&hook_seen), Arc::clone(&tries));
        Box::pin(async move {
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            if *tries == 1 {
                return Err(Untold::Unreachable("not now".to_owned()));
            }
            seen.lock()
                .unwrap()
                .extend(changes.iter().map(|change| change.status));
            Ok(())
        })
    });
    let hooks = Hooks {
        events: Some(events),
        ..Hooks::default()
    };
    observer.connect(hooks, &Clock::manual(Timestamp::from_secs(1)));
    observer.status_changed(&about(Kind::Standard, None), &Status::Running);
    observer.status_changed(&about(Kind::Standard, None), &ended());
    observer.shutdown().await;
    assert_eq!(*seen.lock().unwrap(), ["RUNNING", "FAILED"]);
    assert_eq!(observer.dropped(), Dropped::default());
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_does_not_answer_does_not_hold_up_the_end() {
    let observer = Observer::default();
    let hooks = Hooks {
        events: Some(Arc::new(|_| Box::pin(std::future::pending()))),
        ..Hooks::default()
    };
    observer.connect(hooks, &Clock::manual(Timestamp::from_secs(1)));
    observer.status_changed(&about(Kind::Standard, None), &Status::Running);
    let began = tokio::time::Instant::now();
    observer.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn what_the_bus_refuses_is_not_sent_again() {
    let observer = Observer::default();
    let tries = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&tries);
    let hooks = Hooks {
        events: Some(Arc::new(move |_| {
            *counted.lock().unwrap() += 1;
            Box::pin(async { Err(Untold::Refused("no".to_owned())) })
        })),
        ..Hooks::default()
    };
    observer.connect(hooks, &Clock::manual(Timestamp::from_secs(1)));
    observer.status_changed(&about(Kind::Standard, None), &Status::Running);
    observer.shutdown().await;
    assert_eq!(*tries.lock().unwrap(), 1);
}

#[tokio::test]
async fn lines_reach_the_group_that_the_machine_names() {
    let observer = Observer::default();
    let batches: Arc<Mutex<Vec<LogBatch>>> = Arc::default();
    let taken = Arc::clone(&batches);
    let hooks = Hooks {
        logs: Some(Arc::new(move |batch| taken.lock().unwrap().push(batch))),
        ..Hooks::default()
    };
    observer.connect(hooks, &Clock::manual(Timestamp::from_secs(1_700_000_000)));
    let about = about(Kind::Express, Some(logging(LogLevel::Error, false)));
    observer.recorded(&about, &history());
    observer.shutdown().await;
    let batches = batches.lock().unwrap();
    assert_eq!(batches.len(), 1);
    let batch = &batches[0];
    assert_eq!(
        (&*batch.account, &*batch.region, &*batch.group),
        ("111111111111", "eu-west-1", "g")
    );
    assert!(batch.stream.starts_with("states/m/2023-11-14-22-13/"));
    assert_eq!(batch.lines.len(), 2);
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    struct Heavy;
    impl queue::Weigh for Heavy {
        fn bytes(&self) -> usize {
            60
        }
    }
    let (sender, mut receiver) = queue::bounded(8, 100, "tests");
    for _ in 0..3 {
        sender.offer(Heavy);
    }
    // The second would have been too many bytes.
    assert_eq!(sender.dropped(), 2);
    assert_eq!(receiver.take(8).await.map(|taken| taken.len()), Some(1));
    for _ in 0..2 {
        sender.offer(Heavy);
    }
    assert_eq!(sender.dropped(), 3);
    sender.close();
    assert_eq!(receiver.take(8).await.map(|taken| taken.len()), Some(1));
    assert!(receiver.take(8).await.is_none());
}

#[test]
fn an_execution_is_counted_where_aws_counts_it() {
    let counted: Arc<Mutex<BTreeMap<String, f64>>> = Arc::default();
    let into = Arc::clone(&counted);
    let hook: MetricHook = Arc::new(move |measured| {
        for (metric, value) in measured.values {
            let of = measured.under.map_or(measured.of, |under| under);
            let name = format!("{} {}={}", metric.name(), of.0, of.1);
            *into.lock().unwrap().entry(name).or_default() += value;
        }
    });
    let mut about = about(Kind::Express, None);
    about.version_arn = Some(format!("{}:7", about.revision.machine_arn));
    metrics::of_execution(&about, &Status::Running, &hook);
    metrics::of_execution(&about, &ended(), &hook);
    metrics::of_tasks(&about, &history(), &hook);
    let counted = counted.lock().unwrap();
    let shown: Vec<(&str, f64)> = counted
        .iter()
        .map(|(name, value)| (&**name, *value))
        .collect();
    let arn = "ServiceIntegrationResourceArn=arn:aws:states:::sqs:sendMessage";
    assert_eq!(
        shown,
        [
            ("ExecutionTime Version=7", 1500.0),
            ("ExecutionsFailed Version=7", 1.0),
            ("ExecutionsStarted Version=7", 1.0),
            ("ExpressExecutionBilledDuration Version=7", 1500.0),
            (&*format!("ServiceIntegrationsFailed {arn}"), 1.0),
            (&*format!("ServiceIntegrationsScheduled {arn}"), 1.0),
        ]
    );
}
