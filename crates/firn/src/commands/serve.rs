//! `firn serve`: runs the server until it is asked to stop.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::assembly::Server;
use crate::config::{self, Overrides};
use crate::logging;

/// Flags of `firn serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    overrides: Overrides,
}

pub fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let loaded = config::load(args.overrides)?;
    logging::start(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // Neither sandboxes nor evaluators are meant to have what a shell has left open.
    if let Err(err) = sandbox::keep_descriptors() {
        tracing::warn!(error = %err, "could not keep descriptors from other programs");
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("firn")
        .build()
        .context("cannot start worker threads")?
        .block_on(serve(loaded.config, started))
}

async fn serve(config: config::Config, started: Instant) -> Result<()> {
    // Before anything else, so that an early Ctrl-C cleans up as well.
    let stop = stop_signal()?;
    let data = config.data.clone();
    let server = Server::start(config).await?;
    let ready_ms = started.elapsed().as_millis();
    let mut out = std::io::stdout().lock();
    // Nobody needs to read the line; a closed pipe is no reason to stop.
    let _ = writeln!(
        out,
        "firn ready on http://{} (data {}, {ready_ms} ms)",
        server.address(),
        data.display()
    );
    let _ = out.flush();
    drop(out);
    server.run(stop).await
}

/// Resolves at the first SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: running requests may finish");
    })
}
