use std::path::Path;
use std::time::Duration;

use clock::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;

use super::objects::memory::{Kept, objects};
use super::*;
use crate::executions::{self, Attempt, Filter, Start};
use crate::machines::Target;
use crate::observe::Observer;

/// What takes longer does not come any more.
const SOON: Duration = Duration::from_secs(30);
const MACHINE: &str = "arn:aws:states:eu-west-1:123456789012:stateMachine:m";

/// Executions and their map runs on a store of their own, with tasks that the test answers.
struct World {
    runs: Arc<MapRuns>,
    executions: Arc<Executions>,
    machines: Arc<Machines>,
    tasks: mpsc::UnboundedReceiver<Attempt>,
}

impl World {
    fn open(dir: &Path, clock: &Clock, kept: &Kept) -> Self {
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
                // Nobody listens in some tests.
                let _ = told.send(attempt);
            })
        }));
        let runs = MapRuns::open(
            &store,
            clock.clone(),
            Arc::clone(&executions),
            Arc::clone(&machines),
            objects(kept, 7),
        )
        .unwrap();
        Self {
            runs,
            executions,
            machines,
            tasks,
        }
    }

    async fn begin(&self, map: Value, input: Value) -> String {
        let definition = json!({"StartAt": "M", "States": {"M": map}});
        let started = self
            .executions
            .start(Start {
                target: Target {
                    revision: self.machines.add_for_test(MACHINE, &definition).await,
                    version_arn: None,
                    alias_arn: None,
                    test_case: None,
                },
                name: None,
                input_text: input.to_string().into(),
                input: Arc::new(input),
                trace_header: None,
                map_run_arn: None,
            })
            .await;
        started.unwrap().arn
    }

    async fn ended(&self, arn: &str) -> executions::Status {
        let ended = tokio::time::timeout(SOON, self.executions.ended(arn)).await;
        let ended = ended.unwrap_or_else(|_| panic!("no end: {:?}", self.events(arn)));
        ended.unwrap().unwrap().status
    }

    /// The next task that is to be answered.
    async fn task(&mut self) -> Attempt {
        let task = tokio::time::timeout(SOON, self.tasks.recv()).await;
        task.expect("a task should have begun").unwrap()
    }

    async fn run(&self, map: Value, input: Value) -> Value {
        let arn = self.begin(map, input).await;
        match self.ended(&arn).await {
            executions::Status::Succeeded { output, .. } => (*output).clone(),
            other => panic!("{other:?}"),
        }
    }

    async fn fail(&self, map: Value, input: Value) -> (String, String) {
        let arn = self.begin(map, input).await;
        match self.ended(&arn).await {
            executions::Status::Failed { error, cause, .. } => (error.unwrap(), cause.unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn only_run(&self, execution_arn: &str) -> Described {
        let mut runs = self.runs.list(execution_arn, None, 10).unwrap();
        assert_eq!(runs.len(), 1);
        runs.remove(0).1
    }

    fn events(&self, arn: &str) -> Vec<String> {
        let page = self.executions.history(arn, None, 1_000, false).unwrap();
        let events = page.unwrap().events;
        events.iter().map(|event| event.kind.type_name()).collect()
    }
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_secs(1_763_000_000))
}

fn map(kind: &str, states: Value, fields: Value) -> Value {
    let mut map = json!({
        "Type": "Map",
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": kind},
            "StartAt": "P",
            "States": states,
        },
        "End": true,
    });
    for (name, value) in fields.as_object().unwrap() {
        map[name] = value.clone();
    }
    map
}

fn pass() -> Value {
    json!({"P": {"Type": "Pass", "End": true}})
}

/// Fails for items that are 0.
fn picky() -> Value {
    json!({
        "P": {"Type": "Choice", "Choices": [{"Variable": "$", "NumericEquals": 0, "Next": "F"}],
            "Default": "S"},
        "F": {"Type": "Fail", "Error": "Zero", "Cause": "because"},
        "S": {"Type": "Succeed"},
    })
}

fn task() -> Value {
    json!({"P": {"Type": "Task", "End": true,
        "Resource": "arn:aws:lambda:eu-west-1:123456789012:function:f"}})
}

#[tokio::test]
async fn children_of_both_kinds_give_their_outputs_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &clock(), &Kept::default());
    for kind in ["STANDARD", "EXPRESS"] {
        let items: Value = (0..500).collect();
        let arn = world
            .begin(map(kind, pass(), json!({"Label": "L"})), items.clone())
            .await;
        let executions::Status::Succeeded { output, .. } = world.ended(&arn).await else {
            panic!("{:?}", world.ended(&arn).await)
        };
        assert_eq!(*output, items);
        let events = world.events(&arn);
        assert_eq!(
            events[2..6],
            [
                "MapStateStarted",
                "MapRunStarted",
                "MapRunSucceeded",
                "MapStateSucceeded"
            ]
        );
        let run = world.only_run(&arn);
        assert!(matches!(run.status, Status::Succeeded(_)));
        assert_eq!(run.machine_arn, format!("{MACHINE}/L"));
        let begins = "arn:aws:states:eu-west-1:123456789012:mapRun:m/L:";
        assert!(run.arn.starts_with(begins), "{}", run.arn);
        assert_eq!(world.runs.describe(&run.arn).unwrap(), Some(run.clone()));
        let tally = run.counts.children;
        assert_eq!(
            (tally.total, tally.succeeded, tally.results_written),
            (500, 500, 500)
        );
        assert_eq!((tally.running, tally.pending()), (0, 0));
        let children = world
            .executions
            .list(&run.arn, &Filter::default(), None, 1_000)
            .unwrap();
        assert_eq!(
            children.executions.len(),
            if kind == "STANDARD" { 500 } else { 0 }
        );
    }
}

#[tokio::test]
async fn nothing_to_do_succeeds_with_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &clock(), &Kept::default());
    let output = world
        .run(map("EXPRESS", pass(), json!({})), json!([]))
        .await;
    assert_eq!(output, json!([]));
}

#[tokio::test]
async fn object_is_a_dataset_of_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &clock(), &Kept::default());
    let output = world
        .run(map("EXPRESS", pass(), json!({})), json!({"a": 1, "b": 2}))
        .await;
    assert_eq!(
        output,
        json!([{"Key": "a", "Value": 1}, {"Key": "b", "Value": 2}])
    );
}

#[tokio::test]
async fn items_are_selected_and_batched() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &clock(), &Kept::default());
    let fields = json!({
        "ItemsPath": "$.items",
        "ItemSelector": {"i.$": "$$.Map.Item.Index", "s.$": "$$.Map.Item.Source", "all.$": "$.x"},
        "ItemBatcher": {"MaxItemsPerBatch": 2, "BatchInput": {"name.$": "$.x"}},
    });
    let input = json!({"items": [7, 8, 9], "x": "y"});
    let arn = world.begin(map("EXPRESS", pass(), fields), input).await;
    let executions::Status::Succeeded { output, .. } = world.ended(&arn).await else {
        panic!("{:?}", world.ended(&arn).await)
    };
    let item = |i: u64| json!({"i": i, "s": "STATE_DATA", "all": "y"});
    let batch = |items: Vec<Value>| json!({"BatchInput": {"name": "y"}, "Items": items});
    assert_eq!(
        *output,
        json!([batch(vec![item(0), item(1)]), batch(vec![item(2)])])
    );
    let counts = world.only_run(&arn).counts;
    assert_eq!((counts.children.total, counts.items.total), (2, 3));
    assert_eq!(counts.items.succeeded, 3);
}

#[tokio::test]
async fn item_reader_failure_ends_the_run_in_the_words_of_aws() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Kept::default();
    let key = ("b".to_owned(), "f.csv".to_owned());
    kept.lock().unwrap().insert(key, b"1,2\n".to_vec());
    let world = World::open(dir.path(), &clock(), &kept);
    let fields = json!({"ItemReader": {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "GIVEN", "CSVHeaders": ["a", "a"]},
        "Parameters": {"Bucket": "b", "Key": "f.csv"},
    }});
    let arn = world
        .begin(map("STANDARD", pass(), fields), json!({}))
        .await;
    let executions::Status::Failed { error, cause, .. } = world.ended(&arn).await else {
        panic!("{:?}", world.ended(&arn).await)
    };
    assert_eq!(error.as_deref(), Some("States.ItemReaderFailed"));
    assert_eq!(
        cause.as_deref(),
        Some("CSV headers cannot contain duplicates.")
    );
    let events = world.events(&arn);
    let expected = [
        "MapRunStarted",
        "MapRunFailed",
        "MapStateFailed",
        "ExecutionFailed",
    ];
    assert_eq!(events[3..], expected);
}

#[tokio::test]
async fn failures_are_tolerated_up_to_a_limit_and_told_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &clock(), &Kept::default());
    for kind in ["STANDARD", "EXPRESS"] {
        let (error, cause) = world
            .fail(map(kind, picky(), json!({})), json!([1, 0, 2]))
            .await;
        assert_eq!(error, "States.ExceedToleratedFailureThreshold");
        assert_eq!(
            cause,
            "The specified tolerated failure threshold was exceeded"
        );
        let fields = json!({"ToleratedFailureCount": 1});
        let output = world
            .run(map(kind, picky(), fields), json!([1, 0, 2]))
            .await;
        assert_eq!((&output[0], &output[2]), (&json!(1), &json!(2)));
        assert_eq!(output[1]["Status"], "FAILED");
        assert_eq!(
            (&output[1]["Error"], &output[1]["Cause"]),
            (&json!("Zero"), &json!("because"))
        );
        assert_eq!(output[1]["Input"], "0");
        let fields = json!({"ToleratedFailurePercentage": 30});
        let (error, _) = world
            .fail(map(kind, picky(), fields), json!([1, 0, 2]))
            .await;
        assert_eq!(error, "States.ExceedToleratedFailureThreshold");
    }
}

#[tokio::test]
async fn results_that_are_too_large_for_a_state_fail_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &clock(), &Kept::default());
    let big = json!({"P": {"Type": "Pass", "Result": "x".repeat(100_000), "End": true}});
    let (error, cause) = world
        .fail(map("EXPRESS", big, json!({})), json!([1, 2, 3]))
        .await;
    assert_eq!(error, "States.DataLimitExceeded");
    assert!(cause.contains("'M'"), "{cause}");
}

fn writer(fields: Value) -> Value {
    let mut fields = fields;
    fields["ResultWriter"] = json!({
        "Resource": "arn:aws:states:::s3:putObject",
        "Parameters": {"Bucket": "out", "Prefix": "p"},
    });
    fields
}

fn file(kept: &Kept, key: &str) -> Value {
    let place = ("out".to_owned(), key.to_owned());
    serde_json::from_slice(&kept.lock().unwrap()[&place]).unwrap()
}

#[tokio::test]
async fn results_are_written_by_status_with_a_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Kept::default();
    let world = World::open(dir.path(), &clock(), &kept);
    let fields = writer(json!({"ToleratedFailureCount": 5}));
    let arn = world
        .begin(map("STANDARD", picky(), fields), json!([1, 0, 2]))
        .await;
    let executions::Status::Succeeded { output, .. } = world.ended(&arn).await else {
        panic!("{:?}", world.ended(&arn).await)
    };
    let run = world.only_run(&arn);
    let id = run.arn.rsplit(':').next().unwrap();
    let key = format!("p/{id}/manifest.json");
    let expected = json!({"MapRunArn": run.arn,
        "ResultWriterDetails": {"Bucket": "out", "Key": key}});
    assert_eq!(*output, expected);
    let manifest = file(&kept, &key);
    assert_eq!(manifest["DestinationBucket"], "out");
    assert_eq!(manifest["ResultFiles"]["PENDING"], json!([]));
    let listed = &manifest["ResultFiles"]["SUCCEEDED"][0];
    assert_eq!(listed["Key"], format!("p/{id}/SUCCEEDED_0.json"));
    let succeeded = file(&kept, listed["Key"].as_str().unwrap());
    assert_eq!(succeeded.as_array().unwrap().len(), 2);
    let first = &succeeded[0];
    assert_eq!(
        (&first["Status"], &first["Output"]),
        (&json!("SUCCEEDED"), &json!(first["Input"]))
    );
    let name = first["Name"].as_str().unwrap();
    let child = format!(
        "arn:aws:states:eu-west-1:123456789012:execution:{}:{name}",
        run.machine_arn.rsplit(':').next().unwrap()
    );
    assert_eq!(first["ExecutionArn"], child);
    assert!(world.executions.describe(&child).unwrap().is_some());
    let failed = file(&kept, &format!("p/{id}/FAILED_0.json"));
    assert_eq!(failed[0]["Error"], "Zero");
}

#[tokio::test]
async fn run_that_fails_writes_what_it_has_and_what_is_pending() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Kept::default();
    let world = World::open(dir.path(), &clock(), &kept);
    let fields = writer(json!({"MaxConcurrency": 1}));
    let arn = world
        .begin(map("EXPRESS", picky(), fields), json!([1, 0, 2]))
        .await;
    assert_eq!(world.ended(&arn).await.name(), "FAILED");
    let run = world.only_run(&arn);
    let id = run.arn.rsplit(':').next().unwrap();
    let class = |class: &str| file(&kept, &format!("p/{id}/{class}_0.json"));
    assert_eq!(class("SUCCEEDED").as_array().unwrap().len(), 1);
    assert_eq!(class("FAILED")[0]["Input"], "0");
    assert_eq!(class("PENDING")[0]["Input"], "2");
    assert_eq!(run.counts.children.pending(), 1);
}

#[tokio::test]
async fn no_more_children_run_at_once_than_may_also_when_that_changes() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), &clock(), &Kept::default());
    let items: Value = (0..6).collect();
    let arn = world
        .begin(
            map("STANDARD", task(), json!({"MaxConcurrency": 2})),
            items.clone(),
        )
        .await;
    let first = world.task().await;
    let second = world.task().await;
    let run = world.only_run(&arn);
    assert_eq!(
        (run.counts.children.running, run.counts.children.pending()),
        (2, 4)
    );
    assert!(world.tasks.try_recv().is_err());
    let change = Change {
        max_concurrency: Some(4),
        ..Change::default()
    };
    assert!(world.runs.update(&run.arn, change).await.unwrap());
    let third = world.task().await;
    let fourth = world.task().await;
    assert!(world.tasks.try_recv().is_err());
    for attempt in [first, second, third, fourth] {
        let input = (*attempt.call.input).clone();
        (attempt.report)(integrations::Update::Succeeded(input));
    }
    for _ in 0..2 {
        let attempt = world.task().await;
        let input = (*attempt.call.input).clone();
        (attempt.report)(integrations::Update::Succeeded(input));
    }
    let executions::Status::Succeeded { output, .. } = world.ended(&arn).await else {
        panic!("{:?}", world.ended(&arn).await)
    };
    assert_eq!(*output, items);
    assert!(!world.runs.update(&run.arn, change).await.unwrap());
}

#[tokio::test]
async fn end_of_the_execution_aborts_the_run_and_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), &clock(), &Kept::default());
    let arn = world
        .begin(
            map("STANDARD", task(), json!({"MaxConcurrency": 2})),
            json!([1, 2, 3]),
        )
        .await;
    let child = world.task().await.about.arn.clone();
    world.task().await;
    let nothing = Failure {
        error: None,
        cause: None,
    };
    world.executions.stop(&arn, nothing).await.unwrap();
    assert_eq!(world.ended(&child).await.name(), "ABORTED");
    let run = loop {
        let run = world.only_run(&arn);
        if run.status != Status::Running {
            break run;
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(run.status, Status::Aborted(_)));
    assert_eq!(
        (run.counts.children.aborted, run.counts.children.pending()),
        (2, 1)
    );
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

#[tokio::test]
async fn run_goes_on_after_a_crash_without_losing_or_doubling_a_result() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let kept = Kept::default();
    let mut world = World::open(dir.path(), &clock, &kept);
    let items: Value = (0..30).collect();
    let arn = world
        .begin(
            map("STANDARD", task(), json!({"MaxConcurrency": 10})),
            items.clone(),
        )
        .await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(world.task().await);
    }
    // Some end before the crash; others begin in their places.
    for attempt in waiting.drain(..4) {
        let input = (*attempt.call.input).clone();
        (attempt.report)(integrations::Update::Succeeded(input));
    }
    for _ in 0..4 {
        world.task().await;
    }
    let before = world.only_run(&arn);
    // What the disk holds in this moment is what a `kill -9` would leave.
    let after = tempfile::tempdir().unwrap();
    copy(dir.path(), after.path());
    let mut world = World::open(after.path(), &clock, &kept);
    world.executions.start_all().await.unwrap();
    world.runs.start().await.unwrap();
    let mut ran = 0;
    loop {
        tokio::select! {
            attempt = world.tasks.recv() => {
                let attempt = attempt.unwrap();
                ran += 1;
                let input = (*attempt.call.input).clone();
                (attempt.report)(integrations::Update::Succeeded(input));
            }
            ended = world.executions.ended(&arn) => {
                assert_eq!(ended.unwrap().unwrap().status.name(), "SUCCEEDED");
                break;
            }
        }
    }
    let executions::Status::Succeeded { output, .. } = world.ended(&arn).await else {
        panic!("{:?}", world.ended(&arn).await)
    };
    assert_eq!(*output, items);
    assert!((20..=30).contains(&ran), "{ran}");
    let run = world.only_run(&arn);
    assert_eq!((&run.arn, run.start), (&before.arn, before.start));
    assert_eq!(run.counts.children.succeeded, 30);
    let events = world.events(&arn);
    let started = events
        .iter()
        .filter(|event| *event == "MapRunStarted")
        .count();
    assert_eq!(started, 1);
}

#[tokio::test]
async fn express_run_goes_on_after_a_crash_with_what_has_not_ended() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let kept = Kept::default();
    let mut world = World::open(dir.path(), &clock, &kept);
    let fields = json!({"ItemBatcher": {"MaxItemsPerBatch": 3}, "MaxConcurrency": 2});
    let items: Value = (0..10).collect();
    let arn = world.begin(map("EXPRESS", task(), fields), items).await;
    for _ in 0..2 {
        let attempt = world.task().await;
        let input = (*attempt.call.input).clone();
        (attempt.report)(integrations::Update::Succeeded(input));
    }
    world.task().await;
    let after = tempfile::tempdir().unwrap();
    copy(dir.path(), after.path());
    let mut world = World::open(after.path(), &clock, &kept);
    world.executions.start_all().await.unwrap();
    world.runs.start().await.unwrap();
    let answers = async {
        while let Some(attempt) = world.tasks.recv().await {
            let input = (*attempt.call.input).clone();
            (attempt.report)(integrations::Update::Succeeded(input));
        }
    };
    let ended = world.executions.ended(&arn);
    tokio::select! {
        () = answers => panic!("tasks end with the world"),
        ended = ended => {
            let executions::Status::Succeeded { output, .. } = ended.unwrap().unwrap().status else {
                panic!("it should have succeeded")
            };
            let sizes: Vec<usize> = output.as_array().unwrap().iter()
                .map(|batch| batch["Items"].as_array().unwrap().len()).collect();
            assert_eq!(sizes, [3, 3, 3, 1]);
            assert_eq!(output[3]["Items"], json!([9]));
        }
    }
    assert_eq!(world.only_run(&arn).counts.items.succeeded, 10);
}

#[tokio::test]
async fn run_whose_execution_is_over_is_aborted_when_the_server_starts() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let kept = Kept::default();
    let mut world = World::open(dir.path(), &clock, &kept);
    let arn = world
        .begin(map("STANDARD", task(), json!({})), json!([1, 2]))
        .await;
    let child = world.task().await.about.arn.clone();
    world.task().await;
    let run = world.only_run(&arn);
    // The run is on disk, and no execution claims it: as if the server died between the two ends.
    let after = tempfile::tempdir().unwrap();
    copy(dir.path(), after.path());
    let world = World::open(after.path(), &clock, &kept);
    world.runs.start().await.unwrap();
    assert!(matches!(world.only_run(&arn).status, Status::Aborted(_)));
    assert_eq!(world.ended(&child).await.name(), "ABORTED");
    assert_eq!(world.only_run(&arn).arn, run.arn);
}

#[tokio::test]
async fn redrive_runs_again_what_did_not_succeed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), &clock(), &Kept::default());
    for kind in ["STANDARD", "EXPRESS"] {
        let items: Value = (0..4).collect();
        let fields = json!({"MaxConcurrency": 1});
        let arn = world.begin(map(kind, task(), fields), items.clone()).await;
        let mut names = Vec::new();
        for child in 0..2 {
            let attempt = world.task().await;
            names.push(attempt.about.name.clone());
            let update = match child {
                0 => integrations::Update::Succeeded((*attempt.call.input).clone()),
                _ => integrations::Update::Failed(Failure::new("Broken", "once")),
            };
            (attempt.report)(update);
        }
        assert_eq!(world.ended(&arn).await.name(), "FAILED");
        let failed = world.only_run(&arn);
        assert_eq!(
            (
                failed.counts.children.failed,
                failed.counts.children.pending()
            ),
            (1, 2)
        );
        let redriven = world.executions.redrive(&arn, None);
        tokio::time::timeout(SOON, redriven).await.unwrap().unwrap();
        for child in 1..4 {
            let attempt = world.task().await;
            let input = (*attempt.call.input).clone();
            assert_eq!(input, json!(child));
            if child == 1 {
                let same = attempt.about.name == names[1];
                assert_eq!(
                    same,
                    kind == "STANDARD",
                    "standard children stay what they are"
                );
            }
            (attempt.report)(integrations::Update::Succeeded(input));
        }
        let executions::Status::Succeeded { output, .. } = world.ended(&arn).await else {
            panic!("{:?}", world.ended(&arn).await)
        };
        assert_eq!(*output, items);
        let run = world.only_run(&arn);
        assert_eq!((&run.arn, run.redrives), (&failed.arn, 1));
        assert_eq!(
            (run.counts.children.succeeded, run.counts.children.failed),
            (4, 0)
        );
        let events = world.events(&arn);
        let redriven = events.iter().position(|event| event == "MapRunRedriven");
        assert!(redriven > events.iter().position(|event| event == "ExecutionRedriven"));
    }
}

#[tokio::test]
async fn forgotten_runs_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &clock(), &Kept::default());
    let arn = world
        .begin(map("EXPRESS", pass(), json!({})), json!([1, 2]))
        .await;
    world.ended(&arn).await;
    assert!(!world.runs.table.keys("", None, 10).unwrap().is_empty());
    world.runs.forget(&arn).await.unwrap();
    assert!(world.runs.table.keys("", None, 10).unwrap().is_empty());
}

/// How long a large map takes. Not a check: machines differ. Run it with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn hundred_thousand_items() {
    for kind in ["EXPRESS", "STANDARD"] {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::default();
        let world = World::open(dir.path(), &Clock::system(), &kept);
        let lines: String = (0..100_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let key = ("b".to_owned(), "f.jsonl".to_owned());
        kept.lock().unwrap().insert(key, lines.into_bytes());
        let fields = writer(json!({"ItemReader": {
            "Resource": "arn:aws:states:::s3:getObject",
            "ReaderConfig": {"InputType": "JSONL"},
            "Parameters": {"Bucket": "b", "Key": "f.jsonl"},
        }}));
        let begun = std::time::Instant::now();
        let arn = world.begin(map(kind, pass(), fields), json!({})).await;
        let status = world.executions.ended(&arn).await.unwrap().unwrap().status;
        let took: Duration = begun.elapsed();
        assert_eq!(status.name(), "SUCCEEDED", "{status:?}");
        assert_eq!(world.only_run(&arn).counts.children.succeeded, 100_000);
        println!("{kind}: 100,000 children in {took:?}");
    }
}
