//! The floor: firn's runtime client, unsandboxed, behind the same HTTP library. An invoke costs one HTTP exchange with
//! the caller and one with the client; nothing is authenticated, resolved, metered, logged or stored.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, oneshot};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many runtime clients to start
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// `NAME=VALUE` for the client's environment, repeatable
    #[arg(long)]
    env: Vec<String>,
    /// The client: a program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

struct Job {
    event: Bytes,
    answer: oneshot::Sender<Bytes>,
}

/// One client's side: what it works on now, and where it gets more from.
struct Worker {
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    current: Mutex<Option<oneshot::Sender<Bytes>>>,
}

/// Serves until standard input ends; prints the port first.
#[tokio::main]
pub async fn run(args: Args) -> anyhow::Result<()> {
    let (queue, jobs) = mpsc::channel::<Job>(1024);
    let jobs = Arc::new(Mutex::new(jobs));
    let mut children = Vec::new();
    for _ in 0..args.workers {
        let worker = Arc::new(Worker {
            jobs: jobs.clone(),
            current: Mutex::new(None),
        });
        let api = listen(move |request| {
            let worker = worker.clone();
            async move { runtime_api(&worker, request).await }
        })
        .await?;
        children.push(start(&args, api)?);
    }
    let front = listen(move |request| {
        let queue = queue.clone();
        async move { invoke(&queue, request).await }
    })
    .await?;
    println!("{}", front.port());
    // Whoever started this closes the pipe when it is done.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    for mut child in children {
        child.kill()?;
        child.wait()?;
    }
    std::process::exit(0)
}

fn start(args: &Args, api: SocketAddr) -> anyhow::Result<Child> {
    let (program, rest) = args.command.split_first().context("a command")?;
    let pairs = args.env.iter().filter_map(|pair| pair.split_once('='));
    Command::new(program)
        .args(rest)
        .envs(pairs)
        .env("AWS_LAMBDA_RUNTIME_API", api.to_string())
        .spawn()
        .with_context(|| format!("start {program}"))
}

async fn listen<F, A>(answer: F) -> anyhow::Result<SocketAddr>
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answered = answer(request);
                    async move { Ok::<_, Infallible>(answered.await) }
                });
                // A connection that breaks concerns only its own client.
                drop(
                    http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    });
    Ok(addr)
}

async fn invoke(queue: &mpsc::Sender<Job>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Ok(body) = request.into_body().collect().await else {
        return status(StatusCode::BAD_REQUEST);
    };
    let (answer, answered) = oneshot::channel();
    if queue
        .send(Job {
            event: body.to_bytes(),
            answer,
        })
        .await
        .is_err()
    {
        return status(StatusCode::SERVICE_UNAVAILABLE);
    }
    match answered.await {
        Ok(bytes) => Response::new(Full::new(bytes)),
        Err(_) => status(StatusCode::BAD_GATEWAY),
    }
}

async fn runtime_api(worker: &Worker, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() == Method::GET {
        let Some(job) = worker.jobs.lock().await.recv().await else {
            return status(StatusCode::GONE);
        };
        *worker.current.lock().await = Some(job.answer);
        return next(job.event);
    }
    let Ok(body) = request.into_body().collect().await else {
        return status(StatusCode::BAD_REQUEST);
    };
    if let Some(answer) = worker.current.lock().await.take() {
        // The caller may have gone; the client goes on all the same.
        drop(answer.send(body.to_bytes()));
    }
    status(StatusCode::ACCEPTED)
}

fn next(event: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(event));
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-type", "application/json"),
        (
            "lambda-runtime-aws-request-id",
            "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
        ),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:000000000000:function:floor",
        ),
        (
            "lambda-runtime-trace-id",
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
        ),
    ] {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    response
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
