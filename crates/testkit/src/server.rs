use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tempfile::TempDir;

const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(40);
const MAX_KEPT_LOG_BYTES: usize = 1 << 20;

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More flags of `firn serve`.
    pub flags: Vec<String>,
    /// A data directory that outlives the server; a temporary one if absent.
    pub data: Option<PathBuf>,
}

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    endpoint: String,
    ready_after: Duration,
    client: Client<HttpConnector, Full<Bytes>>,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
    data: PathBuf,
    // Kept for its removal when the server is dropped.
    _temporary: Option<TempDir>,
}

/// The answer to a call.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// A header as text, empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Server {
    /// Starts `binary serve` and waits until it is ready.
    pub fn start(binary: &Path, options: Options) -> Result<Self> {
        let (data, temporary) = match options.data {
            Some(data) => (data, None),
            None => {
                let temporary = tempfile::tempdir().context("cannot make a data directory")?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let started = Instant::now();
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .args(&options.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let (log, log_reader) = collect_log(&mut child)?;
        let mut server = Self {
            endpoint: String::new(),
            ready_after: Duration::ZERO,
            client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
            log,
            log_reader: Some(log_reader),
            data,
            _temporary: temporary,
            child,
        };
        server.endpoint = server.wait_until_ready()?;
        server.ready_after = started.elapsed();
        Ok(server)
    }

    /// Such as `http://127.0.0.1:40123`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The address without the scheme, for raw TCP.
    pub fn address(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Time from the start of the process to its ready line.
    pub const fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// What the server wrote to standard error so far.
    pub fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sends a request as it is, unsigned unless `headers` say otherwise.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into()))?;
        let response = self
            .client
            .request(request)
            .await
            .with_context(|| format!("no answer; the server's log:\n{}", self.log()))?;
        let (parts, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .context("the answer broke off")?
            .to_bytes();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    /// Asks the server to stop and waits until it has.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(rustix::process::Signal::TERM)?;
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the server does not stop; its log:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the server without a chance to finish anything, as a power failure does.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("cannot kill the server")?;
        self.child.wait().context("cannot wait for the server")?;
        Ok(())
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .ok_or_else(|| anyhow!("the server has no process id"))?;
        rustix::process::kill_process(pid, signal).context("cannot signal the server")
    }

    /// Standard output ends when the process does, so no timer is needed for a server that fails;
    /// one that hangs is killed by a watchdog, which ends its output as well.
    fn wait_until_ready(&mut self) -> Result<String> {
        let output = self
            .child
            .stdout
            .take()
            .ok_or_else(|| anyhow!("no standard output"))?;
        let (line_read, timed_out) = std::sync::mpsc::channel::<()>();
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let watchdog = std::thread::spawn(move || {
            let waited = timed_out.recv_timeout(READY_LIMIT);
            if let (Err(std::sync::mpsc::RecvTimeoutError::Timeout), Some(pid)) = (waited, pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        drop(line_read);
        let _ = watchdog.join();
        read.context("cannot read the ready line")?;
        let endpoint = line
            .strip_prefix("firn ready on ")
            .and_then(|rest| rest.split_whitespace().next())
            .map(str::to_owned);
        endpoint.ok_or_else(|| {
            let _ = self.child.kill();
            let _ = self.child.wait();
            if let Some(reader) = self.log_reader.take() {
                let _ = reader.join();
            }
            anyhow!(
                "the server is not ready, it said {line:?}; its log:\n{}",
                self.log()
            )
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM first: a server that is killed leaves its sandboxes to the next start.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.signal(rustix::process::Signal::TERM);
            let deadline = Instant::now() + STOP_LIMIT;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect_log(child: &mut Child) -> Result<(Arc<Mutex<String>>, JoinHandle<()>)> {
    let mut errors = child
        .stderr
        .take()
        .ok_or_else(|| anyhow!("no standard error"))?;
    let log = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&log);
    // Ends with the server, whose end of the pipe it reads.
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = errors.read(&mut buffer) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MAX_KEPT_LOG_BYTES {
                kept.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        }
    });
    Ok((log, reader))
}
