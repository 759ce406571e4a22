//! The event that a request becomes: payload format 2.0.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Version, header, request};
use percent_encoding::percent_decode_str;
use serde::{Serialize, Serializer};

use super::address;
use super::serve::UrlSigner;

const DEFAULT: &str = "$default";

/// What an event is made of, beside the request itself.
#[derive(Debug)]
pub struct Facts<'a> {
    pub url_id: &'a str,
    /// The path below the URL, not decoded.
    pub path: &'a str,
    /// The URL's host name, if the request came by the path form.
    pub host: Option<String>,
    pub source_ip: String,
    pub scheme: &'static str,
    pub port: u16,
    pub request_id: &'a str,
    pub trace_header: &'a str,
    /// Who signed; only where the URL asks for signatures.
    pub signer: Option<&'a UrlSigner>,
    pub now: clock::Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<Cow<'a, str>>,
    headers: BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<Cow<'a, str>, String>,
    request_context: Context<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Text<'a>>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    account_id: &'a str,
    api_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<Authorizer<'a>>,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: &'a str,
    route_key: &'static str,
    stage: &'static str,
    time: String,
    time_epoch: i64,
}

#[derive(Serialize)]
struct Authorizer<'a> {
    iam: &'a UrlSigner,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: &'a str,
    user_agent: Cow<'a, str>,
}

/// A body: text as it is, anything else in base64.
enum Text<'a> {
    Plain(&'a str),
    Base64(&'a [u8]),
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(text) => to.serialize_str(text),
            Self::Base64(bytes) => to.serialize_str(&STANDARD.encode(bytes)),
        }
    }
}

/// The event for the function, as JSON.
pub fn build(
    request: &request::Parts,
    body: &[u8],
    facts: &Facts<'_>,
) -> Result<Bytes, serde_json::Error> {
    let query = request.uri.query().unwrap_or_default();
    let body = text_of(&request.headers, body);
    let host = address::host(request);
    let domain_name = match &facts.host {
        Some(host) => host.as_str(),
        None => address::without_port(host),
    };
    let event = Event {
        version: "2.0",
        route_key: DEFAULT,
        raw_path: facts.path,
        raw_query_string: query,
        cookies: cookies(&request.headers),
        headers: headers(&request.headers, host, facts),
        query_string_parameters: parameters(query),
        request_context: Context {
            account_id: facts.signer.map_or("anonymous", UrlSigner::account),
            api_id: facts.url_id,
            authorizer: facts.signer.map(|iam| Authorizer { iam }),
            domain_name,
            domain_prefix: facts.url_id,
            http: Http {
                method: request.method.as_str(),
                path: facts.path,
                protocol: protocol(request.version),
                source_ip: &facts.source_ip,
                user_agent: joined(&request.headers, header::USER_AGENT.as_str()),
            },
            request_id: facts.request_id,
            route_key: DEFAULT,
            stage: DEFAULT,
            time: (facts.now.to_jiff())
                .strftime("%d/%b/%Y:%H:%M:%S +0000")
                .to_string(),
            time_epoch: facts.now.as_millis(),
        },
        is_base64_encoded: matches!(body, Some(Text::Base64(_))),
        body,
    };
    serde_json::to_vec(&event).map(Bytes::from)
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// Headers that concern only the connection, that have a place of their own, or that the server
/// writes itself.
fn is_passed_on(name: &str, signed: bool) -> bool {
    match name {
        "connection" | "cookie" | "expect" | "http2-settings" | "keep-alive"
        | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "host"
        | "x-amzn-trace-id" | "x-forwarded-for" | "x-forwarded-port" | "x-forwarded-proto" => false,
        // Credentials of AWS are not for the function to see; its own scheme of authorization is.
        "authorization" | "x-amz-security-token" => !signed,
        _ => true,
    }
}

/// All values of each header, joined by commas.
fn headers<'a>(
    headers: &'a HeaderMap,
    host: &'a str,
    facts: &'a Facts<'_>,
) -> BTreeMap<&'a str, Cow<'a, str>> {
    let signed = facts.signer.is_some();
    let mut all: BTreeMap<&str, Cow<'_, str>> = headers
        .keys()
        .map(header::HeaderName::as_str)
        .filter(|name| is_passed_on(name, signed))
        .map(|name| (name, joined(headers, name)))
        .collect();
    if !host.is_empty() {
        all.insert("host", Cow::Borrowed(host));
    }
    // What proxies before this server have found out is kept, with what this server knows at the
    // end.
    let before = joined(headers, "x-forwarded-for");
    let forwarded_for = match before.as_ref() {
        "" => Cow::Borrowed(facts.source_ip.as_str()),
        before => Cow::Owned(format!("{before}, {}", facts.source_ip)),
    };
    all.insert("x-forwarded-for", forwarded_for);
    all.insert("x-forwarded-port", Cow::Owned(facts.port.to_string()));
    all.insert("x-forwarded-proto", Cow::Borrowed(facts.scheme));
    all.insert("x-amzn-trace-id", Cow::Borrowed(facts.trace_header));
    all
}

fn joined<'a>(headers: &'a HeaderMap, name: &str) -> Cow<'a, str> {
    let mut values = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = values.next().unwrap_or_default();
    values.fold(first, |all, value| Cow::Owned(format!("{all},{value}")))
}

fn cookies(headers: &HeaderMap) -> Vec<Cow<'_, str>> {
    let mut cookies = Vec::new();
    for value in headers.get_all(header::COOKIE) {
        let parts = value.as_bytes().split(|byte| *byte == b';');
        let parts = parts
            .map(<[u8]>::trim_ascii)
            .filter(|part| !part.is_empty());
        cookies.extend(parts.map(String::from_utf8_lossy));
    }
    cookies
}

/// Decoded; the values of a name that occurs more than once are joined by commas.
fn parameters(query: &str) -> BTreeMap<Cow<'_, str>, String> {
    let mut parameters: BTreeMap<Cow<'_, str>, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        parameters
            .entry(decoded(name))
            .and_modify(|all| {
                all.push(',');
                all.push_str(&value);
            })
            .or_insert_with(|| value.to_string());
    }
    parameters
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(text).decode_utf8_lossy()
}

fn text_of<'a>(headers: &HeaderMap, body: &'a [u8]) -> Option<Text<'a>> {
    if body.is_empty() {
        return None;
    }
    let readable = is_text(headers).then(|| std::str::from_utf8(body).ok());
    Some(match readable.flatten() {
        Some(text) => Text::Plain(text),
        None => Text::Base64(body),
    })
}

/// Whether the client says that the body is text. A form is not, to AWS.
fn is_text(headers: &HeaderMap) -> bool {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return false;
    }
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind.as_str(),
            "application/json" | "application/javascript" | "application/xml"
        )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn facts<'a>() -> Facts<'a> {
        Facts {
            url_id: "abc",
            path: "/my/path",
            host: None,
            source_ip: "192.0.2.7".into(),
            scheme: "http",
            port: 4566,
            request_id: "id",
            trace_header: "Root=1-2-3",
            signer: None,
            now: clock::Timestamp::from_millis(1_583_348_638_390),
        }
    }

    fn event(request: http::request::Builder, body: &[u8], facts: &Facts<'_>) -> Value {
        let request = request.body(()).unwrap().into_parts().0;
        serde_json::from_slice(&build(&request, body, facts).unwrap()).unwrap()
    }

    #[test]
    fn events_have_payload_format_2_0() {
        let request = http::Request::post("/my/path?a=1&b=x%20y&a=2&c")
            .header("Host", "abc.lambda-url.eu-west-1.localhost:4566")
            .header("Header1", "value1")
            .header("Header2", "value1")
            .header("HEADER2", "value2")
            .header("Cookie", "cookie1=a; cookie2=b")
            .header("Connection", "keep-alive")
            .header("Content-Type", "application/json")
            .header("User-Agent", "agent");
        assert_eq!(
            event(request, br#"{"a":1}"#, &facts()),
            json!({
                "version": "2.0",
                "routeKey": "$default",
                "rawPath": "/my/path",
                "rawQueryString": "a=1&b=x%20y&a=2&c",
                "cookies": ["cookie1=a", "cookie2=b"],
                "headers": {
                    "content-type": "application/json",
                    "header1": "value1",
                    "header2": "value1,value2",
                    "host": "abc.lambda-url.eu-west-1.localhost:4566",
                    "user-agent": "agent",
                    "x-amzn-trace-id": "Root=1-2-3",
                    "x-forwarded-for": "192.0.2.7",
                    "x-forwarded-port": "4566",
                    "x-forwarded-proto": "http",
                },
                "queryStringParameters": {"a": "1,2", "b": "x y", "c": ""},
                "requestContext": {
                    "accountId": "anonymous",
                    "apiId": "abc",
                    "domainName": "abc.lambda-url.eu-west-1.localhost",
                    "domainPrefix": "abc",
                    "http": {
                        "method": "POST",
                        "path": "/my/path",
                        "protocol": "HTTP/1.1",
                        "sourceIp": "192.0.2.7",
                        "userAgent": "agent",
                    },
                    "requestId": "id",
                    "routeKey": "$default",
                    "stage": "$default",
                    "time": "04/Mar/2020:19:03:58 +0000",
                    "timeEpoch": 1_583_348_638_390_i64,
                },
                "body": "{\"a\":1}",
                "isBase64Encoded": false,
            })
        );
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let event = event(http::Request::get("/"), b"", &facts());
        for absent in ["cookies", "queryStringParameters", "body"] {
            assert!(event.get(absent).is_none(), "{absent}");
        }
        assert_eq!(event["isBase64Encoded"], false);
        assert!(event["requestContext"].get("authorizer").is_none());
    }

    #[test]
    fn bodies_that_are_no_text_come_in_base64() {
        for (content_type, body, expected) in [
            ("text/plain; charset=utf-8", &b"hello"[..], "hello"),
            ("application/vnd.api+json", b"{}", "{}"),
            ("application/json", b"\xff", "/w=="),
            ("application/x-www-form-urlencoded", b"a=b", "YT1i"),
            ("", b"hello", "aGVsbG8="),
        ] {
            let request = http::Request::post("/").header("Content-Type", content_type);
            let event = event(request, body, &facts());
            assert_eq!(event["body"], expected, "{content_type}");
            assert_eq!(event["isBase64Encoded"], expected.as_bytes() != body);
        }
    }

    #[test]
    fn signatures_are_not_shown_to_the_function() {
        let signer = UrlSigner {
            access_key: "AKIA".into(),
            account_id: "123456789012".into(),
            caller_id: "123456789012".into(),
            user_arn: "arn:aws:iam::123456789012:root".into(),
            user_id: "123456789012".into(),
        };
        let request = || {
            http::Request::get("/")
                .header("Authorization", "AWS4-HMAC-SHA256 secret")
                .header("X-Amz-Security-Token", "token")
        };
        let signed = Facts {
            signer: Some(&signer),
            ..facts()
        };
        let event_of_signer = event(request(), b"", &signed);
        assert!(event_of_signer["headers"].get("authorization").is_none());
        assert!(!event_of_signer.to_string().contains("token"));
        assert_eq!(
            event_of_signer["requestContext"]["authorizer"]["iam"]["userArn"],
            "arn:aws:iam::123456789012:root"
        );
        assert_eq!(
            event_of_signer["requestContext"]["accountId"],
            "123456789012"
        );
        let open = event(request(), b"", &facts());
        assert_eq!(open["headers"]["authorization"], "AWS4-HMAC-SHA256 secret");
    }

    #[test]
    fn a_proxys_word_on_the_client_is_kept_but_not_believed() {
        let request = http::Request::get("/")
            .header("X-Forwarded-For", "203.0.113.9")
            .header("X-Forwarded-Proto", "gopher");
        let event = event(request, b"", &facts());
        assert_eq!(
            event["headers"]["x-forwarded-for"],
            "203.0.113.9, 192.0.2.7"
        );
        assert_eq!(event["headers"]["x-forwarded-proto"], "http");
        assert_eq!(event["requestContext"]["http"]["sourceIp"], "192.0.2.7");
    }
}
