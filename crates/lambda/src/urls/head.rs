//! Status and headers, as a function asks for them.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What an answer's headers may take, names and values together.
const MAX_HEADER_BYTES: usize = 128 << 10;
const MAX_HEADERS: usize = 1_000;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a function says about its answer, beside the body. Also the prelude of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wanted {
    pub status_code: Option<Value>,
    headers: Option<Map<String, Value>>,
    cookies: Option<Vec<Value>>,
}

/// Status and headers that can be sent.
#[derive(Debug, PartialEq)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// The function's answer is none that HTTP knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the function answered what is no HTTP response: {0}")]
pub struct Malformed(pub &'static str);

impl Wanted {
    /// Whether the function formatted its answer.
    pub const fn is_formatted(&self) -> bool {
        self.status_code.is_some()
    }

    /// Checks everything. A name or value that no header can hold makes the answer invalid: a line
    /// break in one would be the beginning of another.
    pub fn check(self) -> Result<Head, Malformed> {
        let status = match &self.status_code {
            None => StatusCode::OK,
            Some(status) => status_of(status).ok_or(Malformed("statusCode"))?,
        };
        let mut headers = HeaderMap::new();
        let mut bytes = 0;
        let mut put = |name: HeaderName, value: &str| {
            let value = HeaderValue::from_str(value).map_err(|_| Malformed("header value"))?;
            bytes += name.as_str().len() + value.len();
            if bytes > MAX_HEADER_BYTES || headers.len() >= MAX_HEADERS {
                return Err(Malformed("too many headers"));
            }
            headers.append(name, value);
            Ok(())
        };
        for (name, value) in self.headers.unwrap_or_default() {
            let Some(name) = sent_as(&name)? else {
                continue;
            };
            match value {
                Value::Null => {}
                Value::String(text) => put(name, &text)?,
                Value::Bool(_) | Value::Number(_) => put(name, &value.to_string())?,
                Value::Array(_) | Value::Object(_) => return Err(Malformed("header value")),
            }
        }
        for cookie in self.cookies.unwrap_or_default() {
            let cookie = cookie.as_str().ok_or(Malformed("cookies"))?;
            put(header::SET_COOKIE, cookie)?;
        }
        headers.entry(header::CONTENT_TYPE).or_insert(JSON);
        Ok(Head { status, headers })
    }
}

impl Head {
    /// A success of the given type.
    pub fn ok(content_type: HeaderValue) -> Self {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
        let status = StatusCode::OK;
        Self { status, headers }
    }

    pub fn json() -> Self {
        Self::ok(JSON)
    }

    /// Whether a body may follow.
    pub fn has_body(&self) -> bool {
        !matches!(
            self.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        )
    }
}

/// A final status, as a number or as text.
fn status_of(value: &Value) -> Option<StatusCode> {
    let number = match value {
        Value::Number(number) => number.as_u64()?.try_into().ok()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    let status = StatusCode::from_u16(number).ok()?;
    (!status.is_informational() && number < 600).then_some(status)
}

/// The name under which a function's header is sent. What describes the connection is not the
/// function's to say: some are renamed, as on AWS, the others left out.
fn sent_as(name: &str) -> Result<Option<HeaderName>, Malformed> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Malformed("header name"))?;
    Ok(match name.as_str() {
        "connection" | "content-length" | "date" | "host" | "keep-alive" | "server"
        | "www-authenticate" => {
            HeaderName::from_bytes(format!("x-amzn-remapped-{name}").as_bytes()).ok()
        }
        "proxy-authenticate" | "proxy-connection" | "te" | "trailer" | "transfer-encoding"
        | "upgrade" => None,
        _ => Some(name),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn head(wanted: Value) -> Result<Head, Malformed> {
        serde_json::from_value::<Wanted>(wanted).unwrap().check()
    }

    #[test]
    fn status_headers_and_cookies_are_taken_over() {
        let head = head(json!({
            "statusCode": "201",
            "headers": {"X-Text": "a", "x-number": 1, "x-flag": true, "x-nothing": null},
            "cookies": ["a=b; Secure", "c=d"],
        }))
        .unwrap();
        assert_eq!(head.status, 201);
        let value = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(value("x-text"), Some("a"));
        assert_eq!(
            (value("x-number"), value("x-flag")),
            (Some("1"), Some("true"))
        );
        assert_eq!(value("x-nothing"), None);
        assert_eq!(value("content-type"), Some("application/json"));
        let cookies: Vec<_> = head.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=b; Secure", "c=d"]);
    }

    #[test]
    fn header_injection_is_refused() {
        for headers in [
            json!({"x-a": "b\r\nset-cookie: c=d"}),
            json!({"x-a\r\nx-b": "c"}),
            json!({"x a": "b"}),
            json!({"": "b"}),
            json!({"x-a": "b\u{0}"}),
            json!({"x-a": ["b"]}),
        ] {
            assert!(
                head(json!({"statusCode": 200, "headers": headers})).is_err(),
                "{headers}"
            );
        }
        assert!(head(json!({"cookies": ["a=b\r\nx: y"]})).is_err());
        assert!(head(json!({"cookies": [1]})).is_err());
    }

    #[test]
    fn headers_have_a_bound() {
        let many: Map<String, Value> = (0..1001).map(|n| (format!("x-{n}"), json!(""))).collect();
        assert!(head(json!({"headers": many})).is_err());
        assert!(head(json!({"headers": {"x": "a".repeat(200_000)}})).is_err());
        assert!(head(json!({"headers": {"x": "a".repeat(100_000)}})).is_ok());
    }

    #[test]
    fn only_final_statuses_are_accepted() {
        for bad in [
            json!(0),
            json!(100),
            json!(101),
            json!(600),
            json!(-1),
            json!("x"),
            json!(2.5),
            json!([]),
        ] {
            assert!(head(json!({"statusCode": bad})).is_err(), "{bad}");
        }
        assert!(head(json!({"statusCode": 599})).is_ok());
    }

    #[test]
    fn headers_of_the_connection_are_renamed_or_dropped() {
        let head = head(json!({"headers": {
            "Content-Length": "5", "Transfer-Encoding": "chunked", "Connection": "close", "Date": "x",
        }}))
        .unwrap();
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(
            names,
            [
                "x-amzn-remapped-content-length",
                "x-amzn-remapped-connection",
                "x-amzn-remapped-date",
                "content-type"
            ]
        );
    }
}
