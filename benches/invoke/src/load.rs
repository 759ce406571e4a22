//! A closed loop: each client has one request under way at any time.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde_json::{Value, json};

use crate::connection::{Connection, Target};
use crate::latencies::summary;

const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 1)]
    clients: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Not counted, at the start
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
}

/// Runs the load and summarises latency and throughput.
pub fn run(args: &Args) -> anyhow::Result<Value> {
    let request = args.target.request();
    let barrier = Barrier::new(args.clients);
    let runs: Vec<anyhow::Result<Run>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..args.clients)
            .map(|_| scope.spawn(|| client(args, &request, &barrier)))
            .collect();
        clients
            .into_iter()
            .map(|c| c.join().map_err(|_| anyhow!("a client panicked"))?)
            .collect()
    });
    let mut samples = Vec::new();
    let mut longest = Duration::ZERO;
    for run in runs {
        let run = run?;
        samples.extend(run.samples);
        longest = longest.max(run.measured);
    }
    let rate = samples.len() as f64 / longest.as_secs_f64();
    Ok(
        json!({"clients": args.clients, "seconds": longest.as_secs_f64(), "per_second": rate, "latency": summary(samples)}),
    )
}

struct Run {
    samples: Vec<Duration>,
    measured: Duration,
}

fn client(args: &Args, request: &[u8], barrier: &Barrier) -> anyhow::Result<Run> {
    let opened = Connection::open(args.target.addr, TIMEOUT);
    // Waits even when it cannot connect, or the others would wait for ever.
    barrier.wait();
    let mut connection = opened?;
    let warm = Instant::now();
    while warm.elapsed().as_secs_f64() < args.warmup {
        connection.exchange(request)?;
    }
    let mut samples = Vec::with_capacity(1 << 16);
    let began = Instant::now();
    while began.elapsed().as_secs_f64() < args.seconds {
        let sent = Instant::now();
        connection.exchange(request)?;
        samples.push(sent.elapsed());
    }
    Ok(Run {
        samples,
        measured: began.elapsed(),
    })
}
