//! Expressions that nothing bounds, in processes that end of them.
//!
//! The processes are this very program, executed again, so that `main` must be ours. It prints what
//! libtest would.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what a test runner is for"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use asl::failure::{Evaluation, EvaluationError};
use asl::jsonata::Jsonata;
use asl::jsonata::elsewhere;
use asl::machine::{Identity, Input, Outcome};
use asl::{Budget, Definition, Execution, Scope, Seeded, Variables};
use evaluators::{Config, Pool};
use serde_json::{Value, json};

/// How `main` is asked for something else than the tests.
const HERE: &str = "--evaluate-here";
const HANG: &str = "--hang";

/// 2 GB, soon.
const MANY: &str = "$replace($pad('', 20000, 'a'), /a/, $pad('', 100000, 'x'))";
/// 16 GB in one allocation.
const REPLACE: &str = "$replace($pad('', 1000000, 'a'), /a/, $pad('', 100000, 'x'))";
/// 2 GB, doubling.
const DOUBLE: &str =
    "($f := function($s, $n){$n = 0 ? $length($s) : $f($s & $s, $n - 1)}; $f('abcdefgh', 28))";
/// Longer than anybody waits, inside of one function.
const PAD: &str = "$length($pad('', 2000000000, 'x'))";
/// Longer than anybody waits, and small.
const ENDLESS: &str = "($f := function($n){ $f($n + 1) }; $f(0))";

/// What is open before anything was opened here.
static INHERITED: OnceLock<Vec<u32>> = OnceLock::new();
static POOL: OnceLock<Arc<Pool>> = OnceLock::new();

fn pool() -> &'static Arc<Pool> {
    POOL.get_or_init(|| {
        let config = Config::of(PathBuf::from("/proc/self/exe"));
        Arc::new(Pool::new(config).unwrap())
    })
}

fn main() {
    evaluators::worker_main();
    match std::env::args().nth(1).as_deref() {
        Some(HERE) => return evaluate_here(),
        Some(HANG) => return hang(),
        Some("--list") => return,
        _ => {}
    }
    let mut inherited = descriptors(Path::new("/proc/self"));
    // The one that has been reading the folder.
    inherited.retain(|number| Path::new(&format!("/proc/self/fd/{number}")).exists());
    INHERITED.get_or_init(|| inherited);
    let of = Arc::clone(pool());
    elsewhere::evaluate_with(Box::new(move |request, limit| of.evaluate(request, limit)));
    let filter = std::env::args().skip(1).find(|text| !text.starts_with('-'));
    let tests: &[(&str, fn())] = &[
        ("values_and_errors_are_the_same_both_ways", same_both_ways),
        (
            "process_is_kept_and_has_nothing_it_does_not_need",
            kept_and_bare,
        ),
        ("too_much_memory_ends_one_expression", too_much_memory),
        ("too_much_time_ends_one_expression", too_much_time),
        ("process_that_is_killed_is_replaced", killed),
        ("process_that_has_grown_is_not_kept", grown),
        ("hundred_hostile_expressions_leave_others_alone", hundred),
        ("expressions_of_a_step_share_their_time", shared_time),
        ("idle_processes_end", idle),
        ("processes_end_with_the_server", end_with_server),
    ];
    let mut ran = 0;
    for (name, test) in tests {
        if filter.as_ref().is_none_or(|filter| name.contains(filter)) {
            let began = Instant::now();
            test();
            ran += 1;
            println!(
                "test {name} ... ok ({:.1} s)",
                began.elapsed().as_secs_f64()
            );
        }
    }
    println!("test result: ok. {ran} passed");
}

fn evaluate(source: &str, seed: u64) -> Result<Value, EvaluationError> {
    evaluate_with(source, &input(), seed)
}

fn input() -> Value {
    json!({
        "name": "Ånne \u{1F600} \"q\"",
        "exact": [0.1, 1e-7, 123_456_789.123_456_78, 5e-324, 1.797_693_134_862_315_7e308, -0.0],
        "big": 9_007_199_254_740_993_i64,
        "lines": [{"sku": "a", "price": 1.5, "n": 2}, {"sku": "b", "price": 20, "n": 1}],
        "nested": {"deep": [[1, [2, [3]]], {"x": null}]},
        "empty": {"list": [], "object": {}, "text": ""},
    })
}

fn evaluate_with(source: &str, input: &Value, seed: u64) -> Result<Value, EvaluationError> {
    let context = json!({"Execution": {"Name": "run"}, "State": {"Name": "S"}});
    let variables = Variables::from([
        ("v".into(), json!([3, 1, 2]).into()),
        ("words".into(), json!(["c", "a", "b"]).into()),
    ]);
    let result = json!({"ok": true});
    let mut chance = Seeded::new(seed);
    let mut evaluation = Evaluation {
        scope: Scope {
            input,
            context: &context,
            variables: &variables,
        },
        chance: &mut chance,
        budget: Budget::default(),
        now_ms: 1_700_000_000_123,
        result: Some(&result),
        error_output: None,
    };
    Jsonata::of(&format!("{{% {source} %}}"))
        .unwrap()
        .evaluate("Output", &mut evaluation)
}

/// Of every kind; all but the first few are evaluated elsewhere if there is an elsewhere.
const SAMPLES: &[&str] = &[
    "$states.input.name & '!'",
    "$states",
    "$notThere",
    "$map($states.input.lines, function($l){$l.price * $l.n})",
    "$map($states.input.exact, function($x){$x})",
    "$map($states.input.exact, $string)",
    "$map([$states.input.big], function($x){$x})",
    "$filter($states.input.lines, function($l){$l.price > 2})",
    "$reduce($v, function($a, $b){$a + $b})",
    "$sift($states.input.lines[0], function($x, $k){$k = 'sku'})",
    "$each($states.input.lines[0], function($x, $k){$k & '=' & $x})",
    "$states.input.lines^(>price).sku",
    "$states.input.lines{sku: price}",
    "$states.input.**.price",
    "$states.input.nested.*",
    "$states.input ~> |lines|{'n': 0}, ['sku']|",
    "[1..20]",
    "$range(0, 100, 7)",
    "$sort($words)",
    "$sort($v, function($a, $b){$a < $b})",
    "$zip($v, $words)",
    "$spread($states.input.lines)",
    "$pad($states.input.name, 20, '#')",
    "$replace($states.input.name, /n+/, 'm')",
    "$replace('ab', /(a)(b)/, '$2$1')",
    "$match('abcabc', /b(c)/)",
    "$split('a1b22c', /[0-9]+/)",
    "$contains($states.input.name, /q/)",
    "$formatNumber(1234.5678, '#,##0.00')",
    "$formatBase(255, 16)",
    "$formatInteger(1999, 'I')",
    "$parseInteger('one hundred', 'w')",
    "$fromMillis(1700000000000, '[Y0001]-[M01]-[D01] [H01]:[m01] [z]', '+0200')",
    "$toMillis('13/09/2024', '[D01]/[M01]/[Y0001]')",
    "$now('[Y0001]') & $millis() ~> $string()",
    "$map([1, 2, 3], function($x){$uuid()})",
    "$map([1, 2, 3], function($x){$random()})",
    "$map([1], function($x){$random(7)})",
    "$map($words, function($x){$hash($x, 'SHA-256')})",
    "$map(['{\"a\": [1.1]}'], $parse)",
    "$shuffle([1]) ~> $sum",
    "$states.result ~> function($x){$x}",
    "$states.input.empty ~> function($x){$x}",
    "$states.input.nested.deep ~> function($x){$x}",
    "($fib := function($n){$n < 2 ? $n : $fib($n - 1) + $fib($n - 2)}; $fib(15))",
    "($a := 1; ($a := 2; $a) + $a + $map([1], function($x){$x}))",
    "function($x){$x}",
    "$map",
    "/regex/",
    "$error('boom') ~> $string",
    "$map([1], function($x){$error('boom ' & $x)})",
    "$map('a', function($x){$x + 1})",
    "$assert(false, 'no') ~> $string",
    "$map($doesNotExist, function($x){$x})",
    "$eval('1') ~> $string",
    "$fromMillis(1, '[Y0.rQ(-4444444444444444444444444444444a,]')",
    "($f := function($n){ $f($n + 1) + 1 }; $f(0))",
    "[1..100000000]",
    "$map([1..3], function($x){[1..$x]})",
    "$join($map($words, $uppercase), '-')",
    "$string($states.input, true)",
    "$length($pad('', 100000, 'x'))",
    "1 / 0 ~> $string",
    "$map([1], function($x){1e308 * 10})",
];

fn shown(of: Result<Value, EvaluationError>) -> Value {
    match of {
        Ok(value) => json!({"value": value}),
        Err(error) => json!({"error": error.error, "cause": error.cause}),
    }
}

/// Also the official test suite, where there is one; `scripts/jsonata-suite` says where.
fn samples() -> Vec<(String, Value)> {
    let own = SAMPLES.iter().map(|source| ((*source).to_owned(), input()));
    let mut samples: Vec<(String, Value)> = own.collect();
    if let Some(root) = std::env::var_os("JSONATA_SUITE") {
        suite(Path::new(&root), &mut samples);
    }
    samples
}

fn suite(root: &Path, samples: &mut Vec<(String, Value)>) {
    let read = |path: &Path| serde_json::from_slice(&fs::read(path).unwrap());
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("groups"))
        .unwrap()
        .flat_map(|group| fs::read_dir(group.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .collect();
    files.sort();
    for file in files {
        // Lone surrogates are no JSON to serde.
        let cases = match read(&file) {
            Ok(Value::Array(cases)) => cases,
            Ok(case) => vec![case],
            Err(_) => continue,
        };
        for case in cases {
            let data = match case["dataset"].as_str() {
                Some(name) => read(&root.join("datasets").join(format!("{name}.json"))).unwrap(),
                None => case["data"].clone(),
            };
            if let Some(source) = case["expr"].as_str() {
                samples.push((format!("$states.input.({source}\n)"), data));
            }
        }
    }
}

fn all_samples(samples: &[(String, Value)]) -> Vec<Value> {
    let samples = samples.iter().enumerate();
    samples
        .map(|(seed, (source, input))| shown(evaluate_with(source, input, seed as u64)))
        .collect()
}

fn evaluate_here() {
    println!("{}", Value::from(all_samples(&samples())));
}

fn same_both_ways() {
    let output = Command::new("/proc/self/exe").arg(HERE).output().unwrap();
    let here: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let samples = samples();
    let there = all_samples(&samples);
    assert_eq!(here.len(), samples.len());
    let mut values = 0;
    for ((source, here), there) in samples.iter().zip(&here).zip(&there) {
        assert_eq!(here, there, "{source:?}");
        values += usize::from(here.get("value").is_some());
    }
    println!("{} expressions, {values} with a value", here.len());
    assert!(values > 40, "only {values} have a value");
    assert!(!pool().idle().is_empty(), "none was evaluated elsewhere");
}

fn kept_and_bare() {
    let one = "$map([1], function($x){$x})";
    evaluate(one, 1).unwrap();
    let before = pool().idle();
    evaluate(one, 1).unwrap();
    assert_eq!(pool().idle(), before);
    let process = PathBuf::from(format!("/proc/{}", before.last().unwrap()));
    assert_eq!(fs::read(process.join("environ")).unwrap(), b"");
    // Standard input and its copy are the socket; the others lead nowhere, or are what this program
    // itself was handed.
    let known = INHERITED.get().unwrap();
    let open = descriptors(&process);
    let own: Vec<&u32> = open
        .iter()
        .filter(|number| !known.contains(number))
        .collect();
    assert!(own.len() <= 1, "{own:?}");
    let limits = fs::read_to_string(process.join("limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..]
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(limit("Max data size"), (512 << 20).to_string());
    assert_eq!(limit("Max core file size"), "0");
    assert_eq!(limit("Max open files"), "16");
}

fn descriptors(process: &Path) -> Vec<u32> {
    let open = fs::read_dir(process.join("fd")).unwrap();
    open.map(|file| file.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect()
}

fn cause_of(source: &str) -> String {
    let error = evaluate(source, 1).unwrap_err();
    assert_eq!(error.error, "States.QueryEvaluationError");
    assert_eq!(error.location.as_deref(), Some("Output"));
    error.cause
}

fn resident_kib(process: &Path, field: &str) -> u64 {
    let status = fs::read_to_string(process.join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn own_peak_kib() -> u64 {
    resident_kib(Path::new("/proc/self"), "VmHWM:")
}

fn too_much_memory() {
    let before = own_peak_kib();
    assert_eq!(
        cause_of(MANY),
        format!(
            "The JSONata expression '{MANY}' specified for the field 'Output' threw an error \
             during evaluation. It needs more memory than one expression may have."
        )
    );
    for source in [REPLACE, DOUBLE, PAD] {
        // Which end comes first depends on the machine.
        let cause = cause_of(source);
        assert!(is_bounded(&cause), "{cause}");
    }
    let grown = own_peak_kib() - before;
    assert!(grown < 16 << 10, "this process has grown by {grown} KiB");
    assert!(evaluate("$map([1], function($x){$x})", 1).is_ok());
}

const TOO_LONG: &str = "threw an error during evaluation. It takes longer than the 5 seconds that \
                        the expressions of a step may take together.";

fn too_much_time() {
    let began = Instant::now();
    let cause = cause_of(ENDLESS);
    assert!(cause.ends_with(TOO_LONG), "{cause}");
    assert!(began.elapsed() < Duration::from_secs(30));
}

fn is_bounded(cause: &str) -> bool {
    cause.contains("needs more memory") || cause.ends_with(TOO_LONG)
}

/// The processes of this one that evaluate expressions.
fn children() -> Vec<u32> {
    let own = std::process::id();
    let all = fs::read_dir("/proc").unwrap();
    let numbers = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    numbers.filter(|id| is_child(*id, own)).collect()
}

fn is_child(id: u32, of: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) else {
        return false;
    };
    let is_zombie = status.lines().any(|line| line.starts_with("State:\tZ"));
    status.lines().any(|line| line == format!("PPid:\t{of}")) && !is_zombie
}

fn kill(id: u32) {
    let status = Command::new("kill").arg("-9").arg(id.to_string()).status();
    assert!(status.unwrap().success());
    eventually("it has ended", || !children().contains(&id));
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn killed() {
    // While it waits for the next expression.
    evaluate("$map([1], function($x){$x})", 1).unwrap();
    for id in pool().idle() {
        kill(id);
    }
    assert!(evaluate("$map([1], function($x){$x})", 1).is_ok());
    // In the middle of one.
    let idle = pool().idle();
    let hanging = thread::spawn(|| cause_of(ENDLESS));
    eventually("a process is busy", || pool().idle().len() < idle.len());
    let busy = children()
        .into_iter()
        .find(|id| !pool().idle().contains(id));
    kill(busy.unwrap());
    let cause = hanging.join().unwrap();
    assert!(cause.ends_with("What evaluated it has ended."), "{cause}");
    assert!(evaluate("$map([1], function($x){$x})", 1).is_ok());
}

fn grown() {
    evaluate("$map([1], function($x){$x})", 1).unwrap();
    let before = pool().idle();
    // Many small values, so that the memory does not go back to the system at once; whether it is
    // kept depends on the allocator, so what is checked is what is left.
    let _ = evaluate(
        "$count($map([1..90000], function($x){{'a': $string($x)}}))",
        1,
    );
    for id in pool().idle() {
        let kept = resident_kib(Path::new(&format!("/proc/{id}")), "RssAnon:");
        assert!(kept <= 64 << 10, "{kept} KiB, {before:?}");
    }
}

fn hundred() {
    let before = own_peak_kib();
    let began = Instant::now();
    let hostile: Vec<_> = (0..100)
        .map(|index| {
            let source = [MANY, REPLACE, DOUBLE, PAD, ENDLESS][index % 5];
            thread::spawn(move || cause_of(source))
        })
        .collect();
    // What is small goes on.
    let mut slowest = Duration::ZERO;
    while hostile.iter().any(|one| !one.is_finished()) {
        let began = Instant::now();
        assert_eq!(evaluate("$sum($v)", 1).unwrap(), json!(6));
        slowest = slowest.max(began.elapsed());
        assert!(children().len() <= evaluators::most());
        thread::sleep(Duration::from_millis(20));
    }
    for one in hostile {
        let cause = one.join().unwrap();
        assert!(is_bounded(&cause), "{cause}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let grown = own_peak_kib() - before;
    assert!(grown < 64 << 10, "this process has grown by {grown} KiB");
    assert!(evaluate("$map([1], function($x){$x})", 1).is_ok());
}

fn shared_time() {
    // Each of the fields takes milliseconds, and has a value.
    let field = "{% ($f := function($n){ $n = 0 ? 0 : $f($n - 1) }; $f(20000)) %}";
    let fields: serde_json::Map<String, Value> = (0..5_000)
        .map(|index| (format!("f{index}"), json!(field)))
        .collect();
    let definition = json!({
        "QueryLanguage": "JSONata", "StartAt": "A",
        "States": {"A": {"Type": "Pass", "Output": fields, "End": true,}},
    });
    let definition = Definition::parse(&definition.to_string()).unwrap();
    assert!(definition.is_heavy());
    let mut execution = Execution::new(identity());
    execution.step(&definition, Input::Start, 1_700_000_000_000, 7);
    let Some(Outcome::Failed(failure)) = execution.outcome() else {
        panic!("{:?}", execution.outcome());
    };
    assert_eq!(
        failure.error.as_deref(),
        Some("States.QueryEvaluationError")
    );
    assert!(failure.cause.as_ref().unwrap().ends_with(TOO_LONG));
}

fn identity() -> Identity {
    Identity {
        number: 1,
        execution_arn: "arn:aws:states:eu-west-1:123456789012:execution:machine:run".into(),
        execution_name: "run".into(),
        machine_arn: "arn:aws:states:eu-west-1:123456789012:stateMachine:machine".into(),
        machine_name: "machine".into(),
        role_arn: "arn:aws:iam::123456789012:role/role".into(),
        region: "eu-west-1".into(),
        started_ms: 1_700_000_000_000,
        input: Arc::new(json!({})),
        redrive_count: 0,
    }
}

fn idle() {
    let pool = Pool::new(Config {
        program: PathBuf::from("/proc/self/exe"),
        most: 2,
        idle: Duration::from_millis(200),
    })
    .unwrap();
    // No request at all is answered, too.
    assert!(pool.evaluate(b"nonsense", Duration::from_secs(5)).is_ok());
    let [id] = pool.idle()[..] else {
        panic!("{:?}", pool.idle());
    };
    eventually("the process is gone", || {
        !Path::new(&format!("/proc/{id}")).exists()
    });
    assert!(pool.idle().is_empty());
    assert!(pool.evaluate(b"nonsense", Duration::from_secs(5)).is_ok());
    // With the pool, they go as well.
    let [id] = pool.idle()[..] else {
        panic!("{:?}", pool.idle());
    };
    drop(pool);
    assert!(!Path::new(&format!("/proc/{id}")).exists());
}

/// A server that does nothing but wait for an endless expression.
fn hang() {
    let of = Arc::clone(pool());
    elsewhere::evaluate_with(Box::new(move |request, limit| of.evaluate(request, limit)));
    let waiting = thread::spawn(|| evaluate(ENDLESS, 1));
    eventually("there is a process", || !children().is_empty());
    println!("{}", children()[0]);
    let _ = waiting.join();
}

fn end_with_server() {
    let mut server = Command::new("/proc/self/exe")
        .arg(HANG)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = server.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    let worker: u32 = line.trim().parse().unwrap();
    assert!(Path::new(&format!("/proc/{worker}")).exists());
    server.kill().unwrap();
    server.wait().unwrap();
    let began = Instant::now();
    eventually("the process is gone", || {
        // Whoever takes orphans in may take its time with what has ended.
        fs::read_to_string(format!("/proc/{worker}/status"))
            .map_or(true, |status| status.contains("State:\tZ"))
    });
    // Sooner than the expression would have ended by itself.
    assert!(began.elapsed() < Duration::from_secs(2));
}
