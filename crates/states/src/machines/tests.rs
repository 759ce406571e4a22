use std::sync::Arc;

use asl::Definition;
use clock::{Clock, Timestamp};
use protocol::{Caller, Principal};
use store::Store;
use tempfile::TempDir;

use super::*;

const PASS: &str = r#"{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}"#;
const MACHINE: &str = "arn:aws:states:eu-west-1:123456789012:stateMachine:m";

fn open(dir: &TempDir) -> Machines {
    let clock = Clock::manual(Timestamp::from_secs(1_000));
    let store = Store::open(dir.path(), clock).unwrap();
    Machines::open(&store).unwrap()
}

fn caller() -> Caller {
    let (account, region) = (
        "123456789012".parse().unwrap(),
        "eu-west-1".parse().unwrap(),
    );
    Caller {
        principal: Principal::root(account, &region),
        account,
        region,
        access_key: None,
        request_id: String::new(),
    }
}

fn revision(id: &str, definition: &str) -> Revision {
    Revision {
        id: id.to_owned(),
        machine_arn: MACHINE.to_owned(),
        machine_name: "m".to_owned(),
        kind: Kind::Standard,
        role_arn: "arn:aws:iam::123456789012:role/r".to_owned(),
        definition_text: definition.into(),
        definition: Arc::new(Definition::parse(definition).unwrap()),
        logging: None,
        tracing: false,
        created: Timestamp::from_secs(1_000),
        first: id == "r1",
    }
}

/// Makes or updates the machine, so that it names this revision.
async fn put(machines: &Machines, id: &str, publish: bool) {
    let changed = machines.change(MACHINE, |before| {
        let now = Timestamp::from_secs(1_000);
        let mut machine = before.cloned().unwrap_or_else(|| {
            let (arn, name) = (MACHINE.to_owned(), "m".to_owned());
            Machine::new(arn, name, Kind::Standard, id.to_owned(), now)
        });
        id.clone_into(&mut machine.revision);
        if publish {
            machine.publish(None, now);
        }
        Ok(Change {
            machine: Some(machine),
            revision: Some(revision(id, PASS)),
            result: (),
        })
    });
    changed.await.unwrap();
}

fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn versions_and_aliases_lead_to_their_revisions_also_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let machines = open(&dir);
    put(&machines, "r1", true).await;
    put(&machines, "r2", true).await;
    put(&machines, "r3", false).await;
    let aliased = machines.change(MACHINE, |machine| {
        let mut machine = machine.cloned().unwrap();
        let now = Timestamp::from_secs(1_000);
        let alias = Alias {
            description: None,
            routes: vec![Route {
                version: 2,
                weight: 100,
            }],
            created: now,
            updated: now,
        };
        machine.aliases.insert("live".to_owned(), alias);
        Ok(Change {
            machine: Some(machine),
            revision: None,
            result: (),
        })
    });
    aliased.await.unwrap();
    drop(machines);

    let machines = open(&dir);
    let id = |suffix: &str| {
        let target = machines.resolve(&caller(), &format!("{MACHINE}{suffix}"));
        target.map(|target| target.revision.id.clone())
    };
    assert_eq!(id("").unwrap(), "r3");
    assert_eq!(id(":1").unwrap(), "r1");
    assert_eq!(id(":live#Test").unwrap(), "r2");
    let target = machines
        .resolve(&caller(), &format!("{MACHINE}:live#Test"))
        .unwrap();
    assert_eq!(target.version_arn, Some(format!("{MACHINE}:2")));
    assert_eq!(target.alias_arn, Some(format!("{MACHINE}:live")));
    assert_eq!(target.test_case.as_deref(), Some("Test"));
    for suffix in [":3", ":other", "x", "/Label"] {
        assert_eq!(
            message(id(suffix)),
            format!("State Machine Does Not Exist: '{MACHINE}{suffix}'")
        );
    }
    let mut elsewhere = caller();
    elsewhere.region = "eu-west-2".parse().unwrap();
    assert!(machines.resolve(&elsewhere, MACHINE).is_err());
    assert_eq!(machines.list(&caller()).len(), 1);
    assert!(machines.list(&elsewhere).is_empty());
}

#[tokio::test]
async fn a_machine_that_is_deleted_starts_nothing_and_goes_once() {
    let dir = TempDir::new().unwrap();
    let machines = open(&dir);
    put(&machines, "r1", false).await;
    // A machine that stays is none of its business.
    machines.finish_delete(MACHINE).await.unwrap();
    let held = machines.resolve(&caller(), MACHINE).unwrap().revision;
    let marked = machines.change(MACHINE, |machine| {
        let mut machine = machine.cloned().unwrap();
        machine.deleting = true;
        Ok(Change {
            machine: Some(machine),
            revision: None,
            result: (),
        })
    });
    marked.await.unwrap();
    assert!(machines.is_deleting(MACHINE));
    assert_eq!(
        message(machines.resolve(&caller(), MACHINE)),
        format!("State Machine is being deleted: '{MACHINE}'")
    );
    drop(machines);
    let machines = open(&dir);
    assert_eq!(machines.deleting(), [MACHINE]);
    machines.finish_delete(MACHINE).await.unwrap();
    assert!(machines.get(MACHINE).is_none());
    assert_eq!(machines.revision(&held.id).unwrap().id, held.id);
}

#[tokio::test]
async fn revisions_go_when_nothing_names_them() {
    let dir = TempDir::new().unwrap();
    let machines = open(&dir);
    put(&machines, "r1", true).await;
    for id in ["r2", "r3", "r4"] {
        put(&machines, id, false).await;
    }
    // r1 is a version, r2 an execution's that is recorded, r3 one's that begins, r4 the machine's.
    let beginning = machines.revision("r3").unwrap();
    assert_eq!(machines.sweep(|id| id == "r2").await.unwrap(), 0);
    drop(beginning);
    assert_eq!(machines.sweep(|id| id == "r2").await.unwrap(), 1);
    for id in ["r1", "r2", "r4"] {
        assert!(machines.revision(id).is_ok(), "{id}");
    }
    assert_eq!(
        message(machines.revision("r3")),
        "the stored revision of a state machine cannot be read"
    );
}

#[tokio::test]
async fn an_item_processor_is_a_machine_of_its_own() {
    let dir = TempDir::new().unwrap();
    let machines = open(&dir);
    let innermost = r#"{"StartAt":"C","States":{"C":{"Type":"Pass","End":true}}}"#;
    let inner = format!(
        r#"{{"ProcessorConfig":{{"Mode":"DISTRIBUTED","ExecutionType":"EXPRESS"}},"StartAt":"B","States":{{"B":{{"Type":"Map","ItemProcessor":{innermost},"End":true}}}}}}"#
    );
    let definition = format!(
        r#"{{"StartAt":"A","States":{{"A":{{"Type":"Map","ItemProcessor":{inner},"End":true}}}}}}"#
    );
    let parent = revision("r1", &definition);
    let made = machines.change(MACHINE, |_| {
        let (arn, name) = (MACHINE.to_owned(), "m".to_owned());
        let now = Timestamp::from_secs(1_000);
        Ok(Change {
            machine: Some(Machine::new(
                arn,
                name,
                Kind::Standard,
                "r1".to_owned(),
                now,
            )),
            revision: Some(parent.clone()),
            result: (),
        })
    });
    made.await.unwrap();
    let processor = |map: &str| {
        let state = parent.definition.states().find(|state| *state.name == *map);
        match &state.unwrap().kind {
            asl::definition::Kind::Map(map) => map.processor,
            other => panic!("{other:?} is no map"),
        }
    };
    let child = machines.derived(&parent, processor("A"), "label").unwrap();
    assert_eq!(child.machine_arn, format!("{MACHINE}/label"));
    assert_eq!(child.machine_name, "m/label");
    assert_eq!(child.kind, Kind::Express);
    assert_eq!(&*child.definition_text, inner);
    assert_eq!(child.definition.main(), processor("A"));
    let grandchild = machines.derived(&child, processor("B"), "deep").unwrap();
    assert_eq!(&*grandchild.definition_text, innermost);
    drop(machines);
    let machines = open(&dir);
    for revision in [child, grandchild] {
        let again = machines.revision(&revision.id).unwrap();
        assert_eq!(again.definition, revision.definition);
        assert_eq!(again.machine_arn, revision.machine_arn);
    }
    assert!(machines.revision("r1/9/label").is_err());
}

#[tokio::test]
async fn machines_are_read_in_the_form_that_was_written_first() {
    let dir = tempfile::tempdir().unwrap();
    let machines = open(&dir);
    put(&machines, "r1", true).await;
    let machine = machines.find(&caller(), MACHINE).unwrap();
    for prefix in ["m/", "r/"] {
        let stored = machines.table.scan(prefix, None, 10).unwrap();
        assert_eq!(stored.len(), 1, "{prefix}");
        for record in stored {
            let body = std::str::from_utf8(&record.value[1..]).unwrap();
            let first = format!(r#"{{"format":1,"body":{body}}}"#);
            let written = machines.table.put(record.key, first, Expect::Any).await;
            written.unwrap();
        }
    }
    drop(machines);
    let machines = open(&dir);
    assert_eq!(machines.find(&caller(), MACHINE), Some(machine));
    let target = machines.resolve(&caller(), &format!("{MACHINE}:1"));
    assert_eq!(&*target.unwrap().revision.definition_text, PASS);
}
