//! How long an expression takes, here and in another process: `cargo bench -p evaluators`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use asl::failure::Evaluation;
use asl::jsonata::Jsonata;
use asl::{Budget, Scope, Seeded, Variables};
use serde_json::{Value, json};

/// Said to the program when it is to evaluate everything itself.
const HERE: &str = "--here";

fn main() {
    evaluators::worker_main();
    if std::env::args().any(|argument| argument == HERE) {
        return measure("here");
    }
    // In a process of its own, since it is said once per process where expressions go.
    let status = Command::new("/proc/self/exe").arg(HERE).status();
    assert!(status.unwrap().success());
    evaluators::install();
    measure("elsewhere, unless small");
}

fn measure(place: &str) {
    println!("{place}:");
    let small = json!({"lines": [{"sku": "a", "price": 1.5}, {"sku": "b", "price": 20}], "n": 1});
    let line = json!({"sku": "a", "price": 1.5, "text": "x".repeat(60)});
    let large = json!({"lines": vec![line; 2_000], "n": 1});
    for (name, input) in [("small", &small), ("200 KB", &large)] {
        for source in [
            "$states.input.n + 1",
            "$merge([$states.input, {'n': 1}])",
            "$sum($states.input.lines.price)",
            "$map($states.input.lines, function($l){$l.price * 2}) ~> $sum()",
        ] {
            let taken = time(source, input);
            println!("  {:8.1} us  {name:6}  {source}", taken.as_secs_f64() * 1e6);
        }
    }
}

fn time(source: &str, input: &Value) -> Duration {
    let expression = Jsonata::of(&format!("{{% {source} %}}")).unwrap();
    let run = |rounds: u32| {
        let began = Instant::now();
        for _ in 0..rounds {
            black_box(evaluate(&expression, input));
        }
        began.elapsed()
    };
    run(3);
    let mut rounds = 10;
    loop {
        let taken = run(rounds);
        if taken > Duration::from_millis(300) {
            return taken / rounds;
        }
        rounds *= 2;
    }
}

fn evaluate(expression: &Jsonata, input: &Value) -> Value {
    let mut chance = Seeded::new(1);
    let mut evaluation = Evaluation {
        scope: Scope {
            input,
            context: &Value::Null,
            variables: &Variables::new(),
        },
        chance: &mut chance,
        budget: Budget::default(),
        now_ms: 1_700_000_000_123,
        result: None,
        error_output: None,
    };
    expression.evaluate("Output", &mut evaluation).unwrap()
}
