//! Application Auto Scaling, for the one thing that can be scaled here: provisioned concurrency.
//!
//! A scalable target is an alias or version of a function with a least and a greatest capacity. Once a
//! minute ([`Autoscaling::tick`]) its scheduled actions move these limits, and its policies look at
//! a metric and set the capacity in between, through the operations of Lambda and CloudWatch that
//! every other client uses.
//!
//! See <https://docs.aws.amazon.com/autoscaling/application/userguide/what-is-application-auto-scaling.html>.
#![forbid(unsafe_code)]

mod activity;
mod capacity;
mod error;
mod metric;
mod operations;
mod policy;
mod record;
pub mod schedule;
mod service;
mod target;
mod tick;
mod token;

pub use error::Error;
pub use service::Autoscaling;
