//! An embedded S3: buckets and objects in a directory.
//!
//! # What is where
//! - Names, metadata and small contents are records of one table of the `store`; their keys are
//!   ordered as S3 orders object keys, so a listing reads only what it shows.
//! - Contents beyond [`Config::inline_bytes`] are files below the data directory, named by numbers:
//!   no byte of a bucket's or an object's name ever becomes part of a path.
//! - The protocol (routes, XML, types) is the library s3s; who calls is judged by the gateway, and
//!   who may do what by `access`.
//!
//! # Promises
//! - What is acknowledged is on disk: the content first, then the record that names it.
//! - A write is whole or has not happened. Conditions (`If-Match`, `If-None-Match`) hold at the
//!   moment of the write, however many write at once.
//! - Events for a bucket's notifications are stored in the same write as the change, and delivered
//!   at least once, also after a crash.
//!
//! Versioning, object lock, encryption with keys of a client and access control lists are refused.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html>
#![forbid(unsafe_code)]

mod access;
mod answer;
mod api;
mod buckets;
mod checksum;
mod chunked;
mod config;
mod contents;
mod error;
mod events;
mod files;
mod front;
mod host;
mod janitor;
mod keys;
mod listing;
mod notifications;
mod objects;
mod outbox;
mod record;
mod service;
mod tags;
mod uploads;

pub use access::Who;
pub use chunked::Signing;
pub use config::Config;
pub use contents::Contents;
pub use error::Error;
pub use front::{Door, Request};
pub use host::bucket_of_host;
pub use objects::{Object, Put};
pub use outbox::{Delivery, DeliveryError, Hooks};
pub use service::S3;

/// For fuzz targets only: parsers of bytes from outside.
#[doc(hidden)]
pub mod fuzzing {
    /// Decodes `bytes` as an `aws-chunked` body that arrives in pieces of `piece` bytes.
    pub fn aws_chunked(bytes: &[u8], piece: usize) {
        crate::chunked::fuzz(bytes, piece);
    }

    /// Reads `text` as the tags in a header.
    pub fn tagging(text: &str) {
        let _ = crate::tags::tags_of_header(text);
    }

    /// Reads `text` as a range, and as the host of a request.
    pub fn range_and_host(text: &str) {
        let _ = crate::host::Host::parse(text);
        let _ = crate::objects::parse_copy_range(text, 1 << 20);
    }
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
