//! What extensions are told of their environment: the
//! [Telemetry API](https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html) and its
//! predecessor, the [Logs API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-logs-api.html).
//!
//! [`Telemetry`] is the hub of one environment. Everything that goes into its log is offered to
//! the hub too; it costs one atomic load once the init phase is over and nobody has subscribed.
//! Until then events are kept, up to a bound, because an extension that subscribes during init is
//! told of the init from its beginning.
//!
//! Each subscription has a bounded queue and a task that delivers batches of it to an HTTP server
//! or a TCP listener *inside* the environment, by connections that can reach nothing else. A slow
//! or dead destination loses events, never holds anybody up, and is told how many it lost.

pub(crate) mod api;
mod deliver;
mod event;
mod hub;
mod queue;
mod subscription;

pub(crate) use event::{Audience, Category};
pub(crate) use hub::{Notice, Telemetry};
pub use subscription::check_subscription;
