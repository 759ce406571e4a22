use bytes::Bytes;
use clock::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

/// What a subscription can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    Platform,
    Function,
    Extension,
}

/// Which of the two APIs knows an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    Both,
    Telemetry,
    Logs,
}

/// An event as it is delivered: one JSON object.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub category: Category,
    pub audience: Audience,
    pub json: Bytes,
}

#[derive(Serialize)]
struct Envelope<'a, R> {
    time: String,
    #[serde(rename = "type")]
    kind: &'a str,
    record: R,
}

impl Event {
    pub fn new(
        category: Category,
        audience: Audience,
        time: Timestamp,
        (kind, record): (&str, impl Serialize),
    ) -> Self {
        let envelope = Envelope {
            time: time.to_string(),
            kind,
            record,
        };
        Self {
            category,
            audience,
            // Keys are strings, so this does not fail.
            json: serde_json::to_vec(&envelope).unwrap_or_default().into(),
        }
    }

    /// A line that was printed. One that is a JSON object is passed on as one, if the function
    /// logs JSON.
    pub fn line(category: Category, time: Timestamp, text: &str, as_json: bool) -> Self {
        let kind = category.as_str();
        let audience = Audience::Both;
        let trimmed = text.trim();
        if as_json
            && trimmed.starts_with('{')
            && let Ok(object) = serde_json::from_str::<&RawValue>(trimmed)
        {
            return Self::new(category, audience, time, (kind, object));
        }
        Self::new(category, audience, time, (kind, text))
    }
}

impl Category {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "platform" => Some(Self::Platform),
            "function" => Some(Self::Function),
            "extension" => Some(Self::Extension),
            _ => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Function => "function",
            Self::Extension => "extension",
        }
    }

    /// As AWS's log lines spell it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Platform => "Platform",
            Self::Function => "Function",
            Self::Extension => "Extension",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, as_json: bool) -> serde_json::Value {
        let event = Event::line(Category::Function, Timestamp::default(), text, as_json);
        serde_json::from_slice(&event.json).unwrap()
    }

    #[test]
    fn printed_text_is_a_string_and_json_is_an_object_if_the_function_logs_json() {
        assert_eq!(line("hello\n", false)["record"], "hello\n");
        assert_eq!(
            line("{\"level\": \"INFO\"}\n", true)["record"]["level"],
            "INFO"
        );
        assert_eq!(line("{\"a\": 1}\n", false)["record"], "{\"a\": 1}\n");
        assert_eq!(line("{oops\n", true)["record"], "{oops\n");
        assert_eq!(line("x", true)["type"], "function");
    }
}
