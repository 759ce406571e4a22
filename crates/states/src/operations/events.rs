//! Events of a history as the API answers them.

use asl::history::{EventKind, HistoryEvent};
use bytes::Bytes;
use clock::Timestamp;
use model::stepfunctions::HistoryEvent as Shown;
use serde_json::{Map, Value};

use crate::Error;
use crate::executions::About;

/// The members that hold what executions work with.
const DATA: [&str; 5] = [
    "input",
    "output",
    "parameters",
    "assignedVariables",
    "cause",
];

/// An event as `GetExecutionHistory` shows it. Without data, only what happened is shown.
pub fn show(event: &HistoryEvent, about: &About, with_data: bool) -> Result<Shown, Error> {
    let broken = |source| Error::Record {
        what: "event",
        source,
    };
    let mut shown = match event.kind.details() {
        None => Shown::default(),
        Some((member, mut details)) => {
            if let (EventKind::ExecutionStarted { .. }, Some(details)) =
                (&event.kind, details.as_object_mut())
            {
                started(details, about);
            }
            if let (false, Some(details)) = (with_data, details.as_object_mut()) {
                details.retain(|name, _| !DATA.contains(&name.as_str()));
            }
            let mut members = Map::new();
            members.insert(member, details);
            let text = serde_json::to_vec(&Value::Object(members)).map_err(broken)?;
            // The generated type knows each member; what it does not know would be left out.
            model::json::from_body(&Bytes::from(text))
                .map(|(shown, _)| shown)
                .map_err(|err| broken(serde::de::Error::custom(err)))?
        }
    };
    shown.id = i64::try_from(event.id).unwrap_or(i64::MAX);
    shown.previous_event_id = Some(i64::try_from(event.previous).unwrap_or(i64::MAX));
    shown.timestamp = Timestamp::from_millis(event.at_ms);
    shown.type_ = event.kind.type_name().as_str().into();
    Ok(shown)
}

/// The input is shown as it was given; the version and alias are known outside the interpreter.
fn started(details: &mut Map<String, Value>, about: &About) {
    details.insert("input".into(), Value::from(&*about.input_text));
    let arns = [
        ("stateMachineVersionArn", &about.version_arn),
        ("stateMachineAliasArn", &about.alias_arn),
    ];
    for (member, arn) in arns {
        if let Some(arn) = arn {
            details.insert(member.into(), Value::from(arn.as_str()));
        }
    }
}
