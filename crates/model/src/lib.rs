//! The AWS interfaces that firn serves, as Rust types.
//!
//! One module per service (`lambda`, `logs`) is generated from the facts in `models/` by
//! `cargo xtask codegen`: inputs, outputs, enums, error shapes, and the codec and constraint checks
//! of each operation. The rest of the crate is what generated code stands on: identifiers, JSON,
//! HTTP bindings and AWS's validation messages. It never does I/O and never reads a clock.
#![forbid(unsafe_code)]

pub mod application_autoscaling;
mod arn;
mod aws_json;
mod blob;
mod cbor;
pub mod cloudwatch;
pub mod common_error;
mod error;
pub mod event_stream;
pub mod form;
mod identity;
pub mod json;
pub mod lambda;
pub mod logs;
mod operation;
pub mod rest;
mod rest_json;
pub mod rpc;
pub mod stepfunctions;
mod string_enum;
pub mod validation;

pub use arn::{Arn, ParseArnError};
pub use blob::{Blob, BlobError, BlobReader};
pub use clock::Timestamp;
pub use error::{DecodeError, ErrorShape, Fault, WireError};
pub use identity::{AccountId, ParseAccountIdError, ParseRegionError, Region};
pub use operation::{
    Answering, Operation, OperationBinding, OperationInput, OversizedBody, Protocol, ServiceModel,
};
