//! The process is killed while it writes, again and again: what was acknowledged must be there,
//! and no batch may be there in part.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use clock::Clock;
use store::{Batch, Config, Expect, Store};

const DIR: &str = "STORE_KILL_TEST_DIR";
const ROUND: &str = "STORE_KILL_TEST_ROUND";
const ROUNDS: u32 = 12;
const WRITERS: u32 = 8;
const BATCH: u32 = 5;

/// Small enough that memtables are flushed and journals cleaned up under fire.
fn config() -> Config {
    Config {
        memtable_bytes: 96 << 10,
        ..Config::default()
    }
}

/// Not a test of its own: the process that gets killed.
#[test]
fn writer_process() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let round: u32 = std::env::var(ROUND).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open_with(&dir, Clock::system(), config()).unwrap();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write(store.clone(), round, writer)))
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

/// Writes without end: batches, log entries, and a blob now and then; reports what it was told.
async fn write(store: Store, round: u32, writer: u32) {
    let table = store.table("t").unwrap();
    let log = store.log("l").unwrap();
    for n in 0.. {
        let mut batch = Batch::new();
        for part in 0..BATCH {
            let key = format!("{round}/{writer}/{n}/{part}");
            batch = batch.put(&key, value(&key), Expect::Absent);
        }
        table.write(batch).await.unwrap();
        report(&format!("batch {round}/{writer}/{n}"));
        let entry = format!("{round}/{writer}/{n}");
        let key = format!("log-{writer}");
        let sequence = log.append(&key, vec![value(&entry)]).await.unwrap();
        report(&format!("entry {writer} {sequence} {entry}"));
        log.append_relaxed(format!("relaxed-{writer}"), &[value(&entry)])
            .unwrap();
        if n % 16 == 0 {
            let content = value(&format!("blob {entry}"));
            let digest = store.blobs().put(content).await.unwrap();
            report(&format!("blob {digest}"));
        }
    }
}

fn value(key: &str) -> Bytes {
    key.repeat(1 + key.len() * 7 % 40).into()
}

fn report(line: &str) {
    let mut stdout = std::io::stdout().lock();
    // The pipe may be gone if the parent failed; then there is nobody to tell.
    let _ = writeln!(stdout, "ack {line}").and_then(|()| stdout.flush());
}

#[test]
fn killing_the_process_loses_nothing_acknowledged_and_leaves_nothing_half_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        // The first rounds die early, some of them while the store is being made.
        let patience = Duration::from_millis([1, 5, 12, 25, 60, 120, 200, 300][round as usize % 8]);
        let before = acknowledged.len();
        acknowledged.extend(run_and_kill(dir.path(), round, patience));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(verify(dir.path(), round, &acknowledged));
        println!(
            "round {round}: {} acknowledged",
            acknowledged.len() - before
        );
    }
    assert!(
        acknowledged.len() > 100,
        "too little was written to mean anything"
    );
}

fn run_and_kill(dir: &Path, round: u32, patience: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "writer_process",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (first, begun) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for line in stdout.lines().map_while(Result::ok) {
            // libtest writes to the same pipe, so a line may begin with its words.
            if let Some((_, line)) = line.split_once("ack ") {
                acknowledged.push(line.to_owned());
                let _ = first.send(());
            }
        }
        acknowledged
    });
    // Odd rounds are killed that long after the first acknowledgement, even ones after the start.
    if round % 2 == 1 {
        let _ = begun.recv_timeout(Duration::from_secs(20));
    }
    std::thread::sleep(patience);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

async fn verify(dir: &Path, round: u32, acknowledged: &[String]) {
    let store = Store::open_with(dir, Clock::system(), config()).unwrap();
    let (table, log, blobs) = (
        store.table("t").unwrap(),
        store.log("l").unwrap(),
        store.blobs(),
    );
    for line in acknowledged {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["batch", key] => {
                for part in 0..BATCH {
                    let key = format!("{key}/{part}");
                    let found = table.get(&key).unwrap().map(|record| record.value);
                    assert_eq!(found, Some(value(&key)), "round {round}: lost {key}");
                }
            }
            ["entry", writer, sequence, entry] => {
                let key = format!("log-{writer}");
                let sequence = sequence.parse().unwrap();
                let found = log.read(&key, sequence, 1).unwrap();
                assert_eq!(found[0].sequence, sequence);
                assert_eq!(found[0].value, value(entry), "round {round}: lost {line}");
            }
            ["blob", digest] => blobs.verify(&digest.parse().unwrap()).await.unwrap(),
            _ => panic!("what is {line:?}?"),
        }
    }
    check_batches_are_whole(&table);
    for writer in 0..WRITERS {
        let entries = log
            .read(format!("relaxed-{writer}"), 0, usize::MAX)
            .unwrap();
        for (expected, entry) in entries.iter().enumerate() {
            assert_eq!(entry.sequence, expected as u64, "a relaxed log has a gap");
        }
    }
    assert_eq!(
        std::fs::read_dir(dir.join("blobs/incoming"))
            .unwrap()
            .count(),
        0
    );
    store.verify().unwrap();
}

fn check_batches_are_whole(table: &store::Table) {
    let mut parts: HashMap<String, u32> = HashMap::new();
    for record in table.scan("", None, usize::MAX).unwrap() {
        let key = std::str::from_utf8(&record.key).unwrap();
        assert_eq!(record.value, value(key));
        let (batch, _) = key.rsplit_once('/').unwrap();
        *parts.entry(batch.to_owned()).or_default() += 1;
    }
    for (batch, parts) in parts {
        assert_eq!(parts, BATCH, "batch {batch} is there in part");
    }
}
