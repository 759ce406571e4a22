//! Lambda extensions: companions of a runtime that live in its environment.
//!
//! *External* extensions are the files of `/opt/extensions`. They are started before the runtime,
//! as processes of their own. *Internal* ones are threads of the runtime. Both register over the
//! [Extensions API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html) of
//! the environment's Runtime API and are told of invocations; external ones are also told when
//! the environment ends.
//!
//! [`Extensions`] is the state machine of one environment's extensions, beside the
//! [`Exchange`](crate::runtime_api::Exchange) for its runtime. It knows neither sockets nor
//! processes. [`api`] puts HTTP in front of it, [`discover`] lists the files, [`Companions`] owns
//! the processes and ends them.
//!
//! Where AWS documents less than it does, names and texts are those of its open-source emulator.

pub(crate) mod api;
mod companions;
mod discover;
mod registry;

pub(crate) use companions::{Companion, Companions};
pub(crate) use discover::external_extensions;
pub(crate) use registry::{ExtensionFault, Extensions, InvokeEvent, Reason, Standing};

/// Extensions of one environment, of either kind.
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
pub(crate) const MAX_EXTENSIONS: usize = 10;
