//! Requests from one thread that waits for all connections at once. A thread per client would take a good part of two
//! cores from the server with its switches alone.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::answer;
use crate::connection::Target;
use crate::latencies::summary;

const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 1)]
    clients: u32,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Not counted, at the start
    #[arg(long, default_value_t = 0.0)]
    warmup: f64,
    /// End after this many requests, if that is sooner
    #[arg(long, default_value_t = u64::MAX)]
    count: u64,
    /// Requests per second of all clients together, each timed from when it was due; timers tick in milliseconds
    #[arg(long)]
    rate: Option<f64>,
    /// An answer without this text is an error
    #[arg(long, default_value = "")]
    expect: String,
    /// Writes a field of each answer here, one a line
    #[arg(long, requires = "field")]
    record: Option<PathBuf>,
    #[arg(long)]
    field: Option<String>,
}

/// Runs the load and summarises latency and throughput.
pub fn run(args: Args) -> anyhow::Result<Value> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(drive(Arc::new(args)))
}

async fn drive(args: Arc<Args>) -> anyhow::Result<Value> {
    let request: Arc<[u8]> = args.target.request().into();
    let left = Arc::new(AtomicU64::new(args.count));
    let barrier = Arc::new(Barrier::new(args.clients as usize));
    let mut clients = JoinSet::new();
    for number in 0..args.clients {
        let client = Client {
            args: args.clone(),
            request: request.clone(),
            left: left.clone(),
            number,
        };
        clients.spawn(client.run(barrier.clone()));
    }
    let mut samples = Vec::new();
    let mut fields = Vec::new();
    let mut longest = Duration::ZERO;
    while let Some(joined) = clients.join_next().await {
        let run = joined??;
        samples.extend(run.samples);
        fields.extend(run.fields);
        longest = longest.max(run.measured);
    }
    if let Some(path) = &args.record {
        write_lines(path, &fields).with_context(|| format!("write {}", path.display()))?;
    }
    let seconds = longest.as_secs_f64();
    Ok(json!({
        "clients": args.clients,
        "rate": args.rate,
        "seconds": seconds,
        "answers": samples.len(),
        "per_second": samples.len() as f64 / seconds,
        "latency": summary(samples),
    }))
}

fn write_lines(path: &PathBuf, lines: &[String]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.flush()
}

struct Client {
    args: Arc<Args>,
    request: Arc<[u8]>,
    left: Arc<AtomicU64>,
    number: u32,
}

struct Run {
    samples: Vec<Duration>,
    fields: Vec<String>,
    measured: Duration,
}

impl Client {
    async fn run(self, barrier: Arc<Barrier>) -> anyhow::Result<Run> {
        let opened = Connection::open(&self.args.target).await;
        // Waits even when it cannot connect, or the others would wait for ever.
        barrier.wait().await;
        let mut connection = opened?;
        let warm = Instant::now() + Duration::from_secs_f64(self.args.warmup);
        while Instant::now() < warm {
            self.exchange(&mut connection).await?;
        }
        let mut run = Run {
            samples: Vec::new(),
            fields: Vec::new(),
            measured: Duration::ZERO,
        };
        let began = Instant::now();
        let over = began + Duration::from_secs_f64(self.args.seconds);
        for turn in 0.. {
            let due = match self.args.rate {
                Some(rate) => began + self.due(turn, rate),
                None => Instant::now(),
            };
            if due >= over || !self.takes_one() {
                break;
            }
            // Even a sleep until now would last until the next tick.
            if due > Instant::now() {
                sleep_until(due).await;
            }
            let body = self.exchange(&mut connection).await?;
            run.samples.push(due.elapsed());
            if let Some(name) = &self.args.field {
                let field = answer::field(body, name).context("an answer without the field")?;
                run.fields.push(field.to_owned());
            }
        }
        run.measured = began.elapsed();
        Ok(run)
    }

    /// The clients take turns.
    fn due(&self, turn: u32, rate: f64) -> Duration {
        let place = f64::from(turn) * f64::from(self.args.clients) + f64::from(self.number);
        Duration::from_secs_f64(place / rate)
    }

    fn takes_one(&self) -> bool {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        taken.is_ok()
    }

    async fn exchange<'a>(&self, connection: &'a mut Connection) -> anyhow::Result<&'a [u8]> {
        let body = timeout(TIMEOUT, connection.exchange(&self.request))
            .await
            .context("no answer in time")??;
        let expected = self.args.expect.as_bytes();
        if !expected.is_empty() && answer::find(body, expected).is_none() {
            bail!("unexpected: {}", String::from_utf8_lossy(body));
        }
        Ok(body)
    }
}

/// A keep-alive connection.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(target: &Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.addr).await.context("connect")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(4 << 10),
        })
    }

    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
            if let Some(body) = answer::body(&self.buffer)? {
                return Ok(&self.buffer[body]);
            }
        }
    }
}
