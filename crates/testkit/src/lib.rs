//! Test support: a server of one's own for every test, and fixtures.
//!
//! The server is a child process, started from the `firn` binary on port 0 with a temporary data
//! directory, so that tests see what users see: start-up, signals, exit codes. A test that embeds
//! the sandbox in its own process instead must call `sandbox::spawner_main()` before anything else
//! in its `main`, since the spawner is this same executable run again.
//!
//! For tests only: failures panic or come back as `anyhow::Error`, with the server's log attached.
#![forbid(unsafe_code)]

mod fixtures;
mod server;

pub use fixtures::{NODE_ECHO, PYTHON_ECHO, zip};
pub use server::{Answer, Options, Server};
