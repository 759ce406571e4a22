//! The server's end of `firn dev`.
//!
//! A socket in the data directory, not a page: only who runs the server (or root) can open it, no
//! function and no browser ever reaches it, and a connection that ends, however it does, ends what it
//! was for. A client opens one function, copies its source into a folder that it is given, and says
//! when there is something new. Before each invocation of that function the server asks whether
//! there is.

pub mod wire;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use gateway::{Pages, pages};
use invoker::Invoker;
use lambda::{Development, FunctionId, FunctionReference, Lambda, Scope, Synchronise};
use serde_json::json;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use wire::{FromClient, FromServer, Lines};

/// Where clients learn of the socket.
pub const PAGE: &str = "/_firn/dev";
const SOCKET: &str = "dev.sock";
const FOLDER: &str = "dev";
/// A client that has connected says what it wants at once.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// An invocation waits for a build that is under way, but not for ever.
const UP_TO_DATE: Duration = Duration::from_secs(300);
/// A runtime's debugger listens a moment after its environment is there.
const LISTENING: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(50);
const MAX_DEBUGGERS: usize = 64;

/// Accepts clients for as long as it lives.
#[derive(Debug)]
pub struct Door {
    accepting: AbortHandle,
    socket: PathBuf,
}

#[derive(Clone)]
struct Parts {
    lambda: Arc<Lambda>,
    invoker: Arc<Invoker>,
    folder: PathBuf,
}

impl Door {
    /// Opens the socket, and removes what an earlier server left of its clients' code.
    pub fn open(data: &Path, lambda: &Arc<Lambda>, invoker: &Arc<Invoker>) -> Result<Self> {
        let data = fs::canonicalize(data).context("cannot find the data directory")?;
        let folder = data.join(FOLDER);
        remove(fs::remove_dir_all(&folder)).context("cannot empty the folder of `firn dev`")?;
        create_passable(&folder).context("cannot create the folder of `firn dev`")?;
        let socket = data.join(SOCKET);
        remove(fs::remove_file(&socket)).context("cannot remove the old socket of `firn dev`")?;
        let listener =
            wire::in_directory(&socket, |path| UnixListener::bind(path)).with_context(|| {
                format!(
                    "cannot create the socket of `firn dev`, {}",
                    socket.display()
                )
            })?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))
            .context("cannot protect the socket of `firn dev`")?;
        let parts = Parts {
            lambda: Arc::clone(lambda),
            invoker: Arc::clone(invoker),
            folder,
        };
        let accepting = tokio::spawn(accept(listener, parts)).abort_handle();
        Ok(Self { accepting, socket })
    }

    /// Adds the page that tells clients of the socket.
    pub fn page(&self, pages: Pages) -> Pages {
        let socket = self.socket.clone();
        pages.admin(PAGE, move |_| {
            let answer = pages::json(&json!({ "socket": socket }));
            async move { answer }
        })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn remove(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Environments run under users of their own, who may pass but not list.
fn create_passable(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o711).create(path)?;
    // Whatever the process's umask is.
    fs::set_permissions(path, fs::Permissions::from_mode(0o711))
}

async fn accept(listener: UnixListener, parts: Parts) {
    let mut clients = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let parts = parts.clone();
                clients.spawn(async move {
                    if let Err(err) = parts.serve(client).await {
                        tracing::debug!("a `firn dev` has ended: {err:#}");
                    }
                });
            }
            Err(err) => {
                tracing::warn!(error = %err, "cannot accept a `firn dev`");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        while clients.try_join_next().is_some() {}
    }
}

impl Parts {
    async fn serve(self, client: UnixStream) -> Result<()> {
        let peer = client.peer_cred()?;
        let (reader, mut writer) = client.into_split();
        let own = rustix::process::geteuid().as_raw();
        if peer.uid() != own && peer.uid() != 0 {
            let reason = "firn dev has to run as the user that the server runs as".to_owned();
            return wire::write(&mut writer, &FromServer::Refused { reason }).await;
        }
        let mut lines = Lines::new(reader);
        let first = tokio::time::timeout(INTRODUCTION, lines.next()).await??;
        let Some(FromClient::Open {
            function,
            debug_port,
        }) = first
        else {
            return Ok(());
        };
        match self.begin(&function, debug_port).await {
            Ok(session) => session.run(lines, writer).await,
            Err(err) => {
                let reason = format!("{err:#}");
                wire::write(&mut writer, &FromServer::Refused { reason }).await
            }
        }
    }

    async fn begin(&self, function: &str, debug_port: Option<u16>) -> Result<Session> {
        let id = function_id(function)?;
        let listener = match debug_port {
            Some(port) => Some(
                TcpListener::bind(("127.0.0.1", port))
                    .await
                    .with_context(|| format!("cannot listen on port {port} for debuggers"))?,
            ),
            None => None,
        };
        let (wanted, requests) = mpsc::channel(64);
        let done = watch::Sender::new(0);
        let synchronise = asking(wanted, &done);
        let development = self.lambda.develop(id, listener.is_some(), synchronise)?;
        let workspace = Workspace::create(&self.folder)?;
        let (development, generation) = (Arc::new(development), watch::Sender::new(0));
        let mut debuggers = JoinSet::new();
        if let Some(listener) = listener {
            debuggers.spawn(
                Bridge {
                    development: Arc::clone(&development),
                    invoker: Arc::clone(&self.invoker),
                    changes: generation.subscribe(),
                }
                .serve(listener),
            );
        }
        Ok(Session {
            development,
            workspace,
            requests,
            done,
            generation,
            _debuggers: debuggers,
        })
    }
}

fn function_id(arn: &str) -> Result<FunctionId> {
    let reference: FunctionReference = arn.parse()?;
    let (Some(account), Some(region)) = (reference.account, reference.region) else {
        anyhow::bail!("the function has to be named by its ARN");
    };
    Ok(FunctionId {
        scope: Scope { account, region },
        name: reference.name,
    })
}

/// What invocations ask with: a request to the client, and a wait for the answer to it or a later one.
fn asking(wanted: mpsc::Sender<u64>, done: &watch::Sender<u64>) -> Synchronise {
    let (last, done) = (Arc::new(AtomicU64::new(0)), done.subscribe());
    Arc::new(move || {
        let (wanted, mut done) = (wanted.clone(), done.clone());
        let request = last.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(async move {
            let answered = async {
                // Both fail only when the client has gone, and then nobody need wait for it.
                let _ = wanted.send(request).await;
                let _ = done.wait_for(|done| *done >= request).await;
            };
            if tokio::time::timeout(UP_TO_DATE, answered).await.is_err() {
                tracing::warn!("a `firn dev` does not answer; its function runs the code it had");
            }
        })
    })
}

/// One client's work on one function.
struct Session {
    development: Arc<Development>,
    workspace: Workspace,
    requests: mpsc::Receiver<u64>,
    done: watch::Sender<u64>,
    generation: watch::Sender<u64>,
    /// Aborted when dropped.
    _debuggers: JoinSet<()>,
}

impl Session {
    async fn run(
        mut self,
        mut lines: Lines<tokio::net::unix::OwnedReadHalf>,
        mut writer: OwnedWriteHalf,
    ) -> Result<()> {
        let workspace = self.workspace.0.clone();
        wire::write(&mut writer, &FromServer::Opened { workspace }).await?;
        loop {
            tokio::select! {
                Some(mut request) = self.requests.recv() => {
                    while let Ok(later) = self.requests.try_recv() {
                        request = request.max(later);
                    }
                    wire::write(&mut writer, &FromServer::Synchronise { request }).await?;
                }
                line = lines.next() => match line? {
                    Some(FromClient::Code { generation }) => {
                        self.take(generation)?;
                        wire::write(&mut writer, &FromServer::Serving { generation }).await?;
                    }
                    Some(FromClient::Synchronised { request }) => {
                        self.done.send_replace(request);
                    }
                    Some(FromClient::Open { .. }) | None => return Ok(()),
                },
            }
        }
    }

    fn take(&self, generation: u64) -> Result<()> {
        let directory = self.workspace.0.join(generation.to_string());
        let found = fs::symlink_metadata(&directory).context("cannot find the new code")?;
        anyhow::ensure!(found.is_dir(), "the new code is no directory");
        self.development.serve(directory);
        self.generation.send_replace(generation);
        Ok(())
    }
}

/// A folder for one client's copies of the code, removed with all of them.
#[derive(Debug)]
struct Workspace(PathBuf);

impl Workspace {
    fn create(folder: &Path) -> Result<Self> {
        let made = tempfile::Builder::new().prefix("").tempdir_in(folder);
        let path = made.context("cannot create a folder for the code")?.keep();
        let workspace = Self(path);
        fs::set_permissions(&workspace.0, fs::Permissions::from_mode(0o711))?;
        Ok(workspace)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What stays goes when the server starts anew.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Leads debuggers into the newest environment.
#[derive(Clone)]
struct Bridge {
    development: Arc<Development>,
    invoker: Arc<Invoker>,
    changes: watch::Receiver<u64>,
}

impl Bridge {
    async fn serve(self, listener: TcpListener) {
        let mut connected = JoinSet::new();
        loop {
            let Ok((debugger, _)) = listener.accept().await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            while connected.try_join_next().is_some() {}
            if connected.len() >= MAX_DEBUGGERS {
                continue;
            }
            let bridge = self.clone();
            connected.spawn(async move { bridge.carry(debugger).await });
        }
    }

    /// Waits for an environment if there is none: a debugger may well come before the first
    /// invocation.
    async fn carry(mut self, mut debugger: TcpStream) {
        let Some(mut inside) = self.connect().await else {
            return;
        };
        let _ = debugger.set_nodelay(true);
        let _ = inside.set_nodelay(true);
        // However this ends, both sides see that the other has gone.
        let _ = tokio::io::copy_bidirectional(&mut debugger, &mut inside).await;
    }

    async fn connect(&mut self) -> Option<TcpStream> {
        let port = self.development.debugger_port()?;
        loop {
            self.changes.borrow_and_update();
            let key = self.development.key();
            let newest = async {
                match &key {
                    Some(key) => self.invoker.debugged(key).await,
                    None => std::future::pending().await,
                }
            };
            let mut changes = self.changes.clone();
            let connector = tokio::select! {
                connector = newest => connector,
                changed = changes.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return None,
                },
            };
            let until = tokio::time::Instant::now() + LISTENING;
            while tokio::time::Instant::now() < until {
                if let Ok(stream) = connector.connect(port).await
                    && let Ok(stream) = TcpStream::from_std(stream)
                {
                    return Some(stream);
                }
                if changes.has_changed().unwrap_or(true) {
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
            if !changes.has_changed().unwrap_or(false) {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_invocation_waits_for_an_answer_to_its_own_request() {
        let (wanted, mut requests) = mpsc::channel(4);
        let done = watch::Sender::new(0);
        let synchronise = asking(wanted, &done);
        let (first, second) = (synchronise(), synchronise());
        let first = tokio::spawn(first);
        assert_eq!(requests.recv().await, Some(1));
        let second = tokio::spawn(second);
        assert_eq!(requests.recv().await, Some(2));
        done.send_replace(1);
        first.await.unwrap();
        assert!(!second.is_finished());
        // A client that has gone keeps nobody waiting.
        drop(done);
        second.await.unwrap();
    }

    #[test]
    fn a_function_is_named_by_its_arn() {
        let id = function_id("arn:aws:lambda:eu-west-1:123456789012:function:f").unwrap();
        assert_eq!(id.name, "f");
        assert!(function_id("f").is_err());
    }
}
