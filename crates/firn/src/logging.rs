//! The server's log, on standard error.

use std::io::IsTerminal;

use anyhow::{Result, anyhow};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::{Log, LogFormat};
use crate::failure::usage;

/// Sets the process's log up.
pub fn start(log: &Log) -> Result<()> {
    // A library logs every refusal as an error; what counts is logged by those who use it. The
    // operator's words come last, and so outweigh this.
    let filter = EnvFilter::try_new(format!("s3s=off,{}", log.filter))
        .map_err(|err| usage(format!("{:?} is no log filter: {err}", log.filter)))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(WallClock(clock::Clock::system()))
        .with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|err| anyhow!("cannot set up the log: {err}"))
}

struct WallClock(clock::Clock);

impl FormatTime for WallClock {
    fn format_time(
        &self,
        writer: &mut tracing_subscriber::fmt::format::Writer<'_>,
    ) -> std::fmt::Result {
        write!(writer, "{}", self.0.now())
    }
}
