//! The context object that a test brings along.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html>

use serde_json::{Map, Value};

use crate::Error;

/// What a member is.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Number,
    Anything,
}

const MEMBERS: [(&str, &[(&str, Form)]); 4] = [
    (
        "Execution",
        &[
            ("Id", Form::Text),
            ("Input", Form::Anything),
            ("Name", Form::Text),
            ("RoleArn", Form::Text),
            ("StartTime", Form::Text),
            ("RedriveCount", Form::Number),
            ("RedriveTime", Form::Text),
        ],
    ),
    (
        "State",
        &[
            ("EnteredTime", Form::Text),
            ("Name", Form::Text),
            ("RetryCount", Form::Number),
        ],
    ),
    ("StateMachine", &[("Id", Form::Text), ("Name", Form::Text)]),
    ("Task", &[("Token", Form::Text)]),
];

pub fn read(text: &str) -> Result<Value, Error> {
    let wrong =
        |what: String| Error::validation(format!("Invalid Context object provided: {what}"));
    let Ok(Value::Object(context)) = serde_json::from_str(text) else {
        return Err(wrong("Context must be a valid JSON object".to_owned()));
    };
    check(&context).map_err(wrong)?;
    Ok(Value::Object(context))
}

fn check(context: &Map<String, Value>) -> Result<(), String> {
    for (part, value) in context {
        // A test stands outside of all iterations.
        if part == "Map" {
            return Err("'Map' field is not supported when mocking a Context object".to_owned());
        }
        let Some((_, known)) = MEMBERS.iter().find(|(name, _)| name == part) else {
            return Err(format!("Field '{part}' is not allowed"));
        };
        let Some(members) = value.as_object() else {
            return Err(format!("{part} must be an object"));
        };
        for (name, value) in members {
            let Some((_, form)) = known.iter().find(|(known, _)| known == name) else {
                return Err(format!("Field '{name}' is not allowed"));
            };
            let (fits, form) = match form {
                Form::Text => (value.is_string(), "a string"),
                Form::Number => (value.is_number(), "a number"),
                Form::Anything => (true, ""),
            };
            if !fits {
                return Err(format!("{part}.{name} must be {form}"));
            }
        }
    }
    Ok(())
}
