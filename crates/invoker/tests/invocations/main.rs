//! Invocations of real functions in real environments.
//!
//! The sandbox's spawner is this very program, executed again, so that `main` must be ours. It
//! prints what libtest would.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "this is a test and its runner"
)]

mod custom;
mod extensions;
mod failures;
mod harness;
mod managed;
mod pool;
mod provisioned;
mod reserved;
mod restore_protocol;
mod snapstart;

fn main() {
    sandbox::spawner_main();
    harness::run(&[
        custom::TESTS,
        extensions::TESTS,
        failures::TESTS,
        managed::TESTS,
        pool::TESTS,
        provisioned::TESTS,
        reserved::TESTS,
        restore_protocol::TESTS,
        snapstart::TESTS,
    ]);
}
