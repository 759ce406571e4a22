//! What a client sees of one execution: from the request that starts it to the first answer that says it is over.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

use crate::answer;
use crate::connection::{Connection, Target};
use crate::latencies::summary;

const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The request that starts an execution
    #[command(flatten)]
    target: Target,
    /// What stands for `StartExecution` in the headers of the second request
    #[arg(long, default_value = "DescribeExecution")]
    describe: String,
    /// How many clients do that at once
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Between two questions about an execution, in milliseconds
    #[arg(long, default_value_t = 0)]
    pause: u64,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

struct Followed {
    samples: Vec<Duration>,
    questions: u64,
    measured: Duration,
}

/// Follows executions for a time and summarises how long they took.
pub fn run(args: &Args) -> anyhow::Result<Value> {
    let barrier = Barrier::new(args.clients);
    let runs: Vec<anyhow::Result<Followed>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..args.clients)
            .map(|_| scope.spawn(|| follow(args, &barrier)))
            .collect();
        clients
            .into_iter()
            .map(|c| c.join().map_err(|_| anyhow!("a client panicked"))?)
            .collect()
    });
    let mut samples = Vec::new();
    let mut questions = 0;
    let mut longest = Duration::ZERO;
    for run in runs {
        let run = run?;
        samples.extend(run.samples);
        questions += run.questions;
        longest = longest.max(run.measured);
    }
    Ok(json!({
        "clients": args.clients,
        "questions": questions,
        "seconds": longest.as_secs_f64(),
        "per_second": samples.len() as f64 / longest.as_secs_f64(),
        "latency": summary(samples),
    }))
}

fn follow(args: &Args, barrier: &Barrier) -> anyhow::Result<Followed> {
    let start = args.target.request();
    let opened = Connection::open(args.target.addr, TIMEOUT);
    // Waits even when it cannot connect, or the others would wait for ever.
    barrier.wait();
    let mut connection = opened?;
    let mut samples = Vec::new();
    let mut questions = 0;
    let began = Instant::now();
    while began.elapsed().as_secs_f64() < args.seconds {
        let sent = Instant::now();
        let started = connection.exchange(&start)?;
        let arn = answer::field(started, "executionArn").context("no execution was started")?;
        let describe = describe(args, arn);
        loop {
            questions += 1;
            let told = connection.exchange(&describe)?;
            match answer::field(told, "status") {
                Some("RUNNING") => thread::sleep(Duration::from_millis(args.pause)),
                Some("SUCCEEDED") => break,
                other => bail!("an execution is {other:?}"),
            }
        }
        samples.push(sent.elapsed());
    }
    Ok(Followed {
        samples,
        questions,
        measured: began.elapsed(),
    })
}

fn describe(args: &Args, arn: &str) -> Vec<u8> {
    let header = args
        .target
        .header
        .iter()
        .map(|line| line.replace("StartExecution", &args.describe));
    Target {
        header: header.collect(),
        body: format!(r#"{{"executionArn":"{arn}"}}"#),
        ..args.target.clone()
    }
    .request()
}
