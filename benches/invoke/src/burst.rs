//! Everything at once: as many connections as requests, opened first, then sent together. Meanwhile another path is
//! asked again and again, to see whether the server still answers.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::connection::{Connection, Target};
use crate::latencies::summary;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 1000)]
    requests: usize,
    /// A GET that is timed throughout
    #[arg(long)]
    watch_path: String,
    #[arg(long, default_value_t = 240)]
    timeout: u64,
}

/// Sends the burst and summarises its latencies, the errors, and the watched path's latencies.
pub fn run(args: &Args) -> anyhow::Result<Value> {
    let request = args.target.request();
    let timeout = Duration::from_secs(args.timeout);
    let barrier = Barrier::new(args.requests + 1);
    let over = AtomicBool::new(false);
    let watch = Target {
        method: "GET".into(),
        path: args.watch_path.clone(),
        body: String::new(),
        ..args.target.clone()
    };
    let mut watched = Vec::new();
    let mut answers = Vec::new();
    let mut took = Duration::ZERO;
    thread::scope(|scope| -> anyhow::Result<()> {
        let mut senders = Vec::with_capacity(args.requests);
        for _ in 0..args.requests {
            // Small stacks: a thousand threads otherwise reserve gigabytes.
            let sender =
                thread::Builder::new()
                    .stack_size(256 << 10)
                    .spawn_scoped(scope, || {
                        let opened = Connection::open(args.target.addr, timeout);
                        barrier.wait();
                        let sent = Instant::now();
                        opened
                            .and_then(|mut connection| connection.exchange(&request).map(drop))
                            .map(|()| sent.elapsed())
                    })?;
            senders.push(sender);
        }
        let watcher = scope.spawn(|| watch_until(&watch, timeout, &over));
        barrier.wait();
        let began = Instant::now();
        for sender in senders {
            answers.push(
                sender
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a sender panicked"))),
            );
        }
        took = began.elapsed();
        over.store(true, Ordering::Relaxed);
        watched = watcher.join().unwrap_or_default();
        Ok(())
    })?;
    let errors: Vec<String> = answers
        .iter()
        .filter_map(|a| a.as_ref().err())
        .map(|e| format!("{e:#}"))
        .collect();
    let samples = answers.into_iter().flatten().collect();
    Ok(json!({
        "requests": args.requests,
        "errors": errors.len(),
        "first_error": errors.first(),
        "seconds": took.as_secs_f64(),
        "latency": summary(samples),
        "watched": summary(watched),
    }))
}

fn watch_until(watch: &Target, timeout: Duration, over: &AtomicBool) -> Vec<Duration> {
    let request = watch.request();
    let mut samples = Vec::new();
    let Ok(mut connection) = Connection::open(watch.addr, timeout) else {
        return samples;
    };
    while !over.load(Ordering::Relaxed) {
        let sent = Instant::now();
        if connection.exchange(&request).is_err() {
            break;
        }
        samples.push(sent.elapsed());
        thread::sleep(Duration::from_millis(10));
    }
    samples
}
