//! Requests on their way to where their service is, and answers on their way back.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, Uri};
use protocol::sigv4;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use upstream::{Pieces, Unreachable};

use crate::catalog::{Entry, Names};
use crate::wire::Message;
use crate::{Context, Integrations};

/// Answers with more bytes are refused; executions take far less.
pub const MAX_ANSWER: usize = 16 << 20;
/// The longest that this server works at a request: a function's longest run, and a minute.
const OWN_TIMEOUT: Duration = Duration::from_secs(16 * 60);

const TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const CONTENT_HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    #[error("nobody serves this")]
    NotServed,
    #[error("the answer is too large")]
    TooLarge,
    #[error("Unable to execute HTTP request: {0}")]
    Failed(String),
}

impl From<Unreachable> for Unsent {
    fn from(error: Unreachable) -> Self {
        match error {
            Unreachable::TooLarge(_) => Self::TooLarge,
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Where a service is.
enum Place<'a> {
    /// Here, behind the server's own port.
    Own,
    Upstream(&'a str),
}

impl Integrations {
    /// Sends a request to where its service is: to where the operator says, else to this server if
    /// it serves it, else to where the operator says that all others are.
    pub(crate) async fn exchange(
        &self,
        context: &Context,
        entry: &'static Entry,
        message: Message,
    ) -> Result<Response<Bytes>, Unsent> {
        let names = &entry.names;
        let all = names.all();
        let own_endpoint = self.upstream.own_endpoint(&all);
        let place = match own_endpoint {
            Some(endpoint) => Place::Upstream(endpoint),
            None if (self.hooks.serves)(&names.signing) => Place::Own,
            None => {
                let endpoint = self.upstream.endpoint(&all).ok_or(Unsent::NotServed)?;
                Place::Upstream(endpoint)
            }
        };
        let timeout = match place {
            Place::Own => OWN_TIMEOUT,
            Place::Upstream(_) => self.upstream_timeout(),
        };
        let request = self.request(context, names, message, &place)?;
        let answer = self.client.send(request, MAX_ANSWER, timeout).await;
        answer.map_err(Unsent::from)
    }

    /// Sends a request to where the operator says that its service is, and gives the answer while
    /// it comes, however large it is.
    pub(crate) async fn open_upstream(
        &self,
        context: &Context,
        entry: &'static Entry,
        message: Message,
    ) -> Result<Response<Pieces>, Unsent> {
        let names = &entry.names;
        let endpoint = self.upstream.own_endpoint(&names.all());
        let place = Place::Upstream(endpoint.ok_or(Unsent::NotServed)?);
        let request = self.request(context, names, message, &place)?;
        let answer = self.client.open(request, self.upstream_timeout()).await;
        answer.map_err(Unsent::from)
    }

    const fn upstream_timeout(&self) -> Duration {
        Duration::from_millis(self.upstream.timeout_ms)
    }

    fn request(
        &self,
        context: &Context,
        names: &Names,
        message: Message,
        place: &Place<'_>,
    ) -> Result<Request<Bytes>, Unsent> {
        let failed = |reason: &dyn std::fmt::Display| Unsent::Failed(reason.to_string());
        let region = match (place, &names.global_endpoint) {
            (Place::Upstream(_), Some(_)) => "us-east-1",
            _ => context.region.as_str(),
        };
        let endpoint = match place {
            Place::Own => format!("http://{}", self.own),
            Place::Upstream(endpoint) => {
                let endpoint = endpoint.replace("{region}", region);
                with_prefix(&endpoint, message.host_prefix.as_deref())
            }
        };
        let uri: Uri = format!("{endpoint}{}", message.target)
            .parse()
            .map_err(|error| failed(&error))?;
        let mut request = Request::new(message.body);
        *request.method_mut() = message.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = message.headers;
        let headers = request.headers_mut();
        if matches!(place, Place::Own) {
            // Tells services apart that share the port, as at AWS.
            let host = format!("{}.{region}.amazonaws.com", names.prefix);
            let host = HeaderValue::from_str(&host).map_err(|error| failed(&error))?;
            headers.insert(HOST, host);
        }
        if let Some(trace) = &context.trace_header
            && let Ok(trace) = HeaderValue::from_str(trace)
        {
            headers.insert(TRACE, trace);
        }
        if &*names.signing == "s3" {
            let hash = hex::encode(Sha256::digest(request.body()));
            let hash = HeaderValue::from_str(&hash).map_err(|error| failed(&error))?;
            request.headers_mut().insert(CONTENT_HASH, hash);
        }
        let credentials = match place {
            Place::Own => (self.hooks.credentials)(context).map_err(|error| failed(&error))?,
            Place::Upstream(_) => self.upstream.credentials(context.account.as_str()),
        };
        let (mut parts, body) = request.into_parts();
        let now = self.clock.now();
        sigv4::sign(&mut parts, &body, &credentials, region, &names.signing, now)
            .map_err(|error| failed(&error))?;
        Ok(Request::from_parts(parts, body))
    }
}

/// Some operations have hosts of their own at AWS, and only there.
fn with_prefix(endpoint: &str, prefix: Option<&str>) -> String {
    let parts = prefix.zip(endpoint.split_once("://"));
    match parts {
        Some((prefix, (scheme, host))) if host.contains(".amazonaws.com") => {
            format!("{scheme}://{prefix}{host}")
        }
        _ => endpoint.to_owned(),
    }
}

/// Adds what AWS tells of the HTTP exchange beside the answer of a closely integrated service.
pub fn add_metadata(output: &mut Map<String, Value>, status: u16, headers: &HeaderMap) {
    let mut all = Map::new();
    let mut last = Map::new();
    let mut request_id = Value::Null;
    for name in headers.keys() {
        let shown = shown(name.as_str());
        let values: Vec<Value> = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(Value::from)
            .collect();
        let Some(value) = values.last().cloned() else {
            continue;
        };
        if shown == "x-amzn-RequestId" {
            request_id = value.clone();
        }
        last.insert(shown.clone(), value);
        all.insert(shown, Value::Array(values));
    }
    last.sort_keys();
    let mut metadata = Map::new();
    metadata.insert("AllHttpHeaders".into(), all.into());
    metadata.insert("HttpHeaders".into(), last.into());
    metadata.insert("HttpStatusCode".into(), status.into());
    output.insert("SdkHttpMetadata".into(), metadata.into());
    let mut response = Map::new();
    response.insert("RequestId".into(), request_id);
    output.insert("SdkResponseMetadata".into(), response.into());
}

/// A header as AWS's own servers write it.
fn shown(name: &str) -> String {
    const KNOWN: [&str; 7] = [
        "x-amzn-RequestId",
        "Content-Length",
        "Content-Type",
        "Date",
        "X-Amzn-Trace-Id",
        "X-Amz-Executed-Version",
        "x-amzn-Remapped-Content-Length",
    ];
    let known = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name));
    known.map_or_else(|| name.to_owned(), |known| (*known).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_aws_has_hosts_for_single_operations() {
        let prefixed = |endpoint| with_prefix(endpoint, Some("sync-"));
        assert_eq!(
            prefixed("https://states.eu-west-1.amazonaws.com"),
            "https://sync-states.eu-west-1.amazonaws.com"
        );
        assert_eq!(prefixed("http://127.0.0.1:4566"), "http://127.0.0.1:4566");
    }

    #[test]
    fn headers_are_told_as_aws_tells_them() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amzn-requestid", HeaderValue::from_static("id"));
        headers.insert("content-length", HeaderValue::from_static("2"));
        let mut output = Map::new();
        add_metadata(&mut output, 200, &headers);
        let expected = serde_json::json!({
            "SdkHttpMetadata": {
                "AllHttpHeaders": {"x-amzn-RequestId": ["id"], "Content-Length": ["2"]},
                "HttpHeaders": {"Content-Length": "2", "x-amzn-RequestId": "id"},
                "HttpStatusCode": 200,
            },
            "SdkResponseMetadata": {"RequestId": "id"},
        });
        assert_eq!(Value::Object(output), expected);
    }
}
