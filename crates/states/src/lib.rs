//! AWS Step Functions: state machines and their executions.
//!
//! The interpreter is the crate `asl`, which decides and does nothing. This crate does what it says:
//! it keeps what has happened, runs tasks through `integrations`, and waits.
#![forbid(unsafe_code)]

pub mod activities;
mod aside;
mod error;
pub mod executions;
mod express;
mod lock;
pub mod machines;
pub mod map_runs;
pub mod mocks;
pub mod observe;
mod operations;
mod page;
mod record;
mod service;
mod test_state;
mod writing;

pub use error::Error;
pub use service::{Config, Hooks, States};
