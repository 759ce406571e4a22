//! Drives the service as a client does: HTTP messages through the router, on a store in a
//! temporary directory. No sandbox is needed: the workers are a closure of the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod aliases;
mod capacity;
mod code_signing;
mod concurrency;
mod durability;
mod event_sources;
mod events;
mod functions;
mod invocations;
mod layers;
mod permissions;
mod refusals;
mod server;
mod snapshots;
mod versions;
