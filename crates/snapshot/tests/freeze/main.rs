//! Freezes real processes. Needs root (or the right to trace its own children), Python, and
//! Linux on x86-64.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod descriptors;
mod endurance;
mod process;
mod program;
mod refusals;
