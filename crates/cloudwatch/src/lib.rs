//! The metrics of CloudWatch.
//!
//! A metric is a namespace, a name and its dimensions. Its values are kept as aggregates of whole
//! seconds or minutes, with a distribution for percentiles, and are rolled up as they age: to one
//! minute after 3 hours, to 5 after 15 days, to an hour after 63 days, and gone after 455 days. Each
//! value is in exactly one aggregate at any time.
//!
//! [`CloudWatch::ingest`] takes what the server itself measures, without waiting for the disk; what
//! clients put is on disk before they have their answer. [`emf`] finds metrics in log lines.
//!
//! See <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/Welcome.html>.
#![forbid(unsafe_code)]

mod aggregate;
mod book;
mod config;
pub mod emf;
mod error;
pub mod expression;
mod metric;
mod operations;
mod query;
mod record;
mod service;
mod sweep;

pub use aggregate::{Aggregate, Distribution};
pub use config::Config;
pub use error::Error;
pub use metric::{Datum, MetricKey, Unit};
pub use service::CloudWatch;
