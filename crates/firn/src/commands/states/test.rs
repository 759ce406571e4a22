//! `firn states test`: a definition run on this machine, with mocks in the place of its tasks and
//! without waiting for anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use asl::Definition;
use clock::Clock;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use states::mocks::{Mocks, TestCase};

use super::deploy::parse_pair;
use crate::cli::Global;
use crate::failure::{Failure, usage};
use crate::output::{self, Style};
use crate::workflow::duration;
use crate::workflow::rehearsal::{self, Rehearsal, Setup, Visit};
use crate::workflow::source::{Parameters, Source};

const LONG: &str = "\
Runs a definition without a server: tasks answer what mocks say, waits take no time, and the
states are shown through which the execution went.

Mocks are
  FILE#CASE     a test case of a file in the format of Step Functions Local
  STATE=FILE    one state: the JSON that it returns, or {\"Return\": …}, {\"Throw\": {\"Error\": …,
                \"Cause\": …}}, or answers by attempt as {\"0\": {…}, \"1-2\": {…}}

With --cases, the tests of a file are run, in JSON or YAML:
  definition: order.asl.json        # beside the file; the argument wins
  mocks: MockConfigFile.json        # what `case` is looked for in
  tests:
    - name: retries once
      case: RetryPath
      input: {\"id\": 1}
      mock: {Charge: {Return: {\"ok\": true}}}
      expect: {status: SUCCEEDED, output: {\"ok\": true}, path: [Charge, Done]}";

/// Flags of `firn states test`.
#[derive(Debug, clap::Args)]
#[command(long_about = LONG)]
pub struct Args {
    /// The definition: JSON, or YAML in a file that ends in .yaml or .yml
    #[arg(required_unless_present = "cases")]
    definition: Option<PathBuf>,
    /// The input: JSON, @file, or - for standard input
    #[arg(short, long, default_value = "{}")]
    input: String,
    /// What a task answers: FILE#CASE, or STATE=FILE; repeat for more
    #[arg(short, long = "mock", value_name = "MOCK")]
    mocks: Vec<String>,
    /// The machine's name in the file of mocks, where it has several with the case
    #[arg(long)]
    name: Option<String>,
    /// Fail unless the execution ends so
    #[arg(long, value_name = "STATUS", value_parser = ["SUCCEEDED", "FAILED", "TIMED_OUT"])]
    expect_status: Option<String>,
    /// Fail unless this is the output: JSON, or @file
    #[arg(long, value_name = "JSON")]
    expect_output: Option<String>,
    /// Fail unless the execution fails with this error
    #[arg(long, value_name = "NAME")]
    expect_error: Option<String>,
    /// Run the tests of a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["input", "mocks", "expect_status",
        "expect_output", "expect_error"])]
    cases: Option<PathBuf>,
    /// The random numbers of the execution follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What ${Name} in the definition stands for; repeat for more
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = parse_pair)]
    params: Vec<(String, String)>,
}

/// What an execution is to come to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expect {
    status: Option<String>,
    output: Option<Value>,
    error: Option<String>,
    /// The states in the order in which they are entered.
    path: Option<Vec<String>>,
}

/// A file of tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    definition: Option<PathBuf>,
    mocks: Option<PathBuf>,
    tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    case: Option<String>,
    #[serde(default = "empty")]
    input: Value,
    #[serde(default)]
    mock: Map<String, Value>,
    #[serde(default)]
    expect: Expect,
}

fn empty() -> Value {
    json!({})
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    match &args.cases {
        Some(file) => suite(args, file, global),
        None => single(args, global),
    }
}

fn single(args: &Args, global: &Global) -> Result<()> {
    let Some(file) = &args.definition else {
        return Err(usage("a definition is required"));
    };
    let definition = definition(file, args)?;
    let mut mocks = TestCase::default();
    for mock in &args.mocks {
        mocks = mocks.with(self::mock(mock, args.name.as_deref())?);
    }
    let input = parse(&text(&args.input)?, "--input")?;
    let expect = Expect {
        status: args.expect_status.clone(),
        output: match &args.expect_output {
            Some(output) => Some(parse(&text(output)?, "--expect-output")?),
            None => None,
        },
        error: args.expect_error.clone(),
        path: None,
    };
    let rehearsal = rehearse(&definition, file, input, &mocks, args.seed)?;
    if global.json {
        output::json(&document(&rehearsal))?;
    } else {
        tell(&rehearsal)?;
    }
    let has_none = expect == Expect::default();
    let wrong = expect.misses(&rehearsal);
    match wrong.as_slice() {
        // Without an expectation, success is expected.
        [] if has_none && rehearsal.failure().is_some() => {
            Err(Failure::Function(format!("the execution ended as {}", rehearsal.status())).into())
        }
        [] => Ok(()),
        wrong => Err(Failure::Function(wrong.join("; ")).into()),
    }
}

fn suite(args: &Args, file: &Path, global: &Global) -> Result<()> {
    let source = super::read_source(file, &Parameters::new())?;
    let suite: Suite = serde_json::from_value(source.value)
        .map_err(|err| usage(format!("{}: {err}", file.display())))?;
    let beside = |path: &PathBuf| file.parent().unwrap_or(Path::new("")).join(path);
    let Some(path) = args
        .definition
        .clone()
        .or(suite.definition.as_ref().map(beside))
    else {
        return Err(usage(format!("{}: there is no definition", file.display())));
    };
    let definition = definition(&path, args)?;
    let mocks = match suite.mocks.as_ref().map(beside) {
        Some(mocks) => Mocks::load(&mocks).map_err(|err| usage(chain(&err)))?,
        None => Mocks::default(),
    };
    let style = Style::stdout();
    let mut results = Vec::with_capacity(suite.tests.len());
    for test in &suite.tests {
        let wrong = match test.run(&definition, &path, &mocks, args) {
            Ok(rehearsal) => test.expect.misses(&rehearsal),
            Err(err) => vec![format!("{err:#}")],
        };
        if !global.json {
            let verdict = match wrong.is_empty() {
                true => style.good("ok"),
                false => style.error("FAILED"),
            };
            output::line(format!("{verdict:6} {}", test.name))?;
            for wrong in &wrong {
                output::line(format!("       {wrong}"))?;
            }
        }
        results.push((test.name.as_str(), wrong));
    }
    let failed = results
        .iter()
        .filter(|(_, wrong)| !wrong.is_empty())
        .count();
    if global.json {
        let shown: Vec<Value> = results
            .iter()
            .map(|(name, wrong)| json!({"name": name, "ok": wrong.is_empty(), "problems": wrong}))
            .collect();
        output::json(&shown)?;
    } else {
        let passed = results.len() - failed;
        output::line(format!("{passed} passed, {failed} failed"))?;
    }
    match failed {
        0 => Ok(()),
        failed => {
            Err(Failure::Function(format!("{failed} of {} tests failed", results.len())).into())
        }
    }
}

impl Test {
    fn run(
        &self,
        definition: &Definition,
        path: &Path,
        mocks: &Mocks,
        args: &Args,
    ) -> Result<Rehearsal> {
        let mut states = match &self.case {
            Some(case) => TestCase::clone(&*find(mocks, case, args.name.as_deref())?),
            None => TestCase::default(),
        };
        for (state, answer) in &self.mock {
            states = states.with(answers(state, answer)?);
        }
        rehearse(definition, path, self.input.clone(), &states, args.seed)
    }
}

impl Expect {
    /// What is not as it is expected to be.
    fn misses(&self, rehearsal: &Rehearsal) -> Vec<String> {
        let mut wrong = Vec::new();
        let status = rehearsal.status();
        if let Some(expected) = &self.status
            && expected != status
        {
            wrong.push(format!("the status is {status}, not {expected}"));
        }
        if let Some(expected) = &self.output
            && rehearsal.output() != Some(expected)
        {
            let output = rehearsal
                .output()
                .map_or("nothing".into(), Value::to_string);
            wrong.push(format!("the output is {output}, not {expected}"));
        }
        if let Some(expected) = &self.error {
            let error = rehearsal
                .failure()
                .and_then(|failure| failure.error.as_deref());
            if error != Some(expected) {
                let error = error.unwrap_or("none");
                wrong.push(format!("the error is {error}, not {expected}"));
            }
        }
        if let Some(expected) = &self.path {
            let path: Vec<String> = rehearsal
                .path()
                .into_iter()
                .map(|visit| visit.state)
                .collect();
            if path != *expected {
                wrong.push(format!("the path is {path:?}, not {expected:?}"));
            }
        }
        wrong
    }
}

fn definition(file: &Path, args: &Args) -> Result<Definition> {
    let parameters: Parameters = args.params.iter().cloned().collect();
    let source = super::read_source(file, &parameters)?;
    Definition::parse(&source.text)
        .map_err(|refused| usage(wrong_definition(file, &source, &refused)))
}

fn wrong_definition(
    file: &Path,
    source: &Source,
    refused: &asl::definition::InvalidDefinition,
) -> String {
    let lines: Vec<String> = refused
        .0
        .iter()
        .map(|found| {
            let location = found.location.as_deref();
            let line = location.and_then(|location| source.line(location));
            let line = line.map_or_else(String::new, |line| format!(":{line}"));
            format!("{}{line}: {found}", file.display())
        })
        .collect();
    format!("the definition is wrong\n{}", lines.join("\n"))
}

fn rehearse(
    definition: &Definition,
    file: &Path,
    input: Value,
    mocks: &TestCase,
    seed: u64,
) -> Result<Rehearsal> {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let setup = Setup {
        definition,
        name: stem.unwrap_or("machine"),
        input,
        mocks,
        start_ms: Clock::system().now().as_millis(),
        seed,
    };
    rehearsal::run(&setup).map_err(|stuck| usage(stuck.to_string()))
}

/// `FILE#CASE` or `STATE=FILE`.
fn mock(text: &str, machine: Option<&str>) -> Result<TestCase> {
    if let Some((state, file)) = text.split_once('=') {
        let value = parse(&read(Path::new(file))?, file)?;
        return answers(state, &value);
    }
    let Some((file, case)) = text.rsplit_once('#') else {
        return Err(usage(format!(
            "--mock {text}: FILE#CASE or STATE=FILE is expected"
        )));
    };
    let mocks = Mocks::load(Path::new(file)).map_err(|err| usage(chain(&err)))?;
    Ok(TestCase::clone(&*find(&mocks, case, machine)?))
}

fn find(mocks: &Mocks, case: &str, machine: Option<&str>) -> Result<Arc<TestCase>> {
    let all: Vec<(&str, &Arc<TestCase>)> = mocks
        .test_cases()
        .filter(|(name, own, _)| *own == case && machine.is_none_or(|machine| machine == *name))
        .map(|(name, _, found)| (name, found))
        .collect();
    match all.as_slice() {
        [(_, found)] => Ok(Arc::clone(found)),
        [] => Err(usage(format!(
            "there is no test case '{case}' in the mocks"
        ))),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            Err(usage(format!(
                "several machines have '{case}': choose with --name ({names})"
            )))
        }
    }
}

/// The answers of one state: what it returns, or answers as a file of mocks has them.
fn answers(state: &str, value: &Value) -> Result<TestCase> {
    let members = value.as_object();
    let keys: Vec<&str> = members
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
        .collect();
    let is_attempt =
        |key: &&str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let every = format!("0-{}", u64::MAX);
    let responses = if matches!(keys[..], ["Return" | "Throw"]) {
        json!({ every: value })
    } else if !keys.is_empty() && keys.iter().all(is_attempt) {
        value.clone()
    } else {
        json!({ every: {"Return": value} })
    };
    let document = json!({
        "StateMachines": {"machine": {"TestCases": {"case": {state: "answers"}}}},
        "MockedResponses": {"answers": responses},
    });
    let name = format!("of the state {state}");
    let mocks = Mocks::parse(Path::new(&name), &document.to_string());
    let mocks = mocks.map_err(|err| usage(chain(&err)))?;
    Ok(TestCase::clone(&*find(&mocks, "case", None)?))
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// JSON as it is, of a file, or of standard input.
fn text(argument: &str) -> Result<String> {
    match argument.strip_prefix('@') {
        Some(file) => read(Path::new(file)),
        None if argument == "-" => Ok(std::io::read_to_string(std::io::stdin())?),
        None => Ok(argument.to_owned()),
    }
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file)
        .map_err(|err| usage(format!("cannot read {}: {err}", file.display())))
}

fn parse(text: &str, what: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|err| usage(format!("{what} is not JSON: {err}")))
}

fn document(rehearsal: &Rehearsal) -> Value {
    let failure = rehearsal.failure();
    let start = rehearsal.history.first().map_or(0, |event| event.at_ms);
    let path: Vec<Value> = rehearsal
        .path()
        .into_iter()
        .map(|visit| {
            json!({
                "state": visit.state,
                "type": visit.kind.name(),
                "atMs": visit.at_ms,
                "errors": visit.errors,
                "output": visit.output,
            })
        })
        .collect();
    json!({
        "status": rehearsal.status(),
        "output": rehearsal.output(),
        "error": failure.and_then(|failure| failure.error.as_deref()),
        "cause": failure.and_then(|failure| failure.cause.as_deref()),
        "durationMs": rehearsal.end_ms - start,
        "path": path,
        "history": rehearsal.history.iter().map(event).collect::<Vec<_>>(),
    })
}

fn event(event: &asl::history::HistoryEvent) -> Value {
    let mut shown = json!({
        "id": event.id,
        "previousEventId": event.previous,
        "type": event.kind.type_name(),
        "timestamp": clock::Timestamp::from_millis(event.at_ms).to_string(),
    });
    if let Some((name, details)) = event.kind.details() {
        shown[name] = details;
    }
    shown
}

fn tell(rehearsal: &Rehearsal) -> Result<()> {
    let style = Style::stdout();
    for visit in rehearsal.path() {
        output::line(visit_line(&visit, style))?;
    }
    let start = rehearsal.history.first().map_or(0, |event| event.at_ms);
    let after = duration::short(rehearsal.end_ms - start);
    let Some(failure) = rehearsal.failure() else {
        output::line(format!("{} after {after}", style.good(rehearsal.status())))?;
        return output::line(
            rehearsal
                .output()
                .map_or_else(String::new, Value::to_string),
        );
    };
    let error = failure.error.as_deref().unwrap_or("no error name");
    output::line(format!(
        "{} after {after}: {}",
        style.error(rehearsal.status()),
        style.strong(error)
    ))?;
    match &failure.cause {
        Some(cause) => output::line(cause),
        None => Ok(()),
    }
}

fn visit_line(visit: &Visit, style: Style) -> String {
    let at = duration::offset(visit.at_ms);
    let kind = visit.kind.name();
    let errors = match visit.errors.as_slice() {
        [] => String::new(),
        errors => format!("  {}", style.error(&errors.join(", "))),
    };
    format!("{at:>10}  {kind:8}  {}{errors}", visit.state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Definition {
        let definition = json!({"StartAt": "Charge", "States": {
            "Charge": {
                "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Next": "Rest",
                "Parameters": {"FunctionName": "charge"}, "OutputPath": "$.Payload",
                "Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 60}],
                "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Refund"}],
            },
            "Rest": {"Type": "Wait", "Seconds": 2_592_000, "End": true},
            "Refund": {"Type": "Fail", "Error": "NotCharged"},
        }});
        Definition::parse(&definition.to_string()).unwrap()
    }

    fn rehearsed(mock: &Value) -> Rehearsal {
        let mocks = answers("Charge", mock).unwrap();
        rehearse(
            &machine(),
            Path::new("order.asl.json"),
            json!({}),
            &mocks,
            1,
        )
        .unwrap()
    }

    #[test]
    fn time_passes_without_waiting() {
        let rehearsal = rehearsed(&json!({
            "0-1": {"Throw": {"Error": "Busy", "Cause": "try later"}},
            "2": {"Return": {"Payload": {"ok": true}}},
        }));
        assert_eq!(rehearsal.output(), Some(&json!({"ok": true})));
        let start = rehearsal.history[0].at_ms;
        // A minute and two, then thirty days.
        assert_eq!(rehearsal.end_ms - start, (60 + 120 + 2_592_000) * 1000);
        let path = rehearsal.path();
        let names: Vec<&str> = path.iter().map(|visit| visit.state.as_str()).collect();
        assert_eq!(names, ["Charge", "Rest"]);
        assert_eq!(path[0].errors, ["Busy", "Busy"]);
        assert_eq!(path[1].output.as_deref(), Some(&json!({"ok": true})));
    }

    #[test]
    fn expectations_tell_what_is_wrong() {
        let rehearsal = rehearsed(&json!({"Throw": {"Error": "Broken", "Cause": ""}}));
        let expect = Expect {
            status: Some("FAILED".into()),
            error: Some("NotCharged".into()),
            path: Some(vec!["Charge".into(), "Refund".into()]),
            output: None,
        };
        assert_eq!(expect.misses(&rehearsal), [""; 0]);
        let expect = Expect {
            status: Some("SUCCEEDED".into()),
            output: Some(json!(1)),
            error: Some("Other".into()),
            path: None,
        };
        assert_eq!(
            expect.misses(&rehearsal),
            [
                "the status is FAILED, not SUCCEEDED",
                "the output is nothing, not 1",
                "the error is NotCharged, not Other",
            ]
        );
    }

    #[test]
    fn task_without_a_mock_is_named() {
        let none = TestCase::default();
        let err = rehearse(&machine(), Path::new("m.json"), json!({}), &none, 1).unwrap_err();
        assert_eq!(
            err.to_string(),
            "the state 'Charge' runs lambda:invoke, and there is no mock for it"
        );
    }

    #[test]
    fn children_of_a_distributed_map_are_run() {
        let definition = json!({"StartAt": "M", "States": {"M": {
            "Type": "Map", "End": true, "ItemSelector": {"n.$": "$$.Map.Item.Value"},
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                "StartAt": "P", "States": {"P": {"Type": "Pass", "OutputPath": "$.n", "End": true}},
            },
        }}});
        let definition = Definition::parse(&definition.to_string()).unwrap();
        let none = TestCase::default();
        let rehearsal =
            rehearse(&definition, Path::new("m.json"), json!([3, 4]), &none, 1).unwrap();
        assert_eq!(rehearsal.output(), Some(&json!([3, 4])));
    }
}
