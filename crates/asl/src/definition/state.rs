//! Reading one state.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::{Fields, Found};
use super::parse::{Builder, language};
use super::{
    Catcher, Choice, ChoiceRule, Condition, InputFilter, ItemBatcher, ItemReader, Kind, Language,
    Map, MapMode, OutputFilter, Resource, ResultWriter, Retrier, State, StateId, Task, Wait,
};
use crate::choice::Rule;
use crate::failure::names;
use crate::template::Template;

const TYPES: [&str; 8] = [
    "Task", "Wait", "Pass", "Succeed", "Fail", "Choice", "Parallel", "Map",
];
/// Fields of the one query language that a state of the other must not have.
const ONLY_JSON_PATH: [&str; 6] = [
    "InputPath",
    "Parameters",
    "ResultSelector",
    "ResultPath",
    "OutputPath",
    "ItemsPath",
];
const ONLY_JSONATA: [&str; 4] = ["Arguments", "Output", "Items", "Condition"];
const MAX_DELAY_SECONDS: u64 = 31_622_400;

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
    let language = language(fields, Some(fields.language), found);
    let fields = &Fields {
        object: fields.object,
        location: fields.location.clone(),
        language,
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
    check_language(fields, found);
    let kind = match kind_name {
        "Pass" => Kind::Pass {
            result: fields.get("Result").cloned(),
        },
        "Succeed" => Kind::Succeed,
        "Fail" => Kind::Fail {
            error: fields.text_or_path("Error", found),
            cause: fields.text_or_path("Cause", found),
        },
        "Wait" => Kind::Wait(wait(fields, found)?),
        "Choice" => Kind::Choice(choice(fields, names, found)?),
        "Task" => Kind::Task(Box::new(task(fields, found)?)),
        "Parallel" => parallel(builder, fields, depth, found)?,
        _ => Kind::Map(Box::new(map(builder, fields, depth, found)?)),
    };
    let ends = matches!(kind, Kind::Succeed | Kind::Fail { .. } | Kind::Choice(_));
    let next = if ends {
        None
    } else {
        transition(fields, names, found)?
    };
    let can_fail = matches!(kind, Kind::Task(_) | Kind::Parallel { .. } | Kind::Map(_));
    Some(State {
        name: name.into(),
        language,
        next,
        input: InputFilter {
            path: fields.optional_path("InputPath", found),
            template: match (&kind, language) {
                // Of a Map, this is the older name of ItemSelector.
                (Kind::Map(_), Language::JsonPath) => None,
                (_, Language::JsonPath) => fields.template("Parameters", found),
                (_, Language::Jsonata) => fields.template("Arguments", found),
            },
        },
        output: OutputFilter {
            selector: fields.template("ResultSelector", found),
            result_path: fields.reference("ResultPath", found),
            path: fields.optional_path("OutputPath", found),
            output: match language {
                Language::JsonPath => None,
                Language::Jsonata => fields.template("Output", found),
            },
        },
        assign: assign(fields, found),
        retry: if can_fail {
            each(fields, "Retry", found, retrier)
        } else {
            Vec::new()
        },
        catch: if can_fail {
            each(fields, "Catch", found, |fields, found| {
                catcher(fields, names, found)
            })
        } else {
            Vec::new()
        },
        kind,
    })
}

fn check_language(fields: &Fields<'_>, found: &mut Found) {
    let (foreign, other) = match fields.language {
        Language::JsonPath => (&ONLY_JSONATA[..], "JSONPath"),
        Language::Jsonata => (&ONLY_JSON_PATH[..], "JSONata"),
    };
    for field in foreign {
        if fields.get(field).is_some() {
            let message =
                format!("The field '{field}' is not supported by the query language {other}");
            found.schema(message, fields.at(field));
        }
    }
}

/// `Next` or `End`, exactly one of them.
fn transition(fields: &Fields<'_>, names: &Names, found: &mut Found) -> Option<Option<StateId>> {
    let ends = match fields.get("End") {
        None => false,
        Some(Value::Bool(ends)) => *ends,
        Some(_) => {
            found.schema("Expected value of type Boolean", fields.at("End"));
            return None;
        }
    };
    match (fields.get("Next"), ends) {
        (None, true) => Some(None),
        (Some(_), false) => target(fields, "Next", names, found).map(Some),
        _ => {
            found.schema(
                "These fields are required: exactly one of [Next, End]",
                fields.location.clone(),
            );
            None
        }
    }
}

fn target(fields: &Fields<'_>, field: &str, names: &Names, found: &mut Found) -> Option<StateId> {
    let name = fields.required_text(field, found)?;
    let id = names.get(name).copied();
    if id.is_none() {
        found.add(
            "MISSING_TRANSITION_TARGET",
            format!("Missing '{field}' target: {name}"),
            fields.at(field),
        );
    }
    id
}

fn assign(fields: &Fields<'_>, found: &mut Found) -> Option<Template> {
    let object = fields.inner("Assign", found)?;
    for name in object.object.keys() {
        let name = name.strip_suffix(".$").unwrap_or(name);
        let plain = |c: char| c.is_alphanumeric() || c == '_';
        if name.is_empty() || name == "states" || name.len() > 80 || !name.chars().all(plain) {
            let message = format!("'{name}' cannot be the name of a variable");
            found.schema(message, object.at(name));
        }
    }
    fields.template("Assign", found)
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
        found.schema("Expected value of type Array", fields.at(field));
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
                    language: fields.language,
                };
                all.extend(read(&own, found));
            }
            None => found.schema("Expected value of type Object", location),
        }
    }
    all
}

fn not_empty(fields: &Fields<'_>, field: &str, found: &mut Found) {
    if fields
        .get(field)
        .and_then(Value::as_array)
        .is_some_and(Vec::is_empty)
    {
        found.schema("Value cannot be empty", fields.at(field));
    }
}

fn errors(fields: &Fields<'_>, found: &mut Found) -> Option<Vec<String>> {
    let Some(value) = fields.get("ErrorEquals") else {
        fields.missing("ErrorEquals", found);
        return None;
    };
    let listed: Option<Vec<String>> = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|name| name.as_str().map(str::to_owned))
        .collect();
    match listed {
        Some(listed) if !listed.is_empty() => {
            if listed.len() > 1 && listed.iter().any(|name| name == names::ALL) {
                let message = format!("{} must appear alone", names::ALL);
                found.schema(message, fields.at("ErrorEquals"));
            }
            Some(listed)
        }
        _ => {
            found.schema("Value cannot be empty", fields.at("ErrorEquals"));
            None
        }
    }
}

fn retrier(fields: &Fields<'_>, found: &mut Found) -> Option<Retrier> {
    let backoff_rate = match fields.get("BackoffRate") {
        None => 2.0,
        Some(value) => match value.as_f64() {
            Some(rate) if rate >= 1.0 => rate,
            _ => {
                let message = "The field 'BackoffRate' must be a number, 1.0 or more";
                found.schema(message, fields.at("BackoffRate"));
                return None;
            }
        },
    };
    let max_delay_seconds = fields.whole("MaxDelaySeconds", 1, found);
    if max_delay_seconds.is_some_and(|seconds| seconds >= MAX_DELAY_SECONDS) {
        let message = format!("The field 'MaxDelaySeconds' must be less than {MAX_DELAY_SECONDS}");
        found.schema(message, fields.at("MaxDelaySeconds"));
    }
    let full_jitter = match fields.text("JitterStrategy", found) {
        None | Some("NONE") => false,
        Some("FULL") => true,
        Some(_) => {
            found.schema(
                "The field 'JitterStrategy' should have one of these values: [FULL, NONE]",
                fields.at("JitterStrategy"),
            );
            false
        }
    };
    Some(Retrier {
        errors: errors(fields, found)?,
        interval_seconds: fields.whole("IntervalSeconds", 1, found).unwrap_or(1),
        max_attempts: fields.whole("MaxAttempts", 0, found).unwrap_or(3),
        backoff_rate,
        max_delay_seconds,
        full_jitter,
    })
}

fn catcher(fields: &Fields<'_>, names: &Names, found: &mut Found) -> Option<Catcher> {
    Some(Catcher {
        errors: errors(fields, found)?,
        next: target(fields, "Next", names, found)?,
        result_path: fields.reference("ResultPath", found),
        assign: assign(fields, found),
        output: match fields.language {
            Language::JsonPath => None,
            Language::Jsonata => fields.template("Output", found),
        },
    })
}

fn wait(fields: &Fields<'_>, found: &mut Found) -> Option<Wait> {
    let given: Vec<&str> = ["Seconds", "SecondsPath", "Timestamp", "TimestampPath"]
        .into_iter()
        .filter(|field| fields.get(field).is_some())
        .collect();
    match given[..] {
        ["Seconds" | "SecondsPath"] => fields.amount("Seconds", found).map(Wait::Seconds),
        ["Timestamp"] => {
            fields.text("Timestamp", found)?;
            match fields.language {
                Language::Jsonata => fields.template("Timestamp", found).map(Wait::Timestamp),
                Language::JsonPath => {
                    let value = fields.get("Timestamp").cloned()?;
                    Some(Wait::Timestamp(Template::Value(value)))
                }
            }
        }
        ["TimestampPath"] => fields.path("TimestampPath", found).map(Wait::TimestampPath),
        _ => {
            found.schema(
                "Exactly one of these fields is required: [Seconds, SecondsPath, Timestamp, \
                 TimestampPath]",
                fields.location.clone(),
            );
            None
        }
    }
}

fn choice(fields: &Fields<'_>, names: &Names, found: &mut Found) -> Option<Choice> {
    if fields.get("Choices").is_none() {
        fields.missing("Choices", found);
        return None;
    }
    let rules = each(fields, "Choices", found, |fields, found| {
        let condition = match fields.language {
            Language::JsonPath => match Rule::parse(fields.object) {
                Ok(rule) => Condition::Rule(rule),
                Err(error) => {
                    found.schema(error.to_string(), fields.location.clone());
                    return None;
                }
            },
            Language::Jsonata => match fields.template("Condition", found) {
                Some(template) => Condition::Template(template),
                None => {
                    fields.missing("Condition", found);
                    return None;
                }
            },
        };
        Some(ChoiceRule {
            condition,
            next: target(fields, "Next", names, found)?,
            assign: assign(fields, found),
            output: match fields.language {
                Language::JsonPath => None,
                Language::Jsonata => fields.template("Output", found),
            },
        })
    });
    let default = match fields.get("Default") {
        Some(_) => Some(target(fields, "Default", names, found)?),
        None => None,
    };
    not_empty(fields, "Choices", found);
    Some(Choice { rules, default })
}

fn resource(fields: &Fields<'_>, found: &mut Found) -> Option<Resource> {
    let arn = fields.required_text("Resource", found)?;
    let parsed = Resource::parse(arn);
    if parsed.is_none() {
        let message = format!(
            "The resource provided {arn} is not recognized. The value is not a valid resource \
             ARN, or the resource is not available in this region."
        );
        found.schema(message, fields.at("Resource"));
    }
    parsed
}

fn task(fields: &Fields<'_>, found: &mut Found) -> Option<Task> {
    let credentials = match fields.inner("Credentials", found) {
        None => None,
        Some(inner) => {
            if inner.get("RoleArn").is_none() && inner.get("RoleArn.$").is_none() {
                inner.missing("RoleArn", found);
            }
            fields.template("Credentials", found)
        }
    };
    Some(Task {
        resource: resource(fields, found)?,
        credentials,
        timeout_seconds: fields.amount("TimeoutSeconds", found),
        heartbeat_seconds: fields.amount("HeartbeatSeconds", found),
    })
}

fn parallel(
    builder: &mut Builder,
    fields: &Fields<'_>,
    depth: usize,
    found: &mut Found,
) -> Option<Kind> {
    if fields.get("Branches").is_none() {
        fields.missing("Branches", found);
        return None;
    }
    let branches = each(fields, "Branches", found, |fields, found| {
        Some(builder.flow(fields, depth + 1, found))
    });
    not_empty(fields, "Branches", found);
    Some(Kind::Parallel { branches })
}

fn map(builder: &mut Builder, fields: &Fields<'_>, depth: usize, found: &mut Found) -> Option<Map> {
    let name = if fields.get("ItemProcessor").is_some() {
        "ItemProcessor"
    } else {
        "Iterator"
    };
    let Some(processor) = fields.inner(name, found) else {
        if fields.get(name).is_none() {
            fields.missing("ItemProcessor", found);
        }
        return None;
    };
    let mode = mode(&processor, found);
    let flow = builder.flow(&processor, depth + 1, found);
    let selector = if fields.get("ItemSelector").is_some() {
        fields.template("ItemSelector", found)
    } else {
        fields.template("Parameters", found)
    };
    Some(Map {
        processor: flow,
        mode,
        items_path: fields.path("ItemsPath", found),
        items: match fields.language {
            Language::JsonPath => None,
            Language::Jsonata => fields.template("Items", found),
        },
        selector,
        max_concurrency: fields.amount("MaxConcurrency", found),
        tolerated_count: fields.amount("ToleratedFailureCount", found),
        tolerated_percentage: fields.amount("ToleratedFailurePercentage", found),
        label: fields.text("Label", found).map(str::to_owned),
        reader: reader(fields, found),
        batcher: fields.inner("ItemBatcher", found).map(|own| ItemBatcher {
            max_items: own.amount("MaxItemsPerBatch", found),
            max_bytes: own.amount("MaxInputBytesPerBatch", found),
            batch_input: own.template("BatchInput", found),
        }),
        writer: fields.inner("ResultWriter", found).map(|own| ResultWriter {
            resource: own.get("Resource").and_then(|_| resource(&own, found)),
            arguments: arguments(&own, found),
            config: own.get("WriterConfig").cloned(),
        }),
    })
}

fn mode(processor: &Fields<'_>, found: &mut Found) -> MapMode {
    let Some(config) = processor.inner("ProcessorConfig", found) else {
        return MapMode::Inline;
    };
    match config.text("Mode", found) {
        None | Some("INLINE") => MapMode::Inline,
        Some("DISTRIBUTED") => match config.text("ExecutionType", found) {
            Some("STANDARD") | None => MapMode::Distributed { express: false },
            Some("EXPRESS") => MapMode::Distributed { express: true },
            Some(_) => {
                found.schema(
                    "The field 'ExecutionType' should have one of these values: [STANDARD, EXPRESS]",
                    config.at("ExecutionType"),
                );
                MapMode::Inline
            }
        },
        Some(_) => {
            found.schema(
                "The field 'Mode' should have one of these values: [INLINE, DISTRIBUTED]",
                config.at("Mode"),
            );
            MapMode::Inline
        }
    }
}

fn reader(fields: &Fields<'_>, found: &mut Found) -> Option<ItemReader> {
    let own = fields.inner("ItemReader", found)?;
    let max_items = own
        .inner("ReaderConfig", found)
        .and_then(|config| config.amount("MaxItems", found));
    Some(ItemReader {
        resource: resource(&own, found)?,
        arguments: arguments(&own, found),
        config: own.template("ReaderConfig", found),
        max_items,
    })
}

fn arguments(fields: &Fields<'_>, found: &mut Found) -> Option<Template> {
    match fields.language {
        Language::JsonPath => fields.template("Parameters", found),
        Language::Jsonata => fields.template("Arguments", found),
    }
}
