//! The CloudWatch Logs service: groups, streams and events.
//!
//! Groups and streams are records, the events of a stream are an ordered log, all in the store. The
//! [`Registry`](registry) is the one place that creates and deletes them, so that the invoker can
//! [`Logs::ingest`] without waiting for the disk while clients create the same stream.
//!
//! See <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/Welcome.html>.
#![forbid(unsafe_code)]

mod error;
mod event;
pub mod filter;
mod operations;
mod record;
mod registry;
mod search;
mod service;
mod sweep;
mod tail;
mod token;
mod view;

pub use error::Error;
pub use service::Logs;
pub use tail::{TailBatch, TailEvent};
