//! APIs of API Gateway.
//!
//! <https://docs.aws.amazon.com/step-functions/latest/dg/connect-api-gateway.html>

use std::time::Duration;

use asl::failure::Failure;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response};
use protocol::sigv4;
use serde_json::{Map, Value};

use super::Task;
use super::http_task::{Described, encoded, entries, request, scalar, shown};
use crate::exchange::MAX_ANSWER;
use crate::failure::unfit;
use crate::wire::Invalid;

/// The longest that API Gateway itself takes.
const TIMEOUT: Duration = Duration::from_secs(30);
const FIELDS: [&str; 9] = [
    "ApiEndpoint",
    "Method",
    "Headers",
    "Stage",
    "Path",
    "QueryParameters",
    "RequestBody",
    "AllowNullValues",
    "AuthType",
];
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];
const FORBIDDEN: [&str; 14] = [
    "authorization",
    "connection",
    "content-md5",
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
    "www-authenticate",
];

impl Task<'_> {
    /// `apigateway:invoke`.
    pub async fn invoke_api(&self) -> Result<Value, Failure> {
        let given = &*self.call.input;
        let invalid = |invalid| unfit(given, &[invalid]);
        let (described, auth) = self.describe_api(given).map_err(invalid)?;
        let mut request = request(described).map_err(invalid)?;
        let headers = request.headers_mut();
        headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("application/json"));
        if auth != "NO_AUTH" {
            request = self.sign_api(request)?;
        }
        let client = &self.integrations.client;
        let response = client
            .send(request, MAX_ANSWER, TIMEOUT)
            .await
            .map_err(|error| {
                let cause = format!("Unable to execute HTTP request: {error}");
                Failure::new("ApiGateway.SdkClientException", cause)
            })?;
        answer(&response)
    }

    fn describe_api(&self, given: &Value) -> Result<(Described, String), Invalid> {
        let object = check(given).map_err(|mut invalid| invalid.remove(0))?;
        let text = |field: &str| {
            object
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let mut endpoint = self.api_url(text("ApiEndpoint"), text("Stage"));
        let path = text("Path").trim_start_matches('/');
        if !path.is_empty() {
            endpoint += "/";
            endpoint += path;
        }
        let mut described = Described {
            endpoint,
            method: text("Method").to_owned(),
            ..Described::default()
        };
        for (name, value) in entries(object, "Headers")? {
            let bad = || Invalid::Format("Headers".to_owned());
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            for item in value.as_array().into_iter().flatten() {
                let item = scalar(item).ok_or_else(bad)?;
                let item = HeaderValue::from_str(&item).map_err(|_| bad())?;
                described.headers.append(name.clone(), item);
            }
        }
        for (name, value) in entries(object, "QueryParameters")? {
            for item in value.as_array().into_iter().flatten().filter_map(scalar) {
                described.query.push((name.clone(), item));
            }
        }
        if let Some(body) = object.get("RequestBody").filter(|body| !body.is_null()) {
            // A text is sent as JSON, too.
            described.body = Some(Value::String(body.to_string()));
            let kind = HeaderValue::from_static("application/json");
            described.headers.insert(CONTENT_TYPE, kind);
        }
        let auth = object.get("AuthType").and_then(Value::as_str);
        Ok((described, auth.unwrap_or("NO_AUTH").to_owned()))
    }

    /// Where an API is: at the configured endpoint, or at its host.
    fn api_url(&self, host: &str, stage: &str) -> String {
        let configured = &self.integrations.config.apigateway;
        let id = host.split("://").last().unwrap_or(host);
        let id = id.split(['.', '/', ':']).next().unwrap_or_default();
        let at_stage = |url: String| {
            if stage.is_empty() {
                url
            } else {
                format!("{url}/{}", encoded(stage))
            }
        };
        if configured.is_empty() {
            let scheme = if host.contains("://") { "" } else { "https://" };
            return at_stage(format!("{scheme}{}", host.trim_end_matches('/')));
        }
        let url = configured
            .trim_end_matches('/')
            .replace("{api}", id)
            .replace("{region}", self.context.region.as_str());
        if url.contains("{stage}") {
            url.replace("{stage}", &encoded(stage))
        } else {
            at_stage(url)
        }
    }

    fn sign_api(&self, request: Request<Bytes>) -> Result<Request<Bytes>, Failure> {
        let failed = |reason: String| Failure::new("ApiGateway.SdkClientException", reason);
        let credentials = if self.integrations.config.apigateway.is_empty() {
            self.integrations
                .upstream
                .credentials(self.context.account.as_str())
        } else {
            (self.integrations.hooks.credentials)(&self.context).map_err(failed)?
        };
        let (mut parts, body) = request.into_parts();
        let region = self.context.region.as_str();
        let now = self.integrations.clock.now();
        sigv4::sign(&mut parts, &body, &credentials, region, "execute-api", now)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Request::from_parts(parts, body))
    }
}

/// What is wrong with the parameters of `apigateway:invoke`.
pub fn check(given: &Value) -> Result<&Map<String, Value>, Vec<Invalid>> {
    let format = |field: &str| Invalid::Format(field.to_owned());
    let Some(object) = given.as_object() else {
        return Err(vec![format("Parameters")]);
    };
    let mut found = Vec::new();
    for field in ["ApiEndpoint", "Method"] {
        if !object.contains_key(field) {
            found.push(Invalid::Missing(field.to_owned()));
        }
    }
    for (field, value) in object {
        let lists = |value: &Value| {
            let mut entries = value.as_object().into_iter().flatten();
            value.is_object() && entries.all(|(_, value)| value.is_array())
        };
        let fits = match field.as_str() {
            "ApiEndpoint" | "Stage" | "Path" => value.is_string(),
            "Method" => value
                .as_str()
                .is_some_and(|method| METHODS.contains(&method)),
            "AuthType" => matches!(
                value.as_str(),
                Some("NO_AUTH" | "IAM_ROLE" | "RESOURCE_POLICY")
            ),
            "AllowNullValues" => value.is_boolean(),
            "Headers" => {
                let mut names = value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name);
                lists(value) && names.all(|name| is_allowed(name))
            }
            "QueryParameters" => lists(value),
            "RequestBody" => true,
            _ => {
                found.push(Invalid::Unsupported(field.clone()));
                continue;
            }
        };
        if !fits && !value.is_null() {
            found.push(format(field));
        }
    }
    debug_assert!(
        object
            .keys()
            .all(|key| FIELDS.contains(&key.as_str()) || !found.is_empty())
    );
    if found.is_empty() {
        Ok(object)
    } else {
        Err(found)
    }
}

fn is_allowed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !FORBIDDEN.contains(&name.as_str())
        && !["x-forwarded", "x-amz"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn answer(response: &Response<Bytes>) -> Result<Value, Failure> {
    let body = String::from_utf8_lossy(response.body());
    if !response.status().is_success() {
        let error = format!("ApiGateway.{}", response.status().as_u16());
        return Err(Failure::new(error, body));
    }
    let parsed = serde_json::from_str(&body);
    Ok(shown(
        response,
        parsed.unwrap_or_else(|_| Value::from(&*body)),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn headers_are_lists_of_texts() {
        let with =
            |headers: Value| json!({"ApiEndpoint": "x", "Method": "POST", "Headers": headers});
        assert!(check(&with(json!({"a": ["b"]}))).is_ok());
        let wrong = check(&with(json!({"a": "b"}))).unwrap_err();
        let text = wrong[0].to_string();
        assert_eq!(
            text,
            "The value of the field 'Headers' has an invalid format"
        );
        assert!(check(&with(json!({"Host": ["b"]}))).is_err());
        assert!(
            check(&json!({"Method": "GUESS", "Other": 1}))
                .unwrap_err()
                .len()
                == 3
        );
    }
}
