use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use asl::failure::Failure;
use integrations::Update;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::machines::Target;

const MACHINE: &str = "arn:aws:states:eu-west-1:123456789012:stateMachine:m";

/// Executions on a store of their own, with tasks that the test answers.
struct World {
    executions: Arc<Executions>,
    clock: Clock,
    tasks: mpsc::UnboundedReceiver<Attempt>,
    machines: Arc<Machines>,
    store: Store,
}

impl World {
    async fn open(dir: &Path, clock: &Clock) -> Self {
        let store = Store::open(dir, clock.clone()).unwrap();
        let machines = Arc::new(Machines::open(&store).unwrap());
        let executions = Executions::open(
            &store,
            clock.clone(),
            Arc::clone(&machines),
            Arc::new(Observer::default()),
        )
        .unwrap();
        let (told, tasks) = mpsc::unbounded_channel();
        executions.run_tasks_with(Arc::new(move |attempt| {
            let told = told.clone();
            Box::pin(async move {
                told.send(attempt).ok().unwrap();
            })
        }));
        Self {
            executions,
            clock: clock.clone(),
            tasks,
            machines,
            store,
        }
    }

    async fn start_named(
        &self,
        definition: Value,
        name: &str,
        input: &str,
    ) -> Result<Started, Error> {
        let target = Target {
            revision: self.machines.add_for_test(MACHINE, &definition).await,
            version_arn: None,
            alias_arn: None,
            test_case: None,
        };
        self.executions
            .start(Start {
                target,
                name: Some(name.to_owned()),
                input_text: input.into(),
                input: Arc::new(serde_json::from_str(input).unwrap()),
                trace_header: None,
                map_run_arn: None,
            })
            .await
    }

    async fn start(&self, definition: Value, input: &str) -> String {
        let name = uuid::Uuid::new_v4().to_string();
        self.start_named(definition, &name, input)
            .await
            .unwrap()
            .arn
    }

    fn status(&self, arn: &str) -> Status {
        self.executions.describe(arn).unwrap().unwrap().status
    }

    fn events(&self, arn: &str) -> Vec<String> {
        let page = self.executions.history(arn, None, 1_000, false).unwrap();
        let events = page.unwrap().events;
        assert!(events.iter().zip(1..).all(|(event, id)| event.id == id));
        events.iter().map(|event| event.kind.type_name()).collect()
    }

    fn in_memory(&self) -> usize {
        self.executions
            .live
            .iter()
            .map(|shard| lock(shard).len())
            .sum()
    }

    /// As after a `kill -9`: nothing more is written or told.
    fn die(self) {
        drop(self);
    }
}

fn passes() -> Value {
    json!({"StartAt": "A", "States": {
        "A": {"Type": "Pass", "Next": "B"}, "B": {"Type": "Pass", "Next": "C"}, "C": {"Type": "Succeed"},
    }})
}

fn task() -> Value {
    json!({"StartAt": "T", "States": {"T": {
        "Type": "Task", "Resource": "arn:aws:lambda:eu-west-1:123456789012:function:f", "End": true,
    }}})
}

fn callback() -> Value {
    json!({"StartAt": "T", "States": {"T": {
        "Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {"QueueUrl": "q", "MessageBody.$": "$$.Task.Token"}, "HeartbeatSeconds": 60, "End": true,
    }}})
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_secs(1_763_000_000))
}

/// A start without a name, and with an empty input.
fn unnamed(revision: Arc<Revision>) -> Start {
    Start {
        target: Target {
            revision,
            version_arn: None,
            alias_arn: None,
            test_case: None,
        },
        name: None,
        input_text: "{}".into(),
        input: Arc::new(json!({})),
        trace_header: None,
        map_run_arn: None,
    }
}

#[tokio::test]
async fn execution_without_tasks_has_ended_when_it_has_started() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &clock()).await;
    let arn = world.start(passes(), r#"{"a": 1}"#).await;
    let Status::Succeeded { output, .. } = world.status(&arn) else {
        panic!("{:?}", world.status(&arn))
    };
    assert_eq!(*output, json!({"a": 1}));
    assert_eq!(world.events(&arn).len(), 8);
    assert_eq!(world.in_memory(), 0);
    assert!(!world.executions.running_of(MACHINE));
}

#[tokio::test]
async fn name_is_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let world = World::open(dir.path(), &clock).await;
    let first = world.start_named(task(), "n", "{}").await.unwrap();
    clock.advance(Duration::from_secs(5));
    let same = world.start_named(task(), "n", "{}").await.unwrap();
    assert_eq!((same.arn, same.at), (first.arn, first.at));
    let other = world.start_named(task(), "n", r#"{"b": 2}"#).await;
    assert!(other.unwrap_err().to_string().contains("Already Exists"));
    // Many at once: one of them is the execution, and there is one only.
    let definition = passes();
    let starts = (0..20).map(|_| world.start_named(definition.clone(), "m", "{}"));
    let outcomes = futures_util::future::join_all(starts).await;
    let begun = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(begun, 1, "it has ended at once, so nobody else gets it");
}

#[tokio::test]
async fn task_is_on_disk_as_started_before_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), &clock()).await;
    let arn = world.start(task(), r#"{"a": 1}"#).await;
    let attempt = world.tasks.recv().await.unwrap();
    assert!(attempt.resumed.is_none());
    let events = world.events(&arn);
    assert_eq!(events.last().unwrap(), "LambdaFunctionStarted");
    (attempt.report)(Update::Succeeded(json!({"done": true})));
    let ended = world.executions.ended(&arn).await.unwrap().unwrap();
    assert_eq!(ended.status.name(), "SUCCEEDED");
    assert_eq!(world.events(&arn).last().unwrap(), "ExecutionSucceeded");
    assert_eq!(world.in_memory(), 0);
}

#[tokio::test]
async fn task_under_way_is_resumed_after_a_crash_and_never_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut world = World::open(dir.path(), &clock).await;
    let arn = world.start(task(), "{}").await;
    let before = world.tasks.recv().await.unwrap();
    let seen = world.events(&arn);
    world.die();
    let mut world = World::open(dir.path(), &clock).await;
    assert_eq!(world.events(&arn), seen);
    world.executions.start_all().await.unwrap();
    let after = world.tasks.recv().await.unwrap();
    assert_eq!(after.resumed, Some(None));
    assert_eq!(after.call.id, before.call.id);
    (after.report)(Update::Failed(Failure::new(
        "Lambda.Unknown",
        "the server died",
    )));
    let ended = world.executions.ended(&arn).await.unwrap().unwrap();
    assert_eq!(ended.status.name(), "FAILED");
    assert!(world.events(&arn).starts_with(&seen));
}

#[tokio::test]
async fn month_of_waiting_costs_no_memory_and_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let definition = json!({"StartAt": "W", "States": {
        "W": {"Type": "Wait", "Seconds": 2_592_000, "Next": "D"}, "D": {"Type": "Succeed"},
    }});
    let world = World::open(dir.path(), &clock).await;
    world.executions.start_all().await.unwrap();
    let arn = world.start(definition, "{}").await;
    assert_eq!(world.in_memory(), 0);
    clock.advance(Duration::from_secs(29 * 86_400));
    world.die();
    let world = World::open(dir.path(), &clock).await;
    world.executions.start_all().await.unwrap();
    assert_eq!(world.status(&arn), Status::Running);
    assert!(world.executions.running_of(MACHINE));
    let ended = tokio::spawn({
        let (executions, arn) = (Arc::clone(&world.executions), arn.clone());
        async move { executions.ended(&arn).await }
    });
    clock.advance(Duration::from_secs(86_400));
    let ended = ended.await.unwrap().unwrap().unwrap();
    assert_eq!(ended.status.name(), "SUCCEEDED");
    assert_eq!(
        world.events(&arn),
        [
            "ExecutionStarted",
            "WaitStateEntered",
            "WaitStateExited",
            "SucceedStateEntered",
            "SucceedStateExited",
            "ExecutionSucceeded"
        ]
    );
}

#[tokio::test]
async fn token_wakes_an_execution_that_sleeps_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut world = World::open(dir.path(), &clock).await;
    let arn = world.start(callback(), "{}").await;
    let attempt = world.tasks.recv().await.unwrap();
    let token = attempt.call.token.clone().unwrap();
    (attempt.report)(Update::Submitted(json!({"MessageId": "1"})));
    while world.in_memory() > 0 {
        tokio::task::yield_now().await;
    }
    world.die();
    let world = World::open(dir.path(), &clock).await;
    world.executions.start_all().await.unwrap();
    assert_eq!(
        world.in_memory(),
        0,
        "what waits for a token only is not taken up"
    );
    world
        .executions
        .answer(&token, Answer::Heartbeat)
        .await
        .unwrap();
    let answers = (0..10).map(|n| {
        world
            .executions
            .answer(&token, Answer::Success(json!({"n": n})))
    });
    let outcomes = futures_util::future::join_all(answers).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for late in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(late.to_string().starts_with("Task Timed Out"), "{late}");
    }
    let ended = world.executions.ended(&arn).await.unwrap().unwrap();
    assert_eq!(ended.status.name(), "SUCCEEDED");
    let late = world.executions.answer(&token, Answer::Heartbeat).await;
    assert!(late.unwrap_err().to_string().starts_with("Task Timed Out"));
    let foreign = world.executions.answer("nonsense", Answer::Heartbeat).await;
    assert!(
        foreign
            .unwrap_err()
            .to_string()
            .starts_with("Invalid Token")
    );
}

#[tokio::test]
async fn missed_heartbeat_ends_the_task() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut world = World::open(dir.path(), &clock).await;
    world.executions.start_all().await.unwrap();
    let arn = world.start(callback(), "{}").await;
    let attempt = world.tasks.recv().await.unwrap();
    let token = attempt.call.token.clone().unwrap();
    (attempt.report)(Update::Submitted(json!({})));
    clock.advance(Duration::from_secs(50));
    world
        .executions
        .answer(&token, Answer::Heartbeat)
        .await
        .unwrap();
    clock.advance(Duration::from_secs(50));
    tokio::task::yield_now().await;
    assert_eq!(world.status(&arn), Status::Running);
    clock.advance(Duration::from_secs(11));
    let ended = world.executions.ended(&arn).await.unwrap().unwrap();
    assert!(
        matches!(
            ended.status,
            Status::Failed {
                how: Unsuccess::Failed,
                ..
            }
        ),
        "{ended:?}"
    );
}

#[tokio::test]
async fn worker_gets_each_task_once_also_across_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let activity = "arn:aws:states:eu-west-1:123456789012:activity:a";
    let definition = json!({"StartAt": "T", "States": {"T": {
        "Type": "Task", "Resource": activity, "End": true,
    }}});
    let world = World::open(dir.path(), &clock).await;
    let first = world.start(definition.clone(), r#"{"n": 1}"#).await;
    let second = world.start(definition, r#"{"n": 2}"#).await;
    let fetched = world
        .executions
        .fetch(activity, Some("w".into()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(*fetched.input, json!({"n": 1}));
    world.die();
    let world = World::open(dir.path(), &clock).await;
    world.executions.start_all().await.unwrap();
    let next = world
        .executions
        .fetch(activity, None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        *next.input,
        json!({"n": 2}),
        "the first one is somebody's already"
    );
    for task in [fetched, next] {
        let answer = Answer::Success((*task.input).clone());
        world.executions.answer(&task.token, answer).await.unwrap();
    }
    for arn in [first, second] {
        let ended = world.executions.ended(&arn).await.unwrap().unwrap();
        assert_eq!(ended.status.name(), "SUCCEEDED");
    }
}

#[tokio::test]
async fn stop_ends_what_runs_and_lists_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), &clock()).await;
    let arn = world.start(task(), "{}").await;
    let attempt = world.tasks.recv().await.unwrap();
    let done = world.start(passes(), "{}").await;
    let stopped = Failure::new("Because", "of a test");
    let at = world.executions.stop(&arn, stopped.clone()).await.unwrap();
    assert!(at.is_some());
    // An answer that comes too late changes nothing.
    (attempt.report)(Update::Succeeded(json!({})));
    assert_eq!(world.executions.stop(&arn, stopped).await.unwrap(), at);
    assert_eq!(world.events(&arn).last().unwrap(), "ExecutionAborted");
    let all = world
        .executions
        .list(MACHINE, &Filter::default(), None, 10)
        .unwrap();
    assert_eq!(all.executions.len(), 2);
    assert!(all.next.is_none());
    let filter = Filter {
        status: Some("ABORTED".into()),
        ..Filter::default()
    };
    let aborted = world.executions.list(MACHINE, &filter, None, 10).unwrap();
    assert_eq!(aborted.executions[0].arn, arn);
    let page = world
        .executions
        .list(MACHINE, &Filter::default(), None, 1)
        .unwrap();
    let rest = world
        .executions
        .list(MACHINE, &Filter::default(), page.next.as_deref(), 1)
        .unwrap();
    let listed: Vec<_> = page
        .executions
        .iter()
        .chain(&rest.executions)
        .map(|e| e.arn.clone())
        .collect();
    assert_eq!(listed, [done, arn], "the latest comes first");
}

#[tokio::test]
async fn inputs_that_come_together_are_all_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), &clock()).await;
    let branches: Vec<Value> = (0..30).map(|_| task()).collect();
    let definition = json!({"StartAt": "P", "States": {"P": {
        "Type": "Parallel", "Branches": branches, "End": true,
    }}});
    let arn = world.start(definition, "{}").await;
    let answered = Arc::new(AtomicUsize::new(0));
    for n in 0..30 {
        let attempt = world.tasks.recv().await.unwrap();
        let answered = Arc::clone(&answered);
        tokio::spawn(async move {
            answered.fetch_add(1, Ordering::Relaxed);
            (attempt.report)(Update::Succeeded(json!(n)));
        });
    }
    let ended = world.executions.ended(&arn).await.unwrap().unwrap();
    let Status::Succeeded { output, .. } = ended.status else {
        panic!("{:?}", ended.status)
    };
    assert_eq!(output.as_array().unwrap().len(), 30);
    assert_eq!(answered.load(Ordering::Relaxed), 30);
}

#[tokio::test]
async fn express_execution_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut world = World::open(dir.path(), &clock).await;
    let revision = world.machines.add_for_test(MACHINE, &task()).await;
    let mut express = (*revision).clone();
    express.kind = Kind::Express;
    let express = Arc::new(express);
    let running = tokio::spawn({
        let (executions, start) = (Arc::clone(&world.executions), unnamed(Arc::clone(&express)));
        async move { executions.run_express(start).await }
    });
    let attempt = world.tasks.recv().await.unwrap();
    (attempt.report)(Update::Succeeded(json!("done")));
    let described = running.await.unwrap().unwrap();
    assert_eq!(described.status.name(), "SUCCEEDED");
    assert!(described.about.arn.contains(":express:m:"));

    let running = tokio::spawn({
        let (executions, start) = (Arc::clone(&world.executions), unnamed(Arc::clone(&express)));
        async move { executions.run_express(start).await }
    });
    let _attempt = world.tasks.recv().await.unwrap();
    clock.advance(Duration::from_secs(301));
    let described = running.await.unwrap().unwrap();
    assert_eq!(described.status.name(), "TIMED_OUT");

    // One that nobody waits for is run again by the next server.
    let started = world
        .executions
        .start_express(unnamed(revision))
        .await
        .unwrap();
    let _attempt = world.tasks.recv().await.unwrap();
    // It still runs in this process, so the next server gets what a dead one would have left.
    let left = tempfile::tempdir().unwrap();
    copy(dir.path(), left.path());
    let mut world = World::open(left.path(), &clock).await;
    world.executions.restart_express().await.unwrap();
    let again = world.tasks.recv().await.unwrap();
    assert_eq!(again.call.execution_arn, started.arn);
    (again.report)(Update::Succeeded(json!({})));
    while !world
        .store
        .table("states-executions")
        .unwrap()
        .keys(record::EXPRESS, None, 1)
        .unwrap()
        .is_empty()
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.clock.now(), clock.now());
}

#[tokio::test]
async fn redrive_takes_up_what_failed_also_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut world = World::open(dir.path(), &clock).await;
    let arn = world.start(task(), "{}").await;
    let attempt = world.tasks.recv().await.unwrap();
    (attempt.report)(Update::Failed(Failure::new("Boom", "bang")));
    world.executions.ended(&arn).await.unwrap();
    let failed = world.events(&arn);
    let token = Some("t".to_owned());
    let at = world.executions.redrive(&arn, token.clone()).await.unwrap();
    assert_eq!(world.executions.redrive(&arn, token).await.unwrap(), at);
    assert!(world.executions.redrive(&arn, None).await.is_err());
    let attempt = world.tasks.recv().await.unwrap();
    assert!(attempt.resumed.is_none());
    let described = world.executions.describe(&arn).unwrap().unwrap();
    assert_eq!(
        (described.about.redrives, described.status),
        (1, Status::Running)
    );
    drop(attempt);
    world.die();
    let mut world = World::open(dir.path(), &clock).await;
    world.executions.start_all().await.unwrap();
    let attempt = world.tasks.recv().await.unwrap();
    assert_eq!(attempt.resumed, Some(None));
    (attempt.report)(Update::Succeeded(json!("done")));
    let ended = world.executions.ended(&arn).await.unwrap().unwrap();
    assert_eq!(ended.status.name(), "SUCCEEDED");
    let events = world.events(&arn);
    assert!(events.starts_with(&failed));
    assert_eq!(
        events[failed.len()..],
        [
            "ExecutionRedriven",
            "LambdaFunctionScheduled",
            "LambdaFunctionStarted",
            "LambdaFunctionSucceeded",
            "TaskStateExited",
            "ExecutionSucceeded"
        ]
    );
    assert!(world.executions.redrive(&arn, None).await.is_err());
}

#[tokio::test]
async fn pages_of_a_history_make_it_up_in_both_directions() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), &clock()).await;
    let definition = json!({"StartAt": "M", "States": {"M": {
        "Type": "Map", "MaxConcurrency": 1, "End": true, "ItemProcessor": task(),
    }}});
    let arn = world
        .start(definition, &json!(vec![0; 50]).to_string())
        .await;
    for _ in 0..50 {
        let attempt = world.tasks.recv().await.unwrap();
        (attempt.report)(Update::Succeeded(json!({})));
    }
    world.executions.ended(&arn).await.unwrap();
    let ids = |limit: usize, newest_first: bool| {
        let (mut ids, mut from) = (Vec::new(), None);
        loop {
            let page = world
                .executions
                .history(&arn, from, limit, newest_first)
                .unwrap()
                .unwrap();
            assert!(page.events.len() <= limit);
            ids.extend(page.events.iter().map(|event| event.id));
            match page.next {
                None => return ids,
                next => from = next.map(|place| place.to_string().parse().unwrap()),
            }
        }
    };
    let all = ids(1_000, false);
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
    assert!(all.len() > 300);
    assert_eq!(ids(7, false), all);
    assert_eq!(ids(1, false), all);
    let back: Vec<u64> = all.iter().rev().copied().collect();
    assert_eq!(ids(1_000, true), back);
    assert_eq!(ids(7, true), back);
}

#[tokio::test]
async fn history_goes_after_90_days() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut world = World::open(dir.path(), &clock).await;
    let old = world.start(passes(), "{}").await;
    clock.advance(Duration::from_secs(60 * 86_400));
    let young = world.start(passes(), "{}").await;
    let running = world.start(task(), "{}").await;
    clock.advance(Duration::from_secs(31 * 86_400));
    world.executions.clear().await.unwrap();
    assert!(world.executions.describe(&old).unwrap().is_none());
    assert_eq!(world.events(&young).len(), 8);
    let listed = world
        .executions
        .list(MACHINE, &Filter::default(), None, 10)
        .unwrap();
    assert_eq!(listed.executions.len(), 2);
    let attempt = world.tasks.recv().await.unwrap();
    (attempt.report)(Update::Succeeded(json!({})));
    let ended = world.executions.ended(&running).await.unwrap().unwrap();
    assert_eq!(ended.status.name(), "SUCCEEDED");
}

#[tokio::test]
async fn turn_that_would_go_otherwise_today_ends_the_execution() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut world = World::open(dir.path(), &clock).await;
    let arn = world.start(task(), "{}").await;
    world.tasks.recv().await.unwrap();
    let seen = world.events(&arn);
    // Another interpreter wrote it: one that told of an event less.
    let table = world.store.table("states-executions").unwrap();
    let stored = table.scan(record::TURNS, None, 1).unwrap().remove(0);
    let mut turn: record::Turn = record::decode(&stored.value).unwrap();
    turn.events.pop();
    let value = record::encode(&turn).unwrap();
    table
        .put(&stored.key, value, store::Expect::Any)
        .await
        .unwrap();
    drop(table);
    world.die();
    let world = World::open(dir.path(), &clock).await;
    world.executions.start_all().await.unwrap();
    let ended = world.executions.ended(&arn).await.unwrap().unwrap();
    let Status::Failed { error, cause, .. } = ended.status else {
        panic!("{:?}", ended.status)
    };
    assert_eq!(error.as_deref(), Some("States.Runtime"));
    assert!(cause.unwrap().contains("version of firn"));
    let events = world.events(&arn);
    assert_eq!(events[..seen.len() - 1], seen[..seen.len() - 1]);
    assert_eq!(events.last().unwrap(), "ExecutionAborted");
}

#[tokio::test]
async fn worker_is_sent_away_when_the_server_ends() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &clock()).await;
    let waiting = tokio::spawn({
        let executions = Arc::clone(&world.executions);
        async move { executions.fetch("a", None).await }
    });
    tokio::task::yield_now().await;
    world.executions.close_queues();
    assert_eq!(waiting.await.unwrap().unwrap(), None);
    assert_eq!(world.executions.fetch("a", None).await.unwrap(), None);
}

#[tokio::test]
async fn execution_goes_on_when_its_client_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), &clock()).await;
    // From now on a start waits for nothing but its own write.
    world.start(passes(), "{}").await;
    let revision = world.machines.add_for_test(MACHINE, &task()).await;
    let gone = futures_util::FutureExt::now_or_never(world.executions.start(unnamed(revision)));
    assert!(gone.is_none(), "it is dropped while it writes");
    let attempt = world.tasks.recv().await.unwrap();
    (attempt.report)(Update::Succeeded(json!({})));
    let ended = world.executions.ended(&attempt.about.arn).await.unwrap();
    assert_eq!(ended.unwrap().status.name(), "SUCCEEDED");
}

#[tokio::test]
async fn task_of_a_worker_that_has_gone_is_the_next_ones() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &clock()).await;
    let activity = "arn:aws:states:eu-west-1:123456789012:activity:a";
    let definition = json!({"StartAt": "T", "States": {"T": {
        "Type": "Task", "Resource": activity, "End": true,
    }}});
    {
        let mut gone = Box::pin(world.executions.fetch(activity, None));
        assert!(futures_util::FutureExt::now_or_never(&mut gone).is_none());
        // The task is handed to it, but it is never asked again.
        world.start(definition, "{}").await;
    }
    let fetched = world.executions.fetch(activity, None).await.unwrap();
    assert!(fetched.is_some());
}

#[tokio::test]
async fn second_stop_gets_the_answer_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), &clock()).await;
    let arn = world.start(task(), "{}").await;
    world.tasks.recv().await.unwrap();
    let stops = (0..10).map(|_| async {
        // Some come while the first one's end is being written.
        tokio::task::yield_now().await;
        world.executions.stop(&arn, Failure::new("E", "c")).await
    });
    let outcomes = futures_util::future::join_all(stops).await;
    let first = outcomes[0].as_ref().unwrap();
    assert!(first.is_some());
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.as_ref().unwrap() == first)
    );
}
