//! Thaws, in namespaces as the sandbox makes them.
//!
//! Needs root. Not with the usual harness, whose threads a copy of the process would lack.

mod cage;
mod java;
mod node;
mod programs;
mod python;
mod tiny;

use std::time::Instant;

type Test = (&'static str, fn() -> anyhow::Result<()>);

const TESTS: &[Test] = &[
    ("tiny::says_hi", tiny::says_hi),
    ("tiny::failures_are_named", tiny::failures_are_named),
    ("python::computes", python::computes),
    ("python::threads_go_on", python::threads_go_on),
    ("python::descriptors_are_kept", python::descriptors_are_kept),
    ("python::timers_go_on", python::timers_go_on),
    (
        "python::shared_memory_is_shared",
        python::shared_memory_is_shared,
    ),
    (
        "python::dead_connections_are_reset",
        python::dead_connections_are_reset,
    ),
    ("python::starts_programs", python::starts_programs),
    ("python::clocks_go_on", python::clocks_go_on),
    ("python::randomness_is_fresh", python::randomness_is_fresh),
    ("python::memory_may_be_exact", python::memory_may_be_exact),
    ("python::rights_are_gone", python::rights_are_gone),
    (
        "python::a_clone_can_be_frozen",
        python::a_clone_can_be_frozen,
    ),
    (
        "python::a_hundred_clones_leave_nothing",
        python::a_hundred_clones_leave_nothing,
    ),
    ("python::pages_are_prepared", python::pages_are_prepared),
    ("python::pages_come_late", python::pages_come_late),
    ("python::a_recording_is_exact", python::a_recording_is_exact),
    ("node::works_on", node::works_on),
    ("java::works_on", java::works_on),
];

fn main() {
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: thaws need root");
        return;
    }
    let mut failed = Vec::new();
    for (name, test) in TESTS {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
            continue;
        }
        let start = Instant::now();
        match test() {
            Ok(()) => eprintln!("test {name} ... ok ({} ms)", start.elapsed().as_millis()),
            Err(err) => {
                eprintln!("test {name} ... FAILED: {err:#}");
                failed.push(*name);
            }
        }
    }
    if !failed.is_empty() {
        eprintln!("failed: {}", failed.join(", "));
        std::process::exit(1);
    }
}
