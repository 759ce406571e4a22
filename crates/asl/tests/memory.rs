//! What is evaluated in this process stays small in it. A test of its own, since the memory of a
//! process is that of all its tests.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use asl::failure::Evaluation;
use asl::jsonata::Jsonata;
use asl::jsonata::elsewhere::{self, Lost};
use asl::{Budget, Scope, Seeded, Variables};
use serde_json::{Value, json};

/// What `docs/design/asl.md` claims.
const MAX_PEAK_KIB: u64 = 128 << 10;

static ASKED: AtomicUsize = AtomicUsize::new(0);

fn kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How much more memory than before an evaluation has at its largest, and whether it took place here.
fn peak_kib(source: &str, input: &Value) -> (u64, bool) {
    let variables = Variables::from([("v".into(), input["a"].clone().into())]);
    let mut chance = Seeded::new(1);
    let mut evaluation = Evaluation {
        scope: Scope {
            input,
            context: &Value::Null,
            variables: &variables,
        },
        chance: &mut chance,
        budget: Budget::default(),
        now_ms: 1_700_000_000_123,
        result: None,
        error_output: None,
    };
    let expression = Jsonata::of(&format!("{{% {source} %}}")).unwrap();
    let asked = ASKED.load(Ordering::Relaxed);
    // The peak begins anew at what there is now.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = kib("VmRSS:");
    let _ = expression.evaluate("Output", &mut evaluation);
    let peak = kib("VmHWM:").saturating_sub(before);
    (peak, ASKED.load(Ordering::Relaxed) == asked)
}

#[test]
fn peak_of_what_is_evaluated_here_is_bounded() {
    elsewhere::evaluate_with(Box::new(|_, _| {
        ASKED.fetch_add(1, Ordering::Relaxed);
        Err(Lost::Memory)
    }));
    let texts = |n: usize| json!({"a": vec!["\u{1}\u{1}\u{1}\u{1}"; n], "t": "x"});
    let numbers = |n: usize| json!({"a": vec![0; n], "t": "x"});
    let objects = |n: usize| json!({"a": vec![json!({"b": 1, "c": []}); n], "t": "x"});
    let mut largest = 0;
    let mut here = 0;
    for count in [1_000, 20_000, 60_000] {
        for input in [texts(count), numbers(count), objects(count)] {
            for times in [1, 10, 100] {
                let repeated = |text: &str, between: &str| vec![text; times].join(between);
                for source in [
                    format!("[{}]", repeated("$states.input", ", ")),
                    format!("[{}]", repeated("$states.input.a.$", ", ")),
                    repeated("$string($states.input)", " & "),
                    format!("$count([{}])", repeated("$split($string($v), '')", ", ")),
                    format!("$states.input.a.[{}]", repeated("$", ", ")),
                    format!("$states.input.a[{}]", repeated("$ != $v", " and ")),
                    format!("$states.input.a.{{'x': [{}]}}", repeated("b", ", ")),
                ] {
                    let (peak, was_here) = peak_kib(&source, &input);
                    if was_here {
                        here += 1;
                        largest = largest.max(peak);
                        assert!(peak <= MAX_PEAK_KIB, "{peak} KiB: {source:.200}");
                    }
                }
            }
        }
    }
    // Both kinds have been tried, and the bound is not idle.
    println!("{here} here, {largest} KiB at most");
    assert!(here > 50 && ASKED.load(Ordering::Relaxed) > 50, "{here}");
    assert!(largest > 1 << 10, "{largest}");
}
