//! Drives the service as a client does: HTTP messages through the router, on a store in a
//! temporary directory. No sandbox is needed: the workers are a closure of the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod aliases;
mod durability;
mod functions;
mod invocations;
mod refusals;
mod server;
mod snapshots;
mod versions;
