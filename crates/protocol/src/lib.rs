//! The AWS wire protocols: from an HTTP request to a service's typed operation and back.
//!
//! Bytes in, bytes out: this crate opens no socket and holds no state of a service. [`Router`] finds
//! the operation that a request names and runs it, [`ApiError`] is what a failed operation answers,
//! [`sigv4`] checks and makes signatures, and [`operations!`] turns a table of functions into a
//! [`Service`].
#![forbid(unsafe_code)]

mod body;
mod caller;
mod compressed;
pub mod credentials;
mod error;
mod event_stream;
mod handle;
mod router;
mod service;
pub mod sigv4;

pub use body::{Body, BodyError};
pub use caller::{Caller, Principal, PrincipalKind};
pub use error::ApiError;
pub use handle::RouterHandle;
pub use router::{Route, Router, RouterBuilder};
pub use service::{BoxFuture, Called, Row, Served, Service};

/// What [`operations!`] expands to; not for use by hand.
#[doc(hidden)]
pub mod expansion {
    pub use crate::service::expansion::*;
}
