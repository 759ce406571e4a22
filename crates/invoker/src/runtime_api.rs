//! The HTTP face a runtime sees: `http://127.0.0.1:9001/2018-06-01/runtime/...`, one server per
//! environment.
//!
//! [`Exchange`] is the state machine between the invoker, which hands in events and takes answers,
//! and the runtime, which asks for events and posts answers. It knows neither sockets nor
//! sandboxes. [`serve`] puts HTTP in front of it. Paths, status codes and bodies follow AWS's
//! [Runtime API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html) and, where that is
//! silent, its open-source runtime interface emulator.
//!
//! Everything a runtime sends is hostile input: connections, header sizes and body sizes are
//! bounded per environment, and nothing it does can reach another environment.

mod answers;
mod body;
mod event;
mod exchange;
mod server;
mod stream;

pub(crate) use event::Event;
pub(crate) use exchange::{Answer, Back, Exchange, InitOutcome, RuntimeFault, Undelivered};
pub(crate) use server::{Limits, serve};
pub(crate) use stream::{Chunk, StreamError, StreamFault, StreamSource};
