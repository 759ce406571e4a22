//! What the tasks of workflows call: functions, other services of AWS, HTTP endpoints.
//!
//! Knows nothing of executions but what a [`Call`] says. A service is called where the operator says
//! it is, else on this server if it serves it; functions and executions of this server are called
//! without a detour through its port.
//!
//! Which requests there are and how they look comes from the catalog, which is data. What AWS does
//! beyond the plain call is code: [`Integrations::run`] and the modules below `tasks`.
#![forbid(unsafe_code)]

pub mod api;
mod call;
mod catalog;
mod config;
mod exchange;
mod failure;
mod integrations;
pub mod objects;
mod support;
mod tasks;
mod wire;

pub use call::{Call, Context, Report, Update};
pub use config::{Config, Connection, InvalidConfig};
pub use integrations::{Ended, Hooks, Integrations, RoleCredentials, Serves};
pub use support::{Refused, check};
pub use tasks::invalid;

/// For fuzz targets only: parsers of bytes from outside.
#[doc(hidden)]
pub mod fuzzing {
    /// Reads `body` as the answer of an operation of each protocol, with this status.
    pub fn answer(status: u16, body: &[u8]) {
        crate::wire::fuzz_answer(status, body);
    }

    /// Reads `parameters` for operations of each protocol, and writes their requests.
    pub fn request(parameters: &serde_json::Value) {
        crate::wire::fuzz_request(parameters);
    }
}
