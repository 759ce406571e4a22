//! Processes with a memory limit that evaluate JSONata expressions.
//!
//! The library that evaluates them has no bound on memory, and an allocation that fails ends the
//! process. So what is not known to stay small (`asl::jsonata` knows) is evaluated by this same
//! program, executed again, which is all that an expression can end. It has no environment
//! variables, no descriptors but its socket, and no more than [`MAX_MEMORY_BYTES`] of memory; it
//! ends when its socket closes, and when the server does.
#![forbid(unsafe_code)]

mod pool;
mod process;
mod wire;
mod worker;

use std::path::PathBuf;
use std::sync::OnceLock;

use asl::jsonata::elsewhere;

pub use pool::{Config, Pool};
pub use worker::{MAX_MEMORY_BYTES, worker_main};

/// Lets the expressions of this program be evaluated by processes. None is started before one is
/// needed. `main` has to call [`worker_main`] first.
pub fn install() {
    let pool: OnceLock<Option<Pool>> = OnceLock::new();
    elsewhere::evaluate_with(Box::new(move |request, limit| {
        let pool = pool.get_or_init(|| {
            Pool::new(Config::of(PathBuf::from("/proc/self/exe")))
                .inspect_err(|err| tracing::error!(error = %err, "expressions cannot be evaluated"))
                .ok()
        });
        // Without a thread for the pool there is nothing that could evaluate within bounds.
        let pool = pool.as_ref().ok_or(elsewhere::Lost::Process)?;
        pool.evaluate(request, limit)
    }));
}

/// How many expressions are evaluated at a time: one per core, and two so that one does not hold up
/// all others.
pub fn most() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .max(2)
}
