//! A server for this command alone, where none is running.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cli::Global;
use crate::client::Client;
use crate::failure::Failure;

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(30);

/// A server that ends with this command.
#[derive(Debug)]
pub struct OwnServer(Child);

/// Uses the server that answers, or starts one and points `global` to it. A server that somebody
/// named must be there.
pub async fn find_or_start(global: &mut Global) -> Result<Option<OwnServer>> {
    let missing = match Client::new(global)?.page("/_firn/health").await {
        Ok(_) => return Ok(None),
        Err(err) => err,
    };
    let named = global.endpoint.is_some()
        || ["FIRN_ENDPOINT", "AWS_ENDPOINT_URL"]
            .iter()
            .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let connects = !matches!(missing.downcast_ref(), Some(Failure::Connect { .. }));
    if named || connects {
        return Err(missing);
    }
    let program = std::env::current_exe().context("cannot find the firn program")?;
    let mut child = Command::new(program)
        .arg("serve")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A Ctrl-C is for this command, which then ends the server in good order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start a server")?;
    let stdout = child
        .stdout
        .take()
        .context("cannot read what the server says")?;
    let mut lines = BufReader::new(stdout).lines();
    let ready = tokio::time::timeout(START, lines.next_line()).await;
    let Ok(Ok(Some(line))) = ready else {
        bail!("no server is running, and none could be started");
    };
    let url = line
        .strip_prefix("firn ready on ")
        .and_then(|rest| rest.split(' ').next());
    let url = url.with_context(|| format!("the server says {line:?}"))?;
    if !global.quiet {
        eprintln!("no server was running: started one on {url}");
    }
    global.endpoint = Some(url.to_owned());
    Ok(Some(OwnServer(child)))
}

impl OwnServer {
    pub async fn stop(mut self) -> Result<()> {
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let ended = tokio::time::timeout(STOP, self.0.wait()).await;
        ended
            .context("the server does not end")?
            .map(drop)
            .context("cannot await the server")
    }
}
