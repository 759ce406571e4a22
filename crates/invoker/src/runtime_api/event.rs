use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::Invocation;

/// An invocation on its way to the runtime: the answer to one `GET .../invocation/next`.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub invocation: Invocation,
    /// Names this delivery; newer clients echo it, so that an answer to an earlier one is told apart.
    pub invocation_id: String,
    pub deadline_ms: i64,
    pub trace_header: String,
}

pub(super) const INVOCATION_ID: &str = "lambda-runtime-invocation-id";

impl Event {
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(9);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut set = |name, text: &str| {
            if let Some(value) = header_value(text) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        let invocation = &self.invocation;
        set("lambda-runtime-aws-request-id", &invocation.request_id);
        set(
            "lambda-runtime-invoked-function-arn",
            &invocation.invoked_arn,
        );
        set("lambda-runtime-trace-id", &self.trace_header);
        set(INVOCATION_ID, &self.invocation_id);
        if let Some(context) = &invocation.client_context {
            set("lambda-runtime-client-context", context);
        }
        if let Some(identity) = &invocation.cognito_identity {
            set("lambda-runtime-cognito-identity", identity);
        }
        headers.insert(
            "lambda-runtime-deadline-ms",
            HeaderValue::from(self.deadline_ms),
        );
        headers
    }
}

/// `None` for an empty text, which AWS sends no header for.
///
/// Line breaks between JSON tokens are legal in a client context but not in a header; as blanks
/// they mean the same. Inside a JSON string they cannot occur.
fn header_value(text: &str) -> Option<HeaderValue> {
    if text.is_empty() {
        return None;
    }
    HeaderValue::from_str(text).ok().or_else(|| {
        let cleaned: Vec<u8> = text
            .bytes()
            .map(|b| if b < b' ' || b == 0x7f { b' ' } else { b })
            .collect();
        HeaderValue::from_bytes(&cleaned).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_context_with_line_breaks_still_becomes_a_header() {
        let invocation = Invocation {
            client_context: Some("{\n\t\"custom\": {\"k\": \"ü\"}\r\n}".into()),
            ..Invocation::default()
        };
        let headers = Event {
            invocation,
            ..Event::default()
        }
        .headers();
        let context = headers["lambda-runtime-client-context"].as_bytes();
        let parsed: serde_json::Value = serde_json::from_slice(context).unwrap();
        assert_eq!(parsed["custom"]["k"], "ü");
    }

    #[test]
    fn absent_values_give_no_header() {
        let headers = Event {
            deadline_ms: 42,
            ..Event::default()
        }
        .headers();
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["lambda-runtime-deadline-ms"], "42");
    }
}
