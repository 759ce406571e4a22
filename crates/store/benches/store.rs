//! Durable writes per second for some numbers of concurrent writers, reads, opening time, memory.
//!
//! `cargo bench -p store`
#![expect(clippy::print_stdout, reason = "the results are the point")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use clock::Clock;
use store::{Expect, Store};

const SPAN: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
    let before = resident_kb();
    let begun = Instant::now();
    let store = Store::open(dir.path(), Clock::system())?;
    println!("create             {:>8.1} ms", milliseconds(begun));
    drop(store);
    let begun = Instant::now();
    let store = Store::open(dir.path(), Clock::system())?;
    println!("open, empty        {:>8.1} ms", milliseconds(begun));
    println!(
        "resident, empty    {:>8} kB ({before} kB before)",
        resident_kb()
    );
    let runtime = tokio::runtime::Runtime::new()?;
    for writers in [1, 8, 64] {
        let (rate, p50, p99) = runtime.block_on(durable(&store, writers))?;
        println!(
            "put, {writers:>2} writers    {rate:>8.0} /s  p50 {p50:>5.2} ms  p99 {p99:>5.2} ms"
        );
    }
    relaxed(&store)?;
    reads(&store)?;
    drop(store);
    let begun = Instant::now();
    let store = Store::open(dir.path(), Clock::system())?;
    println!("open, written to   {:>8.1} ms", milliseconds(begun));
    drop(store);
    println!("resident           {:>8} kB", resident_kb());
    Ok(())
}

async fn durable(store: &Store, writers: usize) -> anyhow::Result<(f64, f64, f64)> {
    let value = Bytes::from(vec![b'v'; 256]);
    let begun = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (table, value) = (store.table("bench"), value.clone());
            tokio::spawn(async move {
                let (table, mut times) = (table?, Vec::new());
                while begun.elapsed() < SPAN {
                    let start = Instant::now();
                    let key = format!("{writer}/{}", times.len());
                    table.put(key, value.clone(), Expect::Any).await?;
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                }
                Ok::<_, store::Error>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    let rate = f64::from(u32::try_from(times.len())?) / begun.elapsed().as_secs_f64();
    Ok((rate, at(50), at(99)))
}

fn relaxed(store: &Store) -> anyhow::Result<()> {
    let log = store.log("bench")?;
    let line = [Bytes::from(
        "START RequestId: 8f5a4b5e-95b2-4a33-9d9a-2c4d2bb1a1aa Version: $LATEST",
    )];
    let count = 100_000u32;
    let begun = Instant::now();
    for n in 0..count {
        while log
            .append_relaxed(format!("stream-{}", n % 16), &line)
            .is_err()
        {
            std::thread::yield_now();
        }
    }
    let rate = f64::from(count) / begun.elapsed().as_secs_f64();
    println!("append, relaxed    {rate:>8.0} /s");
    Ok(())
}

fn reads(store: &Store) -> anyhow::Result<()> {
    let table = store.table("bench")?;
    let count = 200_000u32;
    let begun = Instant::now();
    for n in 0..count {
        anyhow::ensure!(
            table.get(format!("0/{}", n % 500))?.is_some(),
            "a record is missing"
        );
    }
    println!(
        "get                {:>8.0} /s",
        f64::from(count) / begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn milliseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

fn resident_kb() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap_or("?").replace("kB", "").trim().to_owned()
}
