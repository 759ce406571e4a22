//! The HTTP face a runtime sees: `http://127.0.0.1:9001/2018-06-01/runtime/...`, one server per
//! environment.
//!
//! [`Exchange`] is the state machine between the invoker, which hands in events and takes answers,
//! and the runtime, which asks for events and posts answers. It knows neither sockets nor
//! sandboxes. [`serve`] puts HTTP in front of it. Paths, status codes and bodies follow AWS's
//! [Runtime API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html) and, where that is
//! silent, its open-source runtime interface emulator.
//!
//! Environments that are started for a snapshot, or come from one, have more: `restore/next` and
//! `restore/error`, credentials on request, and two calls of firn's own by which its clients warm up
//! before the snapshot, `firn/warm` and `firn/priming/next`. A request that was waiting for its
//! answer when the snapshot was taken is answered on the connection that the thawed process makes
//! in its place.
//!
//! Everything a runtime sends is hostile input: connections, header sizes and body sizes are
//! bounded per environment, and nothing it does can reach another environment.

pub(crate) mod answers;
mod body;
mod credentials;
mod event;
mod exchange;
mod replay;
mod server;
mod stream;
mod traffic;

pub(crate) use body::header_text;
pub(crate) use credentials::{CredentialSource, new_token};
pub(crate) use event::Event;
pub(crate) use exchange::{
    Answer, Back, Exchange, Init, InitOutcome, Rehearsal, RestoreOutcome, RuntimeFault, Undelivered,
};
pub(crate) use replay::Pending;
pub(crate) use server::{Limits, Service, serve};
pub(crate) use stream::{Chunk, StreamError, StreamFault, StreamSource};
