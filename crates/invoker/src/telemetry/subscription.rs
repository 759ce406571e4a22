use std::time::Duration;

use serde_json::Value;

use super::{Audience, Category};

/// What an extension asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    pub api: Api,
    pub categories: Vec<Category>,
    pub buffering: Buffering,
    pub destination: Destination,
}

/// By which of the two APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Telemetry,
    Logs,
}

/// When a batch is delivered: as soon as one of these is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buffering {
    pub max_items: usize,
    pub max_bytes: usize,
    pub timeout: Duration,
}

/// Where to, inside the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Http {
        port: u16,
        path: String,
        /// As the URI names it, for the `Host` header.
        host: String,
        put: bool,
    },
    Tcp {
        port: u16,
    },
}

/// Names of the environment itself. Connections go to its loopback, whatever a name means there.
const HOSTS: &[&str] = &["sandbox.localdomain", "sandbox"];
/// <https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html>
const ITEMS: std::ops::RangeInclusive<u64> = 1_000..=10_000;
const BYTES: std::ops::RangeInclusive<u64> = 262_144..=1_048_576;
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 25..=30_000;
/// Of an URI; a subscription is kept as long as its environment.
const MAX_URI_BYTES: usize = 2_048;

impl Subscription {
    /// Reads a request; the error is a text that names all its faults.
    pub fn parse(api: Api, body: &[u8]) -> Result<Self, String> {
        let request: Value = serde_json::from_slice(body)
            .map_err(|err| format!("request body is not valid JSON: {err}"))?;
        if !request.is_object() {
            return Err("request body should be a JSON object".to_owned());
        }
        let mut faults = Vec::new();
        check_version(api, &request["schemaVersion"], &mut faults);
        let destination = destination(&request["destination"], &mut faults);
        let categories = categories(&request["types"], &mut faults);
        let buffering = buffering(&request["buffering"], &mut faults);
        match destination {
            Some(destination) if faults.is_empty() => Ok(Self {
                api,
                categories,
                buffering,
                destination,
            }),
            _ => Err(faults.join("; ")),
        }
    }

    pub fn wants(&self, category: Category, audience: Audience) -> bool {
        self.categories.contains(&category)
            && match audience {
                Audience::Both => true,
                Audience::Telemetry => self.api == Api::Telemetry,
                Audience::Logs => self.api == Api::Logs,
            }
    }
}

/// Whether an extension's request to the Telemetry API is valid; the error names all its faults.
pub fn check_subscription(body: &[u8]) -> Result<(), String> {
    Subscription::parse(Api::Telemetry, body).map(drop)
}

fn check_version(api: Api, version: &Value, faults: &mut Vec<String>) {
    let (known, default): (&[&str], _) = match api {
        Api::Telemetry => (&["2022-07-01", "2022-12-13", "2025-01-29"], None),
        // The Logs API took requests without a version from its beginning.
        Api::Logs => (&["2020-08-15", "2021-03-18"], Some("2020-08-15")),
    };
    match version {
        Value::Null if default.is_some() => {}
        Value::Null => faults.push("schemaVersion should not be empty".into()),
        Value::String(version) if known.contains(&version.as_str()) => {}
        _ => faults.push("schemaVersion is not supported".into()),
    }
}

fn destination(value: &Value, faults: &mut Vec<String>) -> Option<Destination> {
    let destination = match value["protocol"].as_str() {
        None => Err("destination protocol is not provided".to_owned()),
        Some("HTTP") => http(value),
        Some("TCP") => port(&value["port"]).map(|port| Destination::Tcp { port }),
        Some(_) => Err("destination protocol should be HTTP or TCP".to_owned()),
    };
    destination.map_err(|fault| faults.push(fault)).ok()
}

fn http(value: &Value) -> Result<Destination, String> {
    let uri = value["URI"].as_str().or_else(|| value["uri"].as_str());
    let uri = uri.ok_or("URI is not provided")?;
    if uri.len() > MAX_URI_BYTES {
        return Err("URI is too long".into());
    }
    let parsed: http::Uri = uri.parse().map_err(|_| "URI is not valid")?;
    if parsed.scheme_str() != Some("http") {
        return Err("URI scheme should be http".into());
    }
    let host = parsed.host().unwrap_or_default();
    if !HOSTS.iter().any(|known| host.eq_ignore_ascii_case(known)) {
        return Err("URI host should be sandbox.localdomain".into());
    }
    let port = parsed.port_u16().ok_or("URI port is not provided")?;
    let put = match value["method"].as_str() {
        None | Some("POST") => false,
        Some("PUT") => true,
        Some(_) => return Err("destination method should be POST or PUT".into()),
    };
    let path = parsed.path_and_query().map(|path| path.as_str());
    Ok(Destination::Http {
        port: usable(port)?,
        path: path.unwrap_or("/").to_owned(),
        host: format!("{host}:{port}"),
        put,
    })
}

fn port(value: &Value) -> Result<u16, String> {
    let port = value.as_u64().ok_or("destination port is not provided")?;
    usable(u16::try_from(port).map_err(|_| "destination port is not valid")?)
}

/// The environment's own servers are no destinations.
fn usable(port: u16) -> Result<u16, String> {
    use crate::variables::{ENDPOINT_PORT, RUNTIME_API_PORT};
    if matches!(port, 0 | RUNTIME_API_PORT | ENDPOINT_PORT) {
        return Err(format!("port {port} is reserved"));
    }
    Ok(port)
}

fn categories(value: &Value, faults: &mut Vec<String>) -> Vec<Category> {
    let mut categories = Vec::new();
    for value in value.as_array().into_iter().flatten() {
        match value.as_str().and_then(Category::parse) {
            Some(category) if categories.contains(&category) => {}
            Some(category) => categories.push(category),
            None => {
                faults.push("types should be platform, function or extension".into());
                return categories;
            }
        }
    }
    if categories.is_empty() {
        faults.push("types should not be empty".into());
    }
    categories
}

fn buffering(value: &Value, faults: &mut Vec<String>) -> Buffering {
    let mut number = |name: &str, range: std::ops::RangeInclusive<u64>, default: u64| {
        let found = match &value[name] {
            Value::Null => return default,
            found => found.as_u64().filter(|number| range.contains(number)),
        };
        found.unwrap_or_else(|| {
            let (least, most) = (range.start(), range.end());
            faults.push(format!("{name} should be between {least} and {most}"));
            default
        })
    };
    let items = number("maxItems", ITEMS, 10_000);
    let bytes = number("maxBytes", BYTES, 262_144);
    let timeout_ms = number("timeoutMs", TIMEOUT_MS, 1_000);
    if !value.is_null() && !value.is_object() {
        faults.push("buffering should be an object".into());
    }
    Buffering {
        max_items: usize::try_from(items).unwrap_or(usize::MAX),
        max_bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        timeout: Duration::from_millis(timeout_ms),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(request: &Value) -> Result<Subscription, String> {
        Subscription::parse(Api::Telemetry, request.to_string().as_bytes())
    }

    fn request() -> Value {
        json!({
            "schemaVersion": "2022-12-13",
            "types": ["platform", "function"],
            "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
            "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/x?y=1"},
        })
    }

    #[test]
    fn complete_request_is_read() {
        let subscription = parse(&request()).unwrap();
        assert_eq!(subscription.buffering.timeout, Duration::from_millis(25));
        assert_eq!(
            subscription.destination,
            Destination::Http {
                port: 8080,
                path: "/x?y=1".into(),
                host: "sandbox.localdomain:8080".into(),
                put: false,
            }
        );
        assert!(subscription.wants(Category::Function, Audience::Both));
        assert!(!subscription.wants(Category::Extension, Audience::Both));
        assert!(!subscription.wants(Category::Platform, Audience::Logs));
        let mut tcp = request();
        tcp["destination"] = json!({"protocol": "TCP", "port": 9000});
        tcp["buffering"] = Value::Null;
        let tcp = parse(&tcp).unwrap();
        assert_eq!(tcp.destination, Destination::Tcp { port: 9000 });
        assert_eq!(tcp.buffering.max_items, 10_000);
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let mut bad = request();
        bad["types"] = json!([]);
        bad["destination"]["URI"] = json!("http://sandbox.localdomain");
        assert_eq!(
            parse(&bad).unwrap_err(),
            "URI port is not provided; types should not be empty"
        );
    }

    #[test]
    fn only_the_environment_itself_is_a_destination() {
        for uri in [
            "http://169.254.169.254:80/latest/meta-data",
            "http://127.0.0.1:8080",
            "http://localhost:8080",
            "http://example.com:8080",
            "https://sandbox:8080",
            "http://sandbox.localdomain.evil.com:8080",
            "http://sandbox@evil.com:8080",
            "http://sandbox:9001/2018-06-01/runtime/init/error",
            "http://sandbox:4566/",
            "http://sandbox:0/",
            "ftp://sandbox:21",
            "sandbox:8080",
            "/",
            "",
        ] {
            let mut bad = request();
            bad["destination"]["URI"] = json!(uri);
            assert!(parse(&bad).is_err(), "{uri}");
        }
        let mut good = request();
        good["destination"]["URI"] = json!("http://sandbox:8999");
        assert!(parse(&good).is_ok());
    }

    #[test]
    fn numbers_have_aws_bounds() {
        for (name, bad) in [
            ("maxItems", 999),
            ("maxItems", 10_001),
            ("maxBytes", 262_143),
            ("maxBytes", 1_048_577),
            ("timeoutMs", 24),
            ("timeoutMs", 30_001),
        ] {
            let mut request = request();
            request["buffering"][name] = json!(bad);
            assert!(parse(&request).unwrap_err().starts_with(name), "{name}");
        }
    }

    #[test]
    fn versions_belong_to_their_api() {
        for (api, version, good) in [
            (Api::Telemetry, json!("2022-07-01"), true),
            (Api::Telemetry, json!("2025-01-29"), true),
            (Api::Telemetry, json!("2021-03-18"), false),
            (Api::Telemetry, Value::Null, false),
            (Api::Logs, json!("2021-03-18"), true),
            (Api::Logs, Value::Null, true),
            (Api::Logs, json!("2022-07-01"), false),
            (Api::Logs, json!(7), false),
        ] {
            let mut request = request();
            request["schemaVersion"] = version.clone();
            let parsed = Subscription::parse(api, request.to_string().as_bytes());
            assert_eq!(parsed.is_ok(), good, "{api:?} {version}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Subscription::parse(Api::Logs, &body);
        }
    }
}
