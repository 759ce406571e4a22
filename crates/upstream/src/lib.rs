//! Services at an address: what this server does not serve itself, such as queues of AWS or of
//! another emulator.
//!
//! [`Config`] says where they are, [`Client`] sends requests there. What a request looks like is the
//! matter of those who make it.
#![forbid(unsafe_code)]

mod client;
mod config;

pub use client::{Client, Pieces, Unreachable};
pub use config::Config;
