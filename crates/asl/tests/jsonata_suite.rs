//! The official test suite of JSONata, run against the library that evaluates expressions.
//!
//! The suite is not part of this repository: `scripts/jsonata-suite` says where it comes from and
//! runs this.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jsonata_core::evaluator::{Context, Evaluator, EvaluatorOptions};
use jsonata_core::parser;
use jsonata_core::value::JValue;
use serde_json::Value;

/// What a group has come to.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
}

#[test]
#[ignore = "needs the suite: scripts/jsonata-suite"]
fn official_suite() {
    let root = PathBuf::from(std::env::var("JSONATA_SUITE").unwrap());
    let mut groups: BTreeMap<String, Tally> = BTreeMap::new();
    for folder in ["groups", "skip"] {
        let Ok(found) = std::fs::read_dir(root.join(folder)) else {
            continue;
        };
        for group in found {
            let path = group.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let tally = groups.entry(name).or_default();
            for case in cases(&path) {
                match run(&root, &path, &case.1) {
                    Ok(()) => tally.passed += 1,
                    Err(why) => tally.failed.push(format!("{}: {why}", case.0)),
                }
            }
        }
    }
    let passed: usize = groups.values().map(|group| group.passed).sum();
    let failed: usize = groups.values().map(|group| group.failed.len()).sum();
    for (name, group) in &groups {
        println!(
            "{name:32} {:4} of {:4}",
            group.passed,
            group.passed + group.failed.len()
        );
        for failed in &group.failed {
            println!("    {failed}");
        }
    }
    println!("{passed} of {}", passed + failed);
    assert!(passed > 0, "there is no suite");
}

fn cases(group: &Path) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(group)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        match serde_json::from_str(&text) {
            Ok(Value::Array(several)) => {
                let numbered = several.into_iter().enumerate();
                all.extend(numbered.map(|(index, case)| (format!("{name}[{index}]"), case)));
            }
            Ok(one) => all.push((name, one)),
            // Lone surrogates are no JSON to serde: such a case counts as failed.
            Err(_) => all.push((name, Value::Null)),
        }
    }
    all
}

fn run(root: &Path, group: &Path, case: &Value) -> Result<(), String> {
    let expression = match (&case["expr"], &case["expr-file"]) {
        (Value::String(text), _) => text.clone(),
        (_, Value::String(file)) => std::fs::read_to_string(group.join(file)).unwrap(),
        _ => return Err("no expression".into()),
    };
    let data = match (&case["dataset"], case.get("data")) {
        (Value::String(name), _) => {
            let file = root.join("datasets").join(format!("{name}.json"));
            serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
        }
        (_, Some(data)) => data.clone(),
        _ => Value::Null,
    };
    let input = match (case.get("data"), &case["dataset"]) {
        (None, Value::Null) => JValue::Undefined,
        _ => JValue::from(data),
    };
    let result = evaluate(case, &expression, &input);
    match (
        case.get("result"),
        case.get("code").or(case.pointer("/error/code")),
    ) {
        (_, Some(code)) => match result {
            Err(error) if error.contains(code.as_str().unwrap_or_default()) => Ok(()),
            Err(error) => Err(format!("{expression}: {error} instead of {code}")),
            Ok(value) => Err(format!("{expression}: {value:?} instead of {code}")),
        },
        (Some(expected), None) => match result {
            Ok(Some(value)) if same(&value, expected, case["unordered"] == true) => Ok(()),
            other => Err(format!("{expression}: {other:?} instead of {expected}")),
        },
        (None, None) if case["undefinedResult"] == true => match result {
            Ok(None) => Ok(()),
            other => Err(format!("{expression}: {other:?} instead of nothing")),
        },
        (None, None) => match result {
            Err(_) => Ok(()),
            Ok(value) => Err(format!("{expression}: {value:?} instead of an error")),
        },
    }
}

fn evaluate(case: &Value, expression: &str, input: &JValue) -> Result<Option<Value>, String> {
    let tree = parser::parse(expression).map_err(|error| error.to_string())?;
    let mut context = Context::new();
    if let Some(bindings) = case["bindings"].as_object() {
        for (name, value) in bindings {
            context.bind(name.clone(), JValue::from(value.clone()));
        }
    }
    let depth = case["depth"]
        .as_u64()
        .and_then(|depth| usize::try_from(depth).ok());
    let options = EvaluatorOptions {
        timeout_ms: case["timelimit"].as_u64(),
        max_stack_depth: depth,
        ..EvaluatorOptions::default()
    };
    let mut evaluator = Evaluator::with_options(context, options);
    let value = evaluator
        .evaluate(&tree, input)
        .map_err(|error| error.to_string())?;
    if value.is_undefined() {
        return Ok(None);
    }
    let text = value
        .to_json_string()
        .map_err(|error| format!("{error:?}"))?;
    Ok(Some(serde_json::from_str(&text).unwrap_or(Value::Null)))
}

fn same(left: &Value, right: &Value, unordered: bool) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            if unordered {
                return left
                    .iter()
                    .all(|left| right.iter().any(|right| same(left, right, false)));
            }
            let mut both = left.iter().zip(right);
            both.all(|(left, right)| same(left, right, false))
        }
        (Value::Object(left), Value::Object(right)) if left.len() == right.len() => {
            left.iter().all(|(name, value)| {
                right
                    .get(name)
                    .is_some_and(|other| same(value, other, false))
            })
        }
        (left, right) => left == right,
    }
}
