//! Functions.

use asl::failure::Failure;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue};
use model::Blob;
use model::lambda::operation::Invoke;
use model::lambda::{InvokeInput, InvokeOutput, SERVICE};
use protocol::{ApiError, Caller, Principal};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::Task;
use crate::exchange::add_metadata;
use crate::failure::{Voice, unfit};
use crate::support::{OPTIMISED, Optimised};
use crate::wire::{Invalid, Rejected, http_date};
use crate::{Context, catalog};

/// What `lambda:invoke` takes.
const FIELDS: [&str; 6] = [
    "FunctionName",
    "Payload",
    "Qualifier",
    "InvocationType",
    "LogType",
    "ClientContext",
];

impl Task<'_> {
    /// Who asks, for calls that stay in the process.
    pub fn caller(&self) -> Caller {
        Caller {
            account: self.context.account,
            region: self.context.region.clone(),
            principal: principal(&self.context),
            access_key: None,
            request_id: self.request_id(),
        }
    }

    /// An id for requests that follows from the task's.
    pub fn request_id(&self) -> String {
        derived_uuid(&self.call.id)
    }

    /// Runs the function that is the task's resource: its input is the event, its answer the output.
    pub async fn function(&self, arn: &str) -> Result<Value, Failure> {
        let input = InvokeInput {
            qualifier: latest_of(arn),
            function_name: arn.to_owned(),
            payload: Some(Blob::from(Bytes::from(self.call.input.to_string()))),
            trace_header: self.context.trace_header.clone(),
            ..InvokeInput::default()
        };
        let output = self.call_function(input).await?;
        payload(&output.1)
    }

    /// `lambda:invoke`.
    pub async fn invoke_function(&self, known: &'static Optimised) -> Result<Value, Failure> {
        let given = &*self.call.input;
        let input = self
            .input(given)
            .map_err(|invalid| unfit(given, &[invalid]))?;
        if let Some(entry) = catalog::find("lambda")
            && (self.integrations.upstream)
                .own_endpoint(&entry.names.all())
                .is_some()
        {
            return self.elsewhere(known).await;
        }
        let (output, body) = self.call_function(input).await?;
        let mut made = Map::new();
        if let Some(version) = output.executed_version.clone() {
            made.insert("ExecutedVersion".into(), version.into());
        }
        if let Some(log) = output.log_result.clone() {
            made.insert("LogResult".into(), log.into());
        }
        made.insert("Payload".into(), payload(&body)?);
        let status = u16::try_from(output.status_code.unwrap_or(200)).unwrap_or(200);
        add_metadata(&mut made, status, &self.headers(&output, body.len()));
        made.insert("StatusCode".into(), status.into());
        Ok(Value::Object(made))
    }

    fn input(&self, given: &Value) -> Result<InvokeInput, Invalid> {
        let format = |field: &str| Invalid::Format(field.to_owned());
        let object = given.as_object().ok_or_else(|| format("Parameters"))?;
        if let Some(other) = object.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            return Err(Invalid::Unsupported(other.clone()));
        }
        let text = |field: &str| match object.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format(field)),
        };
        let name = text("FunctionName")?;
        let name = name.ok_or_else(|| Invalid::Missing("FunctionName".into()))?;
        let payload = object.get("Payload").filter(|payload| !payload.is_null());
        Ok(InvokeInput {
            qualifier: text("Qualifier")?.or_else(|| latest_of(&name)),
            function_name: name,
            invocation_type: text("InvocationType")?.map(|kind| kind.as_str().into()),
            log_type: text("LogType")?.map(|kind| kind.as_str().into()),
            client_context: text("ClientContext")?,
            payload: payload.map(|payload| Blob::from(Bytes::from(payload.to_string()))),
            trace_header: self.context.trace_header.clone(),
            ..InvokeInput::default()
        })
    }

    /// Invokes through an endpoint, where the operator has functions elsewhere.
    async fn elsewhere(&self, known: &'static Optimised) -> Result<Value, Failure> {
        let answered = self.optimised(known, "invoke").await?;
        let Value::Object(mut made) = answered else {
            return Ok(answered);
        };
        let text = made
            .get("Payload")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let body = Bytes::from(text.to_owned());
        if made.remove("FunctionError").is_some() {
            return Err(function_failure(&body));
        }
        made.insert("Payload".into(), payload(&body)?);
        Ok(Value::Object(made))
    }

    async fn call_function(&self, input: InvokeInput) -> Result<(InvokeOutput, Bytes), Failure> {
        let caller = self.caller();
        let router = &self.integrations.router;
        let output = router
            .call::<Invoke>(&caller, input)
            .await
            .map_err(|error| refusal("lambda", &SERVICE, &error, &caller.request_id))?;
        let body = match &output.payload {
            Some(blob) => blob.decode().unwrap_or_default(),
            None => Bytes::new(),
        };
        if output.function_error.is_some() {
            return Err(function_failure(&body));
        }
        Ok((output, body))
    }

    /// The headers that the answer would have had.
    fn headers(&self, output: &InvokeOutput, length: usize) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        if let Some(version) = &output.executed_version {
            put(HeaderName::from_static("x-amz-executed-version"), version);
        }
        put(
            HeaderName::from_static("x-amzn-remapped-content-length"),
            "0",
        );
        put(http::header::CONNECTION, "keep-alive");
        put(
            HeaderName::from_static("x-amzn-requestid"),
            &self.request_id(),
        );
        put(CONTENT_LENGTH, &length.to_string());
        put(DATE, &http_date(self.integrations.clock.now()));
        if let Some(trace) = &output.trace_header {
            put(HeaderName::from_static("x-amzn-trace-id"), trace);
        }
        put(CONTENT_TYPE, "application/json");
        headers
    }
}

/// The qualifier of a function that is named without one: Step Functions names `$LATEST`, which
/// shows in errors.
fn latest_of(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split(':').collect();
    let unqualified = match parts[..] {
        [_] | [_, "function", _] => true,
        _ => parts.len() == 7,
    };
    unqualified.then(|| "$LATEST".to_owned())
}

/// A session of the role.
fn principal(context: &Context) -> Principal {
    Principal::assumed_role(context.account, &context.role_arn, &context.session)
}

/// A UUID that follows from a text.
pub fn derived_uuid(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// The failure for what an operation in the process refused.
pub fn refusal(
    service: &str,
    model: &'static model::ServiceModel,
    error: &ApiError,
    request_id: &str,
) -> Failure {
    let shape = error.shape(Some(model));
    let rejected = Rejected {
        status: http::StatusCode::from_u16(shape.status)
            .unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR),
        code: shape.code.to_owned(),
        shape: None,
        message: Some(error.message().to_owned()),
        request_id: request_id.to_owned(),
        extended_request_id: None,
    };
    let known = OPTIMISED.iter().find(|known| known.name == service);
    match known.and_then(|known| Some((known, catalog::find(known.service)?))) {
        Some((known, entry)) => Voice::One(known).rejected(entry, &rejected),
        None => Failure::new(shape.code, error.message()),
    }
}

/// What a function failed with: its own type of error, and its whole answer as the cause, without
/// the spaces that it may have.
fn function_failure(body: &[u8]) -> Failure {
    let document: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = match &document {
        Value::Null => String::from_utf8_lossy(body).into_owned(),
        document => document.to_string(),
    };
    match document.get("errorType").and_then(Value::as_str) {
        Some(kind) => Failure::new(kind, text),
        None => Failure::new(
            "Lambda.Unknown",
            format!(
                "The cause could not be determined because Lambda did not return an error type. \
                 Returned payload: {text}"
            ),
        ),
    }
}

/// What a function returned. Nothing at all is an empty text.
fn payload(body: &[u8]) -> Result<Value, Failure> {
    if body.is_empty() {
        return Ok(Value::String(String::new()));
    }
    serde_json::from_slice(body).map_err(|_| {
        Failure::new(
            "Lambda.Unknown",
            "The function returned a payload that is not JSON",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_fail_by_their_own_names() {
        let body = br#"{"errorMessage": "no", "errorType": "Refused"}"#;
        let failure = function_failure(body);
        assert_eq!(failure.error.as_deref(), Some("Refused"));
        let compact = r#"{"errorMessage":"no","errorType":"Refused"}"#;
        assert_eq!(failure.cause.as_deref(), Some(compact));
        let failure = function_failure(br#"{"errorMessage":"Task timed out"}"#);
        assert_eq!(failure.error.as_deref(), Some("Lambda.Unknown"));
        assert!(
            failure
                .cause
                .unwrap()
                .ends_with(r#"payload: {"errorMessage":"Task timed out"}"#)
        );
    }

    #[test]
    fn functions_without_a_qualifier_are_the_latest() {
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:f";
        for name in ["f", "123456789012:function:f", arn] {
            assert_eq!(latest_of(name).as_deref(), Some("$LATEST"), "{name}");
        }
        for name in ["f:1", "123456789012:function:f:live", &format!("{arn}:2")] {
            assert_eq!(latest_of(name), None, "{name}");
        }
    }

    #[test]
    fn ids_follow_from_texts() {
        assert_eq!(derived_uuid("a"), derived_uuid("a"));
        assert_ne!(derived_uuid("a"), derived_uuid("b"));
        assert_eq!(derived_uuid("a").len(), 36);
    }
}
