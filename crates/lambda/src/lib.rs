//! The AWS Lambda service: functions, versions, aliases and the one way in to invoke them.
//!
//! [`Lambda::open`] gives the service; its operations are a table for the protocol's router. All
//! of them read from memory ([`functions`]) and write through to the store; an answer is given
//! when the write is on disk. Code packages are content-addressed and shared ([`package`]).
//! [`Lambda::invoke`] is how everything that calls a function gets to it.
//!
//! Answers follow recordings of AWS word for word. What firn cannot do yet is refused with a
//! `NotImplementedException`, which AWS does not know, never accepted and ignored.
#![forbid(unsafe_code)]

mod attached;
mod catalog;
mod code_signing;
mod concurrency;
mod config;
mod configuration;
mod development;
mod download;
mod error;
mod event_sources;
mod events;
mod function;
mod functions;
mod invoke;
mod layers;
mod name;
mod objects;
mod operations;
mod package;
mod paging;
mod payload;
mod policies;
mod record;
mod recursion;
mod routing;
mod runtime_management;
mod runtimes;
mod service;
mod services;
mod settings;
mod snapshots;
mod tagged;
mod tags;
mod tasks;
mod urls;
mod workers;

pub use config::Config;
pub use development::{Development, Synchronise};
pub use download::PATH as DOWNLOAD_PATH;
pub use error::{Constraint, Error, InvalidParameter};
pub use events::{Config as EventsConfig, EventCall, Events};
pub use function::{FunctionId, Scope};
pub use invoke::{Answer, Call};
pub use name::{FunctionReference, ParseNameError, Qualifier};
pub use objects::{Fetch, FetchError};
pub use package::PackageError;
pub use payload::check as check_payload;
pub use service::{Address, Lambda, resolve};
pub use services::{FromService, Refused};
pub use urls::{MAX_BODY_BYTES as MAX_URL_BODY_BYTES, PATH as URL_PATH, UrlRequest, is_url};
pub use workers::Workers;

/// For fuzz targets only: parsers of bytes that come from outside.
#[doc(hidden)]
pub mod fuzzing {
    use std::path::Path;

    /// Unpacks `bytes` as a deployment package.
    pub fn unpack(bytes: &[u8], into: &Path) {
        let _ = crate::package::unpack(std::io::Cursor::new(bytes), into);
    }

    /// Reads `bytes` as what a function answers to a request to its URL, at once and in pieces.
    pub fn url_answer(bytes: &[u8]) {
        crate::urls::read_any_answer(bytes);
    }

    /// Checks `bytes` as a payload and as a client context.
    pub fn check_payload(bytes: &[u8]) {
        let _ = crate::payload::check(bytes);
        if let Ok(text) = std::str::from_utf8(bytes) {
            let _ = crate::payload::client_context(Some(text));
        }
    }

    /// Reads a trace header that a function or a client sent.
    pub fn lineage(header: &str) {
        let terminate = crate::recursion::RecursiveLoop::Terminate;
        let _ = crate::recursion::advance(header, "arn", terminate);
    }
}
