//! HTTP tasks.
//!
//! <https://docs.aws.amazon.com/step-functions/latest/dg/call-https-apis.html>

use std::time::Duration;

use asl::failure::{Failure, names};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RANGE, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use percent_encoding::utf8_percent_encode;
use serde_json::{Map, Value};
use upstream::Unreachable;

use super::Task;
use crate::failure::unfit;
use crate::wire::{Invalid, UNRESERVED};

/// A response with more bytes cannot be the result of a state.
const MAX_RESPONSE: usize = 262_144;
/// As long as AWS waits.
const TIMEOUT: Duration = Duration::from_secs(60);
const SOCKET: &str = "States.Http.Socket";
const FIELDS: [&str; 8] = [
    "ApiEndpoint",
    "Method",
    "Headers",
    "QueryParameters",
    "RequestBody",
    "Transform",
    "Authentication",
    "InvocationConfig",
];
/// Headers that a workflow cannot set.
const FORBIDDEN: [&str; 14] = [
    "authorization",
    "connection",
    "content-md5",
    "date",
    "expect",
    "host",
    "max-forwards",
    "proxy-authenticate",
    "server",
    "te",
    "transfer-encoding",
    "trailer",
    "upgrade",
    "via",
];

/// A request as a workflow and a connection describe it together.
#[derive(Debug, Default)]
pub struct Described {
    pub endpoint: String,
    pub method: String,
    pub headers: HeaderMap,
    pub query: Vec<(String, String)>,
    pub body: Option<Value>,
    /// How arrays are written in a form; `None` is a JSON body.
    pub form: Option<ArrayFormat>,
}

/// How an array is written in a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayFormat {
    Indices,
    Repeat,
    Commas,
    Brackets,
    None,
}

impl Task<'_> {
    /// `http:invoke`.
    pub async fn http(&self) -> Result<Value, Failure> {
        let given = &*self.call.input;
        let mut described = describe(given).map_err(|invalid| unfit(given, &[invalid]))?;
        let arn = [
            "/Authentication/ConnectionArn",
            "/InvocationConfig/ConnectionArn",
        ]
        .iter()
        .find_map(|path| given.pointer(path)?.as_str());
        let Some(arn) = arn else {
            let missing = Invalid::Missing("Authentication".to_owned());
            return Err(unfit(given, &[missing]));
        };
        self.authorise(arn, &mut described).await?;
        let region = &self.context.region;
        let agent = format!("Amazon|StepFunctions|HttpInvoke|{region}");
        let headers = &mut described.headers;
        if let (Ok(agent), false) = (
            HeaderValue::from_str(&agent),
            headers.contains_key(USER_AGENT),
        ) {
            headers.insert(USER_AGENT, agent);
        }
        headers
            .entry(RANGE)
            .or_insert(HeaderValue::from_static("bytes=0-262144"));
        let request = request(described).map_err(|invalid| unfit(given, &[invalid]))?;
        let response = self.send(request).await?;
        answer(&response)
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Failure> {
        let client = &self.integrations.client;
        let sent = client.send(request, MAX_RESPONSE, TIMEOUT).await;
        sent.map_err(|error| match error {
            Unreachable::TooLarge(_) => Failure::new(
                names::DATA_LIMIT_EXCEEDED,
                "The state/task 'http' returned a result with a size exceeding the maximum number \
                 of bytes service limit.",
            ),
            error => Failure::new(SOCKET, error.to_string()),
        })
    }
}

fn describe(given: &Value) -> Result<Described, Invalid> {
    let format = |field: &str| Invalid::Format(field.to_owned());
    let object = given.as_object().ok_or_else(|| format("Parameters"))?;
    if let Some(other) = object.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(Invalid::Unsupported(other.clone()));
    }
    let text = |field: &str| match object.get(field) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format(field)),
        None => Err(Invalid::Missing(field.to_owned())),
    };
    let mut described = Described {
        endpoint: text("ApiEndpoint")?,
        method: text("Method")?,
        body: object
            .get("RequestBody")
            .filter(|body| !body.is_null())
            .cloned(),
        ..Described::default()
    };
    for (name, value) in entries(object, "Headers")? {
        let lower = name.to_ascii_lowercase();
        if FORBIDDEN.contains(&&*lower)
            || lower.starts_with("x-amz")
            || lower.starts_with("x-forwarded")
        {
            return Err(format("Headers"));
        }
        let name = HeaderName::from_bytes(lower.as_bytes()).map_err(|_| format("Headers"))?;
        for value in values(value).ok_or_else(|| format("Headers"))? {
            let value = HeaderValue::from_str(&value).map_err(|_| format("Headers"))?;
            described.headers.append(name.clone(), value);
        }
    }
    for (name, value) in entries(object, "QueryParameters")? {
        for value in values(value).ok_or_else(|| format("QueryParameters"))? {
            described.query.push((name.clone(), value));
        }
    }
    described.form = match given
        .pointer("/Transform/RequestBodyEncoding")
        .and_then(Value::as_str)
    {
        None | Some("NONE") => None,
        Some("URL_ENCODED") => Some(array_format(given).ok_or_else(|| format("Transform"))?),
        Some(_) => return Err(format("Transform")),
    };
    Ok(described)
}

fn array_format(given: &Value) -> Option<ArrayFormat> {
    let named = given.pointer("/Transform/RequestEncodingOptions/ArrayFormat");
    Some(match named.map(|named| named.as_str()) {
        None | Some(Some("INDICES")) => ArrayFormat::Indices,
        Some(Some("REPEAT")) => ArrayFormat::Repeat,
        Some(Some("COMMAS")) => ArrayFormat::Commas,
        Some(Some("BRACKETS")) => ArrayFormat::Brackets,
        Some(Some("NONE")) => ArrayFormat::None,
        Some(_) => return None,
    })
}

/// The entries of an optional object.
pub fn entries<'a>(
    object: &'a Map<String, Value>,
    field: &str,
) -> Result<Vec<(&'a String, &'a Value)>, Invalid> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(entries)) => Ok(entries.iter().collect()),
        Some(_) => Err(Invalid::Format(field.to_owned())),
    }
}

/// One text, or a list of them.
fn values(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().map(scalar).collect(),
        value => Some(vec![scalar(value)?]),
    }
}

/// What stands for itself, as text.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// The request that a description is.
pub fn request(described: Described) -> Result<Request<Bytes>, Invalid> {
    let format = |field: &str| Invalid::Format(field.to_owned());
    let mut target = described.endpoint;
    for (name, value) in &described.query {
        target.push(if target.contains('?') { '&' } else { '?' });
        target += &format!("{}={}", encoded(name), encoded(value));
    }
    let uri: Uri = target.parse().map_err(|_| format("ApiEndpoint"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format("ApiEndpoint"));
    }
    let method = Method::from_bytes(described.method.as_bytes()).map_err(|_| format("Method"))?;
    let mut headers = described.headers;
    let body = match (described.body, described.form) {
        (None, _) => Bytes::new(),
        (Some(body), Some(arrays)) => {
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.entry(CONTENT_TYPE).or_insert(kind);
            form(&body, arrays).into()
        }
        (Some(body), None) => {
            let kind = HeaderValue::from_static("application/json");
            headers.entry(CONTENT_TYPE).or_insert(kind);
            match body {
                Value::String(text) => text.into(),
                body => body.to_string().into(),
            }
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// A body as a form: `a[b]=c` for nested objects.
fn form(body: &Value, arrays: ArrayFormat) -> String {
    let mut pairs = Vec::new();
    match body {
        Value::Object(object) => {
            for (name, value) in object {
                flatten(encoded(name), value, arrays, &mut pairs);
            }
        }
        Value::String(text) => return text.clone(),
        other => return other.to_string(),
    }
    pairs.join("&")
}

fn flatten(name: String, value: &Value, arrays: ArrayFormat, pairs: &mut Vec<String>) {
    match value {
        Value::Null => pairs.push(format!("{name}=")),
        Value::Object(object) => {
            for (key, value) in object {
                flatten(
                    format!("{name}%5B{}%5D", encoded(key)),
                    value,
                    arrays,
                    pairs,
                );
            }
        }
        Value::Array(items) => match arrays {
            ArrayFormat::Commas => {
                let items: Vec<String> = items.iter().filter_map(scalar).collect();
                pairs.push(format!("{name}={}", encoded(&items.join(","))));
            }
            ArrayFormat::None => pairs.push(format!("{name}={}", encoded(&value.to_string()))),
            _ => {
                for (at, item) in items.iter().enumerate() {
                    let name = match arrays {
                        ArrayFormat::Indices => format!("{name}%5B{at}%5D"),
                        ArrayFormat::Brackets => format!("{name}%5B%5D"),
                        _ => name.clone(),
                    };
                    flatten(name, item, arrays, pairs);
                }
            }
        },
        scalar_value => {
            let text = scalar(scalar_value).unwrap_or_default();
            pairs.push(format!("{name}={}", encoded(&text)));
        }
    }
}

/// What a workflow sees of a response; other statuses than those of success fail.
fn answer(response: &Response<Bytes>) -> Result<Value, Failure> {
    let status = response.status();
    let body = std::str::from_utf8(response.body()).map_err(|_| {
        Failure::new(
            names::RUNTIME,
            "The response of the HTTP endpoint is not text",
        )
    })?;
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let binary = ["image/", "video/", "audio/", "application/octet-stream"];
    if binary.iter().any(|prefix| kind.starts_with(prefix)) {
        let cause = format!("The HTTP endpoint answered with {kind}, which workflows cannot read");
        return Err(Failure::new(names::RUNTIME, cause));
    }
    if !status.is_success() {
        let error = format!("States.Http.StatusCode.{}", status.as_u16());
        let cause = if body.is_empty() {
            status_text(status)
        } else {
            body.to_owned()
        };
        return Err(Failure::new(error, cause));
    }
    let json = kind.contains("json");
    let parsed = if json {
        serde_json::from_str(body).ok()
    } else {
        None
    };
    Ok(shown(response, parsed.unwrap_or_else(|| Value::from(body))))
}

/// A response as the output of a task.
pub fn shown(response: &Response<Bytes>, body: Value) -> Value {
    let mut headers = Map::new();
    for name in response.headers().keys() {
        let values = response.headers().get_all(name).iter();
        let values = values.filter_map(|value| value.to_str().ok());
        headers.insert(name.to_string(), values.map(Value::from).collect());
    }
    let mut output = Map::new();
    output.insert("Headers".into(), headers.into());
    output.insert("ResponseBody".into(), body);
    output.insert("StatusCode".into(), response.status().as_u16().into());
    output.insert("StatusText".into(), status_text(response.status()).into());
    Value::Object(output)
}

fn status_text(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_write_arrays_as_asked() {
        let body = json!({"a": ["x", "y z"], "b": {"c": 1}, "d": null});
        for (format, expected) in [
            (
                ArrayFormat::Indices,
                "a%5B0%5D=x&a%5B1%5D=y%20z&b%5Bc%5D=1&d=",
            ),
            (
                ArrayFormat::Brackets,
                "a%5B%5D=x&a%5B%5D=y%20z&b%5Bc%5D=1&d=",
            ),
            (ArrayFormat::Repeat, "a=x&a=y%20z&b%5Bc%5D=1&d="),
            (ArrayFormat::Commas, "a=x%2Cy%20z&b%5Bc%5D=1&d="),
        ] {
            assert_eq!(form(&body, format), expected);
        }
    }

    #[test]
    fn a_request_is_what_the_workflow_says() {
        let given = json!({
            "ApiEndpoint": "https://api.example.com/v1/c",
            "Method": "POST",
            "Headers": {"X-Kind": ["a", "b"]},
            "QueryParameters": {"q": "1 2", "n": [1, 2]},
            "RequestBody": {"k": [1]},
            "Transform": {"RequestBodyEncoding": "URL_ENCODED"},
        });
        let request = request(describe(&given).unwrap()).unwrap();
        let uri = request.uri().to_string();
        assert_eq!(uri, "https://api.example.com/v1/c?q=1%202&n=1&n=2");
        assert_eq!(request.headers().get_all("x-kind").iter().count(), 2);
        assert_eq!(
            request.headers()[CONTENT_TYPE],
            "application/x-www-form-urlencoded"
        );
        assert_eq!(&request.body()[..], b"k%5B0%5D=1");
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        let base = json!({"ApiEndpoint": "https://x", "Method": "GET"});
        for (field, value) in [
            ("Headers", json!({"Host": "y"})),
            ("Headers", json!("y")),
            ("Transform", json!({"RequestBodyEncoding": "ROT13"})),
            ("Body", json!(1)),
        ] {
            let mut given = base.clone();
            given[field] = value;
            assert!(describe(&given).is_err(), "{given}");
        }
        let file = Described {
            endpoint: "file:///etc/passwd".into(),
            method: "GET".into(),
            ..Described::default()
        };
        assert!(request(file).is_err());
    }

    #[test]
    fn statuses_of_failure_are_errors_by_number() {
        let mut response = Response::new(Bytes::from_static(b"{\"why\":1}"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        let failure = answer(&response).unwrap_err();
        assert_eq!(failure.error.as_deref(), Some("States.Http.StatusCode.404"));
        assert_eq!(failure.cause.as_deref(), Some("{\"why\":1}"));
        let mut response = Response::new(Bytes::from_static(b"{\"ok\":1}"));
        let kind = HeaderValue::from_static("application/json; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        let expected = json!({
            "Headers": {"content-type": ["application/json; charset=utf-8"]},
            "ResponseBody": {"ok": 1},
            "StatusCode": 200,
            "StatusText": "OK",
        });
        assert_eq!(answer(&response).unwrap(), expected);
    }
}
