//! Reading one state.

mod choice;
mod errors;
mod map;
mod task;
mod wait;

use std::collections::BTreeMap;

use serde_json::Value;

use self::choice::choice;
use self::errors::{catcher, check_all_is_last, retrier};
use self::map::map;
use self::task::task;
use self::wait::wait;
use super::fields::{Fields, Found, looks_dynamic};
use super::parse::{Builder, check_language_name, own_language, target};
use super::{InputFilter, Kind, Language, OutputFilter, State, StateId};
use crate::jsonata::Offered;
use crate::template::Template;

const TYPES: [&str; 8] = [
    "Task", "Wait", "Pass", "Succeed", "Fail", "Choice", "Parallel", "Map",
];
/// Fields of the one query language that a state of the other must not have.
const ONLY_JSON_PATH: [&str; 16] = [
    "InputPath",
    "OutputPath",
    "ResultPath",
    "ResultSelector",
    "Parameters",
    "ItemsPath",
    "SecondsPath",
    "TimestampPath",
    "TimeoutSecondsPath",
    "HeartbeatSecondsPath",
    "MaxConcurrencyPath",
    "ToleratedFailureCountPath",
    "ToleratedFailurePercentagePath",
    "ErrorPath",
    "CausePath",
    "Result",
];
const ONLY_JSONATA: [&str; 3] = ["Output", "Arguments", "Items"];

const EVERY: &[&str] = &["Type", "Comment", "QueryLanguage"];
const LEADING_ON: &[&str] = &["Next", "End", "InputPath", "OutputPath", "Output", "Assign"];
const FAILING: &[&str] = &["Retry", "Catch", "ResultPath", "ResultSelector"];

type Names = BTreeMap<Box<str>, StateId>;

/// Reads a state; `None` if something that everything else depends on is wrong with it.
pub fn read(
    builder: &mut Builder,
    name: &str,
    fields: &Fields<'_>,
    names: &Names,
    depth: usize,
    found: &mut Found,
) -> Option<State> {
    let language = own_language(fields).unwrap_or(fields.machine);
    let fields = &Fields {
        language,
        ..fields.clone()
    };
    let kind_name = fields.required_text("Type", found)?;
    if !TYPES.contains(&kind_name) {
        let message = format!(
            "The field 'Type' should have one of these values: [{}]",
            TYPES.join(", ")
        );
        found.schema(message, fields.at("Type"));
        return None;
    }
    check_languages(fields, kind_name, found);
    fields.only(&known(kind_name), found);
    check_language_name(fields, found);
    fields.text("Comment", found);
    let offered = offered(kind_name);
    let kind = match kind_name {
        "Pass" => pass(fields, found),
        "Succeed" => Some(Kind::Succeed),
        "Fail" => Some(Kind::Fail {
            error: fields.text_or_path("Error", found),
            cause: fields.text_or_path("Cause", found),
        }),
        "Wait" => wait(fields, found).map(Kind::Wait),
        "Choice" => choice(fields, names, found).map(Kind::Choice),
        "Task" => task(fields, found).map(|task| Kind::Task(Box::new(task))),
        "Parallel" => parallel(builder, fields, depth, found),
        _ => map(builder, fields, depth, found).map(|map| Kind::Map(Box::new(map))),
    };
    // Everything else is looked at whatever is wrong with what the state does.
    let ends = matches!(kind_name, "Succeed" | "Fail" | "Choice");
    let next = if ends {
        Some(None)
    } else {
        transition(fields, names, found)
    };
    let input = InputFilter {
        path: fields.optional_path("InputPath", found),
        template: match (kind_name, language) {
            // Of a Map, this is the older name of ItemSelector.
            ("Map", Language::JsonPath) => None,
            (_, Language::JsonPath) => fields.template("Parameters", Offered::default(), found),
            (_, Language::Jsonata) => fields.template("Arguments", Offered::default(), found),
        },
    };
    let output = OutputFilter {
        selector: fields.template("ResultSelector", Offered::default(), found),
        result_path: fields.reference("ResultPath", found),
        path: fields.optional_path("OutputPath", found),
        output: match language {
            Language::JsonPath => None,
            Language::Jsonata => fields.template("Output", offered, found),
        },
    };
    let assign = assign(fields, offered, found);
    let retry = each(fields, "Retry", found, retrier);
    let catch = each(fields, "Catch", found, |fields, found| {
        catcher(fields, names, found)
    });
    check_all_is_last(fields, "Retry", found);
    check_all_is_last(fields, "Catch", found);
    Some(State {
        name: name.into(),
        language,
        reads_context: reads_context(fields),
        next: next?,
        input,
        output,
        assign,
        retry,
        catch,
        kind: kind?,
    })
}

/// What a state of a type can have, whatever its query language.
fn known(kind: &str) -> [&'static [&'static str]; 4] {
    let (own, common): (&[&str], [&[&str]; 2]) = match kind {
        "Pass" => (&["Result", "ResultPath", "Parameters"], [LEADING_ON, &[]]),
        "Succeed" => (&["InputPath", "OutputPath", "Output"], [&[], &[]]),
        "Fail" => (&["Error", "ErrorPath", "Cause", "CausePath"], [&[], &[]]),
        "Wait" => (
            &["Seconds", "SecondsPath", "Timestamp", "TimestampPath"],
            [LEADING_ON, &[]],
        ),
        "Choice" => (
            &[
                "Choices",
                "Default",
                "InputPath",
                "OutputPath",
                "Output",
                "Assign",
            ],
            [&[], &[]],
        ),
        "Task" => (
            &[
                "Resource",
                "Parameters",
                "Arguments",
                "Credentials",
                "TimeoutSeconds",
                "TimeoutSecondsPath",
                "HeartbeatSeconds",
                "HeartbeatSecondsPath",
            ],
            [LEADING_ON, FAILING],
        ),
        "Parallel" => (
            &["Branches", "Parameters", "Arguments"],
            [LEADING_ON, FAILING],
        ),
        _ => (
            &[
                "ItemProcessor",
                "Iterator",
                "ItemsPath",
                "Items",
                "ItemSelector",
                "Parameters",
                "MaxConcurrency",
                "MaxConcurrencyPath",
                "ToleratedFailureCount",
                "ToleratedFailureCountPath",
                "ToleratedFailurePercentage",
                "ToleratedFailurePercentagePath",
                "Label",
                "ItemReader",
                "ItemBatcher",
                "ResultWriter",
            ],
            [LEADING_ON, FAILING],
        ),
    };
    [EVERY, own, common[0], common[1]]
}

/// What `Output` and `Assign` of a state can look at.
fn offered(kind: &str) -> Offered {
    Offered {
        result: matches!(kind, "Task" | "Parallel" | "Map"),
        error_output: false,
    }
}

/// Fields of the other query language. Measured on AWS: a state that falls back to JSONPath is told
/// nothing about them.
fn check_languages(fields: &Fields<'_>, kind: &str, found: &mut Found) {
    if fields.machine == Language::Jsonata && fields.language == Language::JsonPath {
        found.schema(
            "'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine",
            fields.here(),
        );
        return;
    }
    let known = known(kind);
    for field in fields.object.keys() {
        // What no state of the type can have is told as such.
        if known.iter().any(|names| names.contains(&field.as_str())) {
            check_language_of(fields, field, found);
        }
    }
}

fn check_language_of(fields: &Fields<'_>, field: &str, found: &mut Found) {
    let (foreign, own, other) = match fields.language {
        Language::JsonPath => (&ONLY_JSONATA[..], "JSONPath", "JSONata"),
        Language::Jsonata => (&ONLY_JSON_PATH[..], "JSONata", "JSONPath"),
    };
    if fields.get(field).is_some() && foreign.contains(&field) {
        let message = format!(
            "The QueryLanguage is set to '{own}', but field '{field}' is only supported for the \
             '{other}' QueryLanguage"
        );
        found.schema(message, fields.here());
    }
}

/// `Next` or `End`, exactly one of them.
fn transition(fields: &Fields<'_>, names: &Names, found: &mut Found) -> Option<Option<StateId>> {
    let ends = fields.flag("End", found);
    if fields.get("End").is_some() && ends.is_none() {
        return None;
    }
    match (fields.get("Next"), ends) {
        (None, Some(true)) => Some(None),
        (Some(_), None | Some(false)) => target(fields, "Next", names, found).map(Some),
        (Some(_), Some(true)) => {
            fields.require_one(&["Next", "End"], found);
            None
        }
        (None, _) => {
            fields.require(&["Next"], found);
            None
        }
    }
}

fn assign(fields: &Fields<'_>, offered: Offered, found: &mut Found) -> Option<Template> {
    let object = fields.inner("Assign", found)?;
    for name in object.object.keys() {
        let plain = match fields.language {
            Language::JsonPath => name.strip_suffix(".$").unwrap_or(name),
            Language::Jsonata => name,
        };
        if !is_variable(plain) {
            let message = format!("'{plain}' cannot be the name of a variable");
            found.schema(message, object.at(name));
        }
    }
    fields.template("Assign", offered, found)
}

/// A Unicode identifier of 80 characters at most, but for the reserved one.
fn is_variable(name: &str) -> bool {
    let first = |c: char| c.is_alphabetic() || c == '_';
    name != "states"
        && name.chars().count() <= 80
        && name.starts_with(first)
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// The objects in a list.
fn each<T>(
    fields: &Fields<'_>,
    field: &str,
    found: &mut Found,
    mut read: impl FnMut(&Fields<'_>, &mut Found) -> Option<T>,
) -> Vec<T> {
    let Some(value) = fields.get(field) else {
        return Vec::new();
    };
    let Some(elements) = value.as_array() else {
        found.schema("Expected value of type [ARRAY]", fields.at(field));
        return Vec::new();
    };
    let mut all = Vec::with_capacity(elements.len());
    for (index, element) in elements.iter().enumerate() {
        let location = format!("{}[{index}]", fields.at(field));
        match element.as_object() {
            Some(object) => {
                let own = Fields {
                    object,
                    location,
                    ..*fields
                };
                all.extend(read(&own, found));
            }
            None => found.schema("Expected value of type [OBJECT]", location),
        }
    }
    all
}

/// A list that has to be there, with something in it.
fn not_empty(fields: &Fields<'_>, field: &str, found: &mut Found) -> bool {
    if !fields.require(&[field], found) {
        return false;
    }
    let is_empty = fields
        .get(field)
        .and_then(Value::as_array)
        .is_some_and(Vec::is_empty);
    if is_empty {
        found.schema("Value cannot be empty", fields.at(field));
    }
    !is_empty
}

fn pass(fields: &Fields<'_>, found: &mut Found) -> Option<Kind> {
    let result = fields.get("Result").cloned();
    if result.as_ref().is_some_and(has_paths) {
        let message = "Attempt to use a path in the result of a pass state.";
        found.warning("PASS_RESULT_IS_STATIC", message, fields.at("Result"));
    }
    Some(Kind::Pass { result })
}

fn has_paths(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, member)| {
            let is_path = member.as_str().is_some_and(looks_dynamic);
            (name.ends_with(".$") && is_path) || has_paths(member)
        }),
        Value::Array(elements) => elements.iter().any(has_paths),
        _ => false,
    }
}

fn parallel(
    builder: &mut Builder,
    fields: &Fields<'_>,
    depth: usize,
    found: &mut Found,
) -> Option<Kind> {
    if !not_empty(fields, "Branches", found) {
        return None;
    }
    let branches = each(fields, "Branches", found, |fields, found| {
        fields.only(&[&["Comment", "StartAt", "States"]], found);
        Some(builder.flow(fields, depth + 1, found))
    });
    Some(Kind::Parallel { branches })
}

/// Whether anything in a state may look at the context object. It is costly to make, so a state
/// that cannot see it gets none. To say yes too often does no harm.
fn reads_context(fields: &Fields<'_>) -> bool {
    let own = fields.object.iter();
    own.filter(|(name, _)| {
        !["ItemProcessor", "Iterator", "Branches", "Comment"].contains(&name.as_str())
    })
    .any(|(_, value)| mentions_context(value, fields.language))
}

fn mentions_context(value: &Value, language: Language) -> bool {
    match value {
        Value::String(text) => match language {
            Language::JsonPath => text.contains("$$"),
            Language::Jsonata => text.split("$states").skip(1).any(|rest| {
                let known = [".input", ".result", ".errorOutput"];
                !known.iter().any(|known| rest.starts_with(known))
            }),
        },
        Value::Array(elements) => elements
            .iter()
            .any(|element| mentions_context(element, language)),
        Value::Object(members) => members
            .values()
            .any(|member| mentions_context(member, language)),
        _ => false,
    }
}
