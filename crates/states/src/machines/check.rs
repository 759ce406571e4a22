//! What a definition must be beyond what the language asks for: resources that exist, and none that
//! the type of machine cannot run.

use asl::Definition;
use asl::definition::{Diagnostic, InvalidDefinition, Resource, Severity, TaskCheck};
use integrations::Refused;
use model::stepfunctions::error;
use serde_json::Value;

use super::Kind;
use crate::Error;

const CODE: &str = "SCHEMA_VALIDATION_FAILED";
/// How much of what is wrong one message says.
const MAX_NAMED: usize = 100;

/// Reads a definition whose tasks are looked at before they are scheduled.
pub fn parse(text: &str) -> Result<Definition, InvalidDefinition> {
    let check = TaskCheck(Some(integrations::invalid));
    Ok(Definition::parse(text)?.with_check(check))
}

/// Reads the definition of a machine.
pub fn definition(text: &str, kind: Kind) -> Result<Definition, Error> {
    let parsed = parse(text).map_err(|invalid| refused(invalid, text))?;
    let found = resources(text, kind);
    match found.is_empty() {
        true => Ok(parsed),
        false => Err(refused(InvalidDefinition(found), text)),
    }
}

/// All that is wrong with a definition, and all that looks wrong.
pub fn diagnose(text: &str, kind: Kind) -> Vec<Diagnostic> {
    let mut found = Definition::diagnose(text);
    found.extend(resources(text, kind));
    found
}

fn refused(mut invalid: InvalidDefinition, text: &str) -> Error {
    invalid.0.truncate(MAX_NAMED);
    Error::refused(&error::INVALID_DEFINITION, invalid.message(text))
}

/// What the resources of tasks are refused for.
fn resources(text: &str, kind: Kind) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    // What is no JSON has been found wrong already.
    if let Ok(definition) = serde_json::from_str::<Value>(text) {
        each_state(&definition, "", &mut |state, location| {
            if let Some(wrong) = of_state(state, location, kind) {
                found.push(wrong);
            }
        });
    }
    found
}

fn of_state(state: &Value, location: &str, kind: Kind) -> Option<Diagnostic> {
    let wrong = |message: String, location: String| Diagnostic {
        severity: Severity::Error,
        code: CODE,
        message,
        location: Some(location),
    };
    match state["Type"].as_str()? {
        "Task" => {
            let arn = state["Resource"].as_str()?;
            // What has no form of a resource is found by the language.
            let resource = Resource::parse(arn)?;
            let refusal = integrations::check(&resource, kind == Kind::Express).err()?;
            let message = match refusal {
                Refused::NotRecognized | Refused::PatternNotSupported => Resource::refusal(arn),
                Refused::NotInExpress => not_in_express(&resource),
            };
            Some(wrong(message, format!("{location}/Resource")))
        }
        "Map" if kind == Kind::Express => {
            let mode = &state["ItemProcessor"]["ProcessorConfig"]["Mode"];
            (mode == "DISTRIBUTED").then(|| {
                wrong(
                    "Express state machine does not support Distributed Map".to_owned(),
                    format!("{location}/ItemProcessor/ProcessorConfig/Mode"),
                )
            })
        }
        _ => None,
    }
}

fn not_in_express(resource: &Resource) -> String {
    match resource {
        Resource::Service { action, .. } => {
            let pattern = action.split_once('.').map_or("", |(_, pattern)| pattern);
            format!("Express state machine does not support '.{pattern}' service integration")
        }
        Resource::Activity { .. } | Resource::Lambda { .. } => {
            "Express state machine does not support Activity ARN".to_owned()
        }
    }
}

/// Calls `each` with every state of a definition, also with those of branches and item processors,
/// and with where it is.
pub fn each_state(definition: &Value, location: &str, each: &mut impl FnMut(&Value, &str)) {
    // What is too deep for the language has been found wrong by it.
    let Some(states) = definition["States"].as_object() else {
        return;
    };
    for (name, state) in states {
        let at = format!("{location}/States/{name}");
        each(state, &at);
        for inner in ["ItemProcessor", "Iterator"] {
            each_state(&state[inner], &format!("{at}/{inner}"), each);
        }
        let branches = state["Branches"].as_array();
        for (index, branch) in branches.into_iter().flatten().enumerate() {
            each_state(branch, &format!("{at}/Branches[{index}]"), each);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(resource: &str) -> String {
        json!({"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": resource, "End": true}}})
            .to_string()
    }

    fn refusal(text: &str, kind: Kind) -> String {
        definition(text, kind).unwrap_err().to_string()
    }

    #[test]
    fn a_resource_that_does_not_exist_is_refused_at_its_place() {
        assert_eq!(
            refusal(&task("arn:aws:states:::dynamodb:query"), Kind::Standard),
            "Invalid State Machine Definition: 'SCHEMA_VALIDATION_FAILED: The resource provided \
             arn:aws:states:::dynamodb:query is not recognized. The value is not a valid resource \
             ARN, or the resource is not available in this region. at /States/A/Resource'"
        );
    }

    #[test]
    fn an_express_machine_runs_nothing_that_waits() {
        let sync = task("arn:aws:states:::states:startExecution.sync:2");
        assert!(definition(&sync, Kind::Standard).is_ok());
        assert_eq!(
            refusal(&sync, Kind::Express),
            "Invalid State Machine Definition: 'SCHEMA_VALIDATION_FAILED: Express state machine \
             does not support '.sync:2' service integration at /States/A/Resource'"
        );
        let activity = task("arn:aws:states:eu-west-1:123456789012:activity:a");
        assert!(definition(&activity, Kind::Standard).is_ok());
        let message = refusal(&activity, Kind::Express);
        assert!(message.contains("does not support Activity ARN at /States/A/Resource"));
    }

    #[test]
    fn states_inside_states_are_seen() {
        let inner = |name: &str| {
            json!({"StartAt": name, "States": {name: {
                "Type": "Task", "Resource": "arn:aws:states:::nothing:nothing", "End": true}}})
        };
        let text = json!({"StartAt": "P", "States": {
            "P": {"Type": "Parallel", "Branches": [inner("A"), inner("B")], "Next": "M"},
            "M": {"Type": "Map", "ItemProcessor": inner("C"), "End": true},
        }})
        .to_string();
        let places: Vec<_> = diagnose(&text, Kind::Standard)
            .into_iter()
            .map(|found| found.location.unwrap())
            .collect();
        assert_eq!(
            places,
            [
                "/States/P/Branches[0]/States/A/Resource",
                "/States/P/Branches[1]/States/B/Resource",
                "/States/M/ItemProcessor/States/C/Resource"
            ]
        );
    }
}
