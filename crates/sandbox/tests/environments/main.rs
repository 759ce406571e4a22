//! Tests against real environments: what they can do, and what code in them cannot.
//!
//! The spawner is this very program, executed again, so that `main` must be ours. It prints what
//! libtest would. Started as root, it runs everything once more as an unprivileged user.

#![expect(clippy::print_stdout, reason = "what a test runner is for")]

mod attacks;
mod connections;
mod exhaustion;
mod harness;
mod lifecycle;
mod network;
mod server;
mod thaw;

fn main() {
    sandbox::spawner_main();
    server::serve_if_asked();
    harness::run(&[
        lifecycle::TESTS,
        attacks::TESTS,
        connections::TESTS,
        exhaustion::TESTS,
        network::TESTS,
        server::TESTS,
        thaw::TESTS,
    ]);
}
