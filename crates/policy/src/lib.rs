//! IAM policy documents: what they say, and what that means for one request.
//!
//! [`Document::parse`] reads a document as IAM's grammar has it
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>), and
//! [`Document::evaluate`] holds a [`Request`] against it. The same type serves policies of
//! resources, whose statements name principals, and of identities, whose statements do not.
//! How several documents combine, and whether silence means yes or no, is the caller's business:
//! the answer here is [`Decision::Allow`], [`Decision::Deny`] or [`Decision::NoMatch`].
//!
//! Nothing here does I/O, and the time of day is just another key of the [`Context`].
#![forbid(unsafe_code)]

mod condition;
mod context;
mod document;
mod operand;
mod pattern;
mod principal;

pub use context::Context;
pub use document::{
    Decision, Document, Effect, MAX_DOCUMENT_BYTES, ParseError, Request, Statement,
};
pub use principal::Principal;
