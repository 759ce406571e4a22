//! What readers and writers may rely on while the store is open.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clock::Clock;
use proptest::prelude::*;
use store::{Batch, Config, Error, Event, Expect, Record, Revision, Store, Table};

fn open(dir: &std::path::Path) -> Store {
    Store::open(dir, Clock::system()).unwrap()
}

#[tokio::test]
async fn a_record_is_read_back_and_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let revision = {
        let table = open(dir.path()).table("functions").unwrap();
        let revision = table.put("a", "1", Expect::Absent).await.unwrap();
        assert_eq!(table.get("a").unwrap().unwrap().value, "1");
        revision
    };
    let table = open(dir.path()).table("functions").unwrap();
    let record = table.get("a").unwrap().unwrap();
    assert_eq!(
        (record.value.as_ref(), record.revision),
        (b"1".as_slice(), revision)
    );
    assert!(table.put("b", "2", Expect::Any).await.unwrap() > revision);
}

#[tokio::test]
async fn tables_do_not_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (a, ab) = (store.table("a").unwrap(), store.table("ab").unwrap());
    a.put("key", "in a", Expect::Any).await.unwrap();
    ab.put("key", "in ab", Expect::Any).await.unwrap();
    assert_eq!(a.scan("", None, 10).unwrap().len(), 1);
    assert_eq!(ab.get("key").unwrap().unwrap().value, "in ab");
    assert!(store.table("no/slash").is_err());
}

#[tokio::test]
async fn of_many_who_create_a_record_exactly_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).table("t").unwrap();
    let attempts: Vec<_> = (0..64)
        .map(|n| {
            let table = table.clone();
            tokio::spawn(async move { table.put("one", n.to_string(), Expect::Absent).await })
        })
        .collect();
    let mut won = Vec::new();
    for (n, attempt) in attempts.into_iter().enumerate() {
        match attempt.await.unwrap() {
            Ok(_) => won.push(n.to_string()),
            Err(Error::Conflict {
                key,
                actual: Some(_),
            }) => assert_eq!(key, "one"),
            Err(err) => panic!("{err}"),
        }
    }
    assert_eq!(won.len(), 1);
    assert_eq!(table.get("one").unwrap().unwrap().value, won[0]);
}

#[tokio::test]
async fn concurrent_compare_and_put_counts_every_increment() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).table("t").unwrap();
    table.put("n", "0", Expect::Any).await.unwrap();
    let increment = |table: Table| async move {
        for _ in 0..20 {
            loop {
                let record = table.get("n").unwrap().unwrap();
                let n: u32 = std::str::from_utf8(&record.value).unwrap().parse().unwrap();
                let expect = Expect::Revision(record.revision);
                match table.put("n", (n + 1).to_string(), expect).await {
                    Ok(_) => break,
                    Err(Error::Conflict { .. }) => {}
                    Err(err) => panic!("{err}"),
                }
            }
        }
    };
    let tasks: Vec<_> = (0..8)
        .map(|_| tokio::spawn(increment(table.clone())))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(table.get("n").unwrap().unwrap().value, "160");
}

#[tokio::test]
async fn a_watch_hears_of_changes_below_its_prefix_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let table = store.table("t").unwrap();
    table.put("a/before", "x", Expect::Any).await.unwrap();
    let mut watch = table.watch("a/");
    let first = table.put("a/1", "one", Expect::Any).await.unwrap();
    table.put("b/1", "not below", Expect::Any).await.unwrap();
    store
        .table("u")
        .unwrap()
        .put("a/1", "another table", Expect::Any)
        .await
        .unwrap();
    table.delete("a/1", Expect::Revision(first)).await.unwrap();
    let Some(Event::Change(put)) = watch.next().await else {
        panic!()
    };
    let Some(Event::Change(delete)) = watch.next().await else {
        panic!()
    };
    assert_eq!(
        (put.key.as_ref(), put.value, put.revision),
        (b"a/1".as_slice(), Some("one".into()), first)
    );
    assert_eq!(
        (delete.key.as_ref(), delete.value),
        (b"a/1".as_slice(), None)
    );
    assert!(delete.revision > first);
    drop((table, store));
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn relaxed_writes_are_applied_in_order_with_all_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let table = store.table("t").unwrap();
    for n in 0..50 {
        table
            .write_relaxed(Batch::new().put("k", n.to_string(), Expect::Any))
            .unwrap();
    }
    table
        .write_relaxed(Batch::new().put("k", "refused", Expect::Absent))
        .unwrap();
    table.put("other", "x", Expect::Any).await.unwrap();
    assert_eq!(table.get("k").unwrap().unwrap().value, "49");
    table
        .write_relaxed(Batch::new().delete("k", Expect::Any))
        .unwrap();
    store.sync().await.unwrap();
    assert_eq!(table.get("k").unwrap(), None);
}

#[tokio::test]
async fn limits_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).table("t").unwrap();
    let long = vec![b'k'; 9 << 10];
    assert!(matches!(
        table.put(long, "v", Expect::Any).await,
        Err(Error::TooLarge { .. })
    ));
    let big = Bytes::from(vec![0; 17 << 20]);
    assert!(matches!(
        table.put("k", big, Expect::Any).await,
        Err(Error::TooLarge { .. })
    ));
    let twice = Batch::new()
        .put("k", "1", Expect::Any)
        .delete("k", Expect::Any);
    assert!(matches!(
        table.write(twice).await,
        Err(Error::DuplicateKey { .. })
    ));
}

#[tokio::test]
async fn a_second_open_of_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let refused = Store::open(dir.path(), Clock::system()).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }));
    assert!(
        refused.to_string().contains("in use by another process"),
        "{refused}"
    );
    drop(store);
    open(dir.path());
}

#[tokio::test]
async fn more_than_memory_is_kept_on_disk_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        memtable_bytes: 64 << 10,
        cache_bytes: 64 << 10,
        ..Config::default()
    };
    let open = || Store::open_with(dir.path(), Clock::system(), config.clone()).unwrap();
    let key = |n: u32| format!("{n:08}");
    {
        let table = open().table("t").unwrap();
        for chunk in 0..40u32 {
            let mut batch = Batch::new();
            for n in chunk * 100..(chunk + 1) * 100 {
                batch = batch.put(key(n), key(n).repeat(20), Expect::Absent);
            }
            table.write(batch).await.unwrap();
        }
    }
    let store = open();
    let table = store.table("t").unwrap();
    store.verify().unwrap();
    let mut after: Option<Bytes> = None;
    let mut seen = 0;
    loop {
        let page = table.scan("", after.as_deref(), 333).unwrap();
        let Some(last) = page.last() else { break };
        for record in &page {
            assert_eq!(record.key, key(seen));
            assert_eq!(record.value, key(seen).repeat(20));
            seen += 1;
        }
        after = Some(last.key.clone());
    }
    assert_eq!(seen, 4000);
}

mod logs {
    use super::*;

    fn values(range: std::ops::Range<u32>) -> Vec<Bytes> {
        range.map(|n| n.to_string().into()).collect()
    }

    fn texts(entries: &[store::Entry]) -> Vec<u32> {
        entries
            .iter()
            .map(|entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap())
            .collect()
    }

    #[tokio::test]
    async fn entries_are_read_forward_and_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path()).log("l").unwrap();
        assert_eq!(log.append("k", values(0..5)).await.unwrap(), 0);
        assert_eq!(log.append_relaxed("k", &values(5..10)).unwrap(), 5);
        log.append("kk", values(100..101)).await.unwrap();
        assert_eq!(
            texts(&log.read("k", 0, 100).unwrap()),
            (0..10).collect::<Vec<_>>()
        );
        assert_eq!(texts(&log.read("k", 4, 3).unwrap()), [4, 5, 6]);
        assert_eq!(texts(&log.read_back("k", u64::MAX, 3).unwrap()), [9, 8, 7]);
        assert_eq!(texts(&log.read_back("k", 2, 3).unwrap()), [1, 0]);
        assert_eq!(log.bounds("k").unwrap(), Some((0, 10)));
        assert_eq!(log.read("none", 0, 10).unwrap(), []);
        assert_eq!(log.bounds("none").unwrap(), None);
    }

    #[tokio::test]
    async fn relaxed_entries_are_readable_at_once_and_never_out_of_order() {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path()).log("l").unwrap();
        for n in 0..2000u32 {
            assert_eq!(
                log.append_relaxed("k", &values(n..n + 1)).unwrap(),
                u64::from(n)
            );
            let last = log.read_back("k", u64::MAX, 2).unwrap();
            assert_eq!(texts(&last)[0], n);
            if n % 500 == 0 {
                assert_eq!(
                    texts(&log.read("k", 0, 5000).unwrap()),
                    (0..=n).collect::<Vec<_>>()
                );
            }
        }
        drop(log);
        let log = open(dir.path()).log("l").unwrap();
        assert_eq!(
            texts(&log.read("k", 0, 5000).unwrap()),
            (0..2000).collect::<Vec<_>>()
        );
        assert_eq!(log.append("k", values(0..1)).await.unwrap(), 2000);
    }

    #[tokio::test]
    async fn a_deleted_log_begins_anew_and_its_entries_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let log = store.log("l").unwrap();
        for _ in 0..3 {
            log.append("k", values(0..1000)).await.unwrap();
        }
        let deleting = log.delete("k");
        assert!(deleting.await.unwrap());
        assert!(!log.delete("k").await.unwrap());
        assert_eq!(log.read("k", 0, 10).unwrap(), []);
        assert_eq!(log.append_relaxed("k", &values(7..8)).unwrap(), 0);
        assert_eq!(texts(&log.read("k", 0, 10).unwrap()), [7]);
        drop((log, store));
        let log = open(dir.path()).log("l").unwrap();
        assert_eq!(texts(&log.read("k", 0, 10).unwrap()), [7]);
    }

    #[tokio::test]
    async fn an_append_right_behind_a_delete_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path()).log("l").unwrap();
        for round in 0..20 {
            log.append("k", values(0..3)).await.unwrap();
            let (deleted, first) = tokio::join!(log.delete("k"), async {
                tokio::task::yield_now().await;
                log.append_relaxed("k", &values(round..round + 1))
            });
            assert!(deleted.unwrap());
            assert_eq!(first.unwrap(), 0);
            assert_eq!(texts(&log.read("k", 0, 10).unwrap()), [round]);
            log.delete("k").await.unwrap();
        }
    }

    #[tokio::test]
    async fn trimming_drops_the_oldest_and_keeps_the_sequences() {
        let dir = tempfile::tempdir().unwrap();
        {
            let log = open(dir.path()).log("l").unwrap();
            log.append("k", values(0..10)).await.unwrap();
            log.trim("k", 4).await.unwrap();
            assert_eq!(texts(&log.read("k", 0, 10).unwrap()), [4, 5, 6, 7, 8, 9]);
            log.trim("k", 2).await.unwrap();
            assert_eq!(log.bounds("k").unwrap(), Some((4, 10)));
            log.trim("k", 99).await.unwrap();
            assert_eq!(log.read("k", 0, 10).unwrap(), []);
        }
        let log = open(dir.path()).log("l").unwrap();
        assert_eq!(log.append("k", values(10..11)).await.unwrap(), 10);
        assert_eq!(texts(&log.read_back("k", u64::MAX, 10).unwrap()), [10]);
    }

    #[tokio::test]
    async fn a_backlog_beyond_the_limit_is_refused_and_leaves_no_gap() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            relaxed_bytes: 10_000,
            ..Config::default()
        };
        let store = Store::open_with(dir.path(), Clock::system(), config).unwrap();
        let log = store.log("l").unwrap();
        let value = [Bytes::from(vec![b'x'; 4000])];
        let mut accepted = 0;
        for _ in 0..10_000 {
            match log.append_relaxed("k", &value) {
                Ok(sequence) => {
                    assert_eq!(sequence, accepted);
                    accepted += 1;
                }
                Err(Error::Overloaded { .. }) => break,
                Err(err) => panic!("{err}"),
            }
        }
        let read = log.read("k", 0, usize::MAX).unwrap();
        assert_eq!(read.len() as u64, accepted);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, Option<u16>, Want)>),
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Want {
    Any,
    Absent,
    Current,
    Stale,
}

fn step() -> impl Strategy<Value = Step> {
    let want = prop_oneof![
        4 => Just(Want::Any),
        1 => Just(Want::Absent),
        2 => Just(Want::Current),
        1 => Just(Want::Stale),
    ];
    let change = (0u8..12, proptest::option::weighted(0.7, any::<u16>()), want);
    prop_oneof![
        9 => proptest::collection::vec(change, 1..5).prop_map(Step::Write),
        1 => Just(Step::Reopen),
    ]
}

type Model = BTreeMap<u8, (u16, Revision)>;

/// The batch for a step, and whether the model says that it must go through.
fn batch(model: &Model, changes: &[(u8, Option<u16>, Want)]) -> (Batch, bool) {
    let mut batch = Batch::new();
    let mut lawful = true;
    for (key, value, want) in changes {
        let current = model.get(key).map(|(_, revision)| *revision);
        let expect = match (want, current) {
            (Want::Any, _) => Expect::Any,
            (Want::Absent, _) => Expect::Absent,
            (Want::Current, Some(revision)) => Expect::Revision(revision),
            (Want::Current, None) => Expect::Revision(Revision(1)),
            (Want::Stale, Some(revision)) => Expect::Revision(Revision(revision.0 - 1)),
            (Want::Stale, None) => Expect::Revision(Revision(u64::MAX)),
        };
        lawful &= match expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Revision(revision) => current == Some(revision),
        };
        batch = match value {
            Some(value) => batch.put([*key], value.to_be_bytes().to_vec(), expect),
            None => batch.delete([*key], expect),
        };
    }
    (batch, lawful)
}

fn contents(model: &Model) -> Vec<Record> {
    let record = |(key, (value, revision)): (&u8, &(u16, Revision))| Record {
        key: vec![*key].into(),
        value: value.to_be_bytes().to_vec().into(),
        revision: *revision,
    };
    model.iter().map(record).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn batches_and_expectations_behave_as_a_map(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut table = open(dir.path()).table("t").ok();
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Reopen => {
                    drop(table.take());
                    table = open(dir.path()).table("t").ok();
                }
                Step::Write(mut changes) => {
                    changes.sort_by_key(|(key, ..)| *key);
                    changes.dedup_by_key(|(key, ..)| *key);
                    let (batch, lawful) = batch(&model, &changes);
                    match runtime.block_on(table.as_ref().unwrap().write(batch)) {
                        Ok(revision) => {
                            prop_assert!(lawful);
                            for (key, value, _) in changes {
                                match value {
                                    Some(value) => drop(model.insert(key, (value, revision))),
                                    None => drop(model.remove(&key)),
                                }
                            }
                        }
                        Err(Error::Conflict { .. }) => prop_assert!(!lawful),
                        Err(err) => return Err(TestCaseError::fail(err.to_string())),
                    }
                }
            }
            prop_assert_eq!(table.as_ref().unwrap().scan("", None, 100).unwrap(), contents(&model));
        }
    }
}

#[tokio::test]
async fn a_write_whose_future_is_dropped_leaves_the_store_working() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).table("t").unwrap();
    let put = table.put("k", "1", Expect::Any);
    let _ = tokio::time::timeout(Duration::ZERO, put).await;
    table.put("k", "2", Expect::Any).await.unwrap();
    assert_eq!(table.get("k").unwrap().unwrap().value, "2");
}
