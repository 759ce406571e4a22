//! A service in a temporary directory, and a client for it.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use clock::Clock;
use invoker::{
    Function, FunctionError, InitFailure, Invocation, InvokeError, Outcome, Payload, Report,
    SnapshotError, SnapshotOutcome,
};
use lambda::{Config, Lambda, Workers};
use protocol::{Caller, Principal, Router};
use serde_json::{Value, json};
use store::Store;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::capacity::{Capacity, give};

pub const ACCOUNT: &str = "111111111111";
pub const REGION: &str = "us-east-1";
pub const ROLE: &str = "arn:aws:iam::111111111111:role/worker";

pub struct Server {
    pub directory: TempDir,
    pub config: Config,
    pub clock: Clock,
    pub running: Option<Running>,
    /// Every invocation that reached the workers.
    pub invoked: Arc<Mutex<Vec<Invoked>>>,
    /// Builds whose environments were ended.
    pub retired: Arc<Mutex<Vec<String>>>,
    /// What was asked of the workers about snapshots, in order: `make f:1`, `forget f:1`.
    pub snapshots: Arc<Mutex<Vec<String>>>,
    /// Functions known to the workers at the start.
    pub retained: Arc<Mutex<Vec<String>>>,
    /// What functions were given of their account's concurrency.
    pub capacity: Arc<Mutex<Capacity>>,
    /// Lets snapshots through whose function has `SNAPSHOT=gate`.
    pub gate: Arc<Semaphore>,
}

pub type Invoked = (Arc<Function>, Invocation);

pub struct Running {
    pub lambda: Arc<Lambda>,
    pub router: Arc<Router>,
}

pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub bytes: Bytes,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(Config::default(), Clock::system()).await
    }

    pub async fn with(config: Config, clock: Clock) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (invoked, retired) = Default::default();
        let (snapshots, retained) = Default::default();
        let mut server = Self {
            directory,
            config,
            clock,
            running: None,
            invoked,
            retired,
            snapshots,
            retained,
            capacity: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        };
        server.open().await;
        server
    }

    /// Ends the service as a crash would, without a chance to finish anything, and starts it anew.
    pub async fn restart(&mut self) {
        if let Some(Running { lambda, router }) = self.running.take() {
            lambda.shutdown().await;
            drop(router);
            assert_eq!(Arc::strong_count(&lambda), 1);
        }
        self.open().await;
    }

    async fn open(&mut self) {
        let directory = self.directory.path().join("store");
        let store = self.store(&directory).await;
        let code = self.directory.path().join("code");
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let lambda = Lambda::open(config, &code, &store, self.workers(), clock)
            .await
            .unwrap();
        let router = Arc::new(Router::builder().service(Arc::clone(&lambda)).build());
        self.running = Some(Running { lambda, router });
    }

    /// What an aborted task had on a blocking thread may hold the store for a moment longer.
    async fn store(&self, directory: &Path) -> Store {
        for _ in 0..5_000 {
            match Store::open(directory, self.clock.clone()) {
                Err(store::Error::Locked { .. }) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                opened => return opened.unwrap(),
            }
        }
        panic!("the store is never released")
    }

    /// Echoes the payload; `"fail"` fails and `"throttle"` is refused. A function with the variable
    /// `QUIET` answers null.
    fn workers(&self) -> Workers {
        let (invoked, retired) = (Arc::clone(&self.invoked), Arc::clone(&self.retired));
        let invoke = move |function: Arc<Function>, invocation: Invocation| {
            let payload = invocation.payload.clone();
            let quiet = function.environment.contains_key("QUIET");
            invoked.lock().unwrap().push((function, invocation));
            async move {
                let failed = &payload[..] == br#""fail""#;
                if &payload[..] == br#""throttle""# {
                    let reason = invoker::ThrottleReason::ConcurrentInvocationLimitExceeded;
                    return Err(InvokeError::TooManyRequests { reason });
                }
                let answer = if quiet {
                    Bytes::from_static(b"null")
                } else {
                    payload
                };
                Ok(Outcome {
                    payload: Payload::Buffered(answer),
                    content_type: None,
                    function_error: failed.then_some(FunctionError::Unhandled),
                    log_tail: Some(Bytes::from_static(b"END RequestId: 1\n")),
                    report: Report::default(),
                })
            }
        };
        let workers = Workers::new(invoke, move |key| {
            retired.lock().unwrap().push(key.to_string())
        });
        let (asked, forgotten) = (Arc::clone(&self.snapshots), Arc::clone(&self.snapshots));
        let (retained, gate) = (Arc::clone(&self.retained), Arc::clone(&self.gate));
        let workers = give(workers, &self.capacity);
        workers.with_snapshots(
            move |function| {
                asked
                    .lock()
                    .unwrap()
                    .push(format!("make {}", named(&function)));
                snapshot_of(function, Arc::clone(&gate))
            },
            move |function| {
                let line = format!("forget {}", named(function));
                forgotten.lock().unwrap().push(line);
            },
            move |functions| {
                *retained.lock().unwrap() = functions.iter().map(|one| named(one)).collect();
            },
        )
    }

    pub fn lambda(&self) -> &Lambda {
        &self.running.as_ref().unwrap().lambda
    }

    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        self.request_as(ACCOUNT, method, path, headers, body).await
    }

    /// As [`Server::request`], in the name of some account.
    pub async fn request_as(
        &self,
        account: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let router = &self.running.as_ref().unwrap().router;
        let response = match router.route(&parts, Some("lambda")) {
            Ok(route) => {
                router
                    .dispatch(&route, &parts, body, &caller(account))
                    .await
            }
            Err(error) => router.reject(&parts, &error, "request-1"),
        };
        let (parts, body) = response.into_parts();
        let bytes = match body {
            protocol::Body::Full(body) => http_body_util::BodyExt::collect(body)
                .await
                .unwrap()
                .to_bytes(),
            protocol::Body::Stream(_) => panic!("nothing here streams"),
        };
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            bytes,
        }
    }

    pub async fn json(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() {
            Bytes::new()
        } else {
            body.to_string().into()
        };
        self.request(method, path, &[], body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.json("GET", path, Value::Null).await
    }

    /// `CreateFunction`, with `overrides` merged into a plain request.
    pub async fn create(&self, name: &str, overrides: Value) -> Answer {
        let mut request = json!({
            "FunctionName": name,
            "Runtime": "python3.12",
            "Handler": "handler.handler",
            "Role": ROLE,
            "Code": {"ZipFile": zip_base64(b"def handler(e, c): return e")},
        });
        merge(&mut request, overrides);
        self.json("POST", "/2015-03-31/functions", request).await
    }

    /// Creates a function and waits until it is active.
    pub async fn active(&self, name: &str) {
        let answer = self.create(name, json!({})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        self.settled(name).await;
    }

    /// Waits, as the `function_active_v2` and `function_updated_v2` waiters do, and returns the
    /// configuration.
    pub async fn settled(&self, name: &str) -> Value {
        for _ in 0..5_000 {
            let answer = self
                .get(&format!("{}/configuration", path(name)))
                .await
                .ok();
            if answer["State"] != "Pending" && answer["LastUpdateStatus"] != "InProgress" {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{name} never settles")
    }

    pub async fn configure(&self, name: &str, change: Value) -> Answer {
        self.json("PUT", &format!("{}/configuration", path(name)), change)
            .await
    }

    pub async fn publish(&self, name: &str) -> Value {
        let path = format!("{}/versions", path(name));
        self.json("POST", &path, json!({})).await.with_status(201)
    }

    pub async fn invoke(&self, name: &str, payload: &'static str) -> Answer {
        let path = format!("{}/invocations", path(name));
        self.request("POST", &path, &[], Bytes::from_static(payload.as_bytes()))
            .await
    }
}

fn named(function: &Function) -> String {
    format!("{}:{}", function.name, function.version)
}

/// Makes a snapshot, or fails as the function's variable `SNAPSHOT` says.
async fn snapshot_of(
    function: Arc<Function>,
    gate: Arc<Semaphore>,
) -> Result<SnapshotOutcome, SnapshotError> {
    let wish = function.environment.get("SNAPSHOT").map(String::as_str);
    match wish {
        Some("unfit") => {
            return Ok(SnapshotOutcome::Unfit {
                reason: "process 12 (sleep) is a second process".into(),
            });
        }
        Some("init") => {
            return Err(SnapshotError::Init(InitFailure {
                error_type: "Runtime.ImportModuleError".into(),
                message: "No module named 'x'".into(),
                state_reason_code: "FunctionError",
            }));
        }
        Some("gate") => gate.acquire().await.unwrap().forget(),
        Some("never") => return Err(SnapshotError::Disabled),
        _ => {}
    }
    Ok(SnapshotOutcome::Ready {
        id: "image".into(),
        bytes: 2,
        stored_bytes: 1,
        adopted: false,
    })
}

impl Answer {
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub fn with_status(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.value()
    }

    pub fn ok(self) -> Value {
        self.with_status(200)
    }

    /// The error's code and message, after checking its status.
    pub fn error(&self, status: u16) -> (String, String) {
        assert_eq!(self.status, status, "{self:?}");
        let code = self.headers["x-amzn-errortype"]
            .to_str()
            .unwrap()
            .to_owned();
        let value = self.value();
        let message = value.get("message").or_else(|| value.get("Message"));
        (
            code,
            message
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        )
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {:?} {}",
            self.status,
            self.headers,
            String::from_utf8_lossy(&self.bytes)
        )
    }
}

pub fn caller(account: &str) -> Caller {
    let account = account.parse().unwrap();
    let region = REGION.parse().unwrap();
    Caller {
        account,
        principal: Principal::root(account, &region),
        region,
        access_key: None,
        request_id: "request-1".to_owned(),
    }
}

pub fn path(name: &str) -> String {
    format!(
        "/2015-03-31/functions/{}",
        name.replace(':', "%3A").replace('$', "%24")
    )
}

pub fn arn(name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
}

pub fn zip(content: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer
        .start_file("handler.py", zip::write::SimpleFileOptions::default())
        .unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap().into_inner()
}

pub fn zip_base64(content: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(zip(content))
}

pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, from) => *into = from,
    }
}
