//! `/2020-01-01/extension/...`

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::registry::{EventKind, Next, Refusal, Report};
use super::{Extensions, MAX_EXTENSIONS};
use crate::Function;
use crate::runtime_api::answers::{self, Reply};
use crate::runtime_api::header_text;

const NAME: &str = "lambda-extension-name";
const IDENTIFIER: &str = "lambda-extension-identifier";
const EVENT_IDENTIFIER: &str = "lambda-extension-event-identifier";
const FEATURES: &str = "lambda-extension-accept-feature";
const ERROR_TYPE: &str = "lambda-extension-function-error-type";
/// Bodies are a few names or an error's description.
pub(crate) const MAX_BODY_BYTES: usize = 256 * 1024;

/// What an extension is told of its function when it registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub name: String,
    pub version: String,
    pub handler: String,
    pub account: String,
}

impl About {
    pub fn of(function: &Function) -> Self {
        Self {
            name: function.name.clone(),
            version: function.version.clone(),
            handler: function.handler.clone(),
            account: function.account.clone(),
        }
    }
}

/// A call of the Extensions API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Register,
    Next,
    InitError,
    ExitError,
}

#[derive(Deserialize)]
struct Registration {
    #[serde(default)]
    events: Option<Vec<String>>,
    #[serde(default, rename = "configurationKeys")]
    configuration_keys: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Registered<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
    function_name: &'a str,
    function_version: &'a str,
    handler: &'a str,
}

pub(crate) fn register(
    extensions: &Extensions,
    about: &About,
    headers: &HeaderMap,
    body: &Bytes,
) -> Reply {
    let name = header_text(headers, NAME).unwrap_or_default();
    if name.is_empty() {
        return answers::forbidden("Extension.InvalidExtensionName", "Empty extension name");
    }
    let registration = match serde_json::from_slice::<Registration>(body) {
        Ok(registration) => registration,
        Err(err) => return answers::forbidden("InvalidRequestFormat", &err.to_string()),
    };
    if registration
        .configuration_keys
        .is_some_and(|keys| !keys.is_empty())
    {
        let text = "configurationKeys are deprecated; use environment variables instead";
        return answers::forbidden("InvalidRequestFormat", text);
    }
    let mut events = Vec::new();
    for text in registration.events.unwrap_or_default() {
        match EventKind::parse(&text) {
            Some(kind) if !events.contains(&kind) => events.push(kind),
            Some(_) => {}
            None => {
                let text = format!("{text}: ErrorInvalidEventType");
                return answers::forbidden("Extension.InvalidEventType", &text);
            }
        }
    }
    match extensions.register(&name, events) {
        Ok(id) => registered(&id, about, wants_account(headers)),
        Err(refusal) => refused(&refusal),
    }
}

fn wants_account(headers: &HeaderMap) -> bool {
    let features = header_text(headers, FEATURES).unwrap_or_default();
    features
        .split(',')
        .any(|feature| feature.trim() == "accountId")
}

fn registered(id: &str, about: &About, with_account: bool) -> Reply {
    let body = Registered {
        account_id: with_account.then_some(&about.account),
        function_name: &about.name,
        function_version: &about.version,
        handler: &about.handler,
    };
    // Strings always serialise.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    with_header(answers::json(StatusCode::OK, body.into()), IDENTIFIER, id)
}

/// A request that does not say which extension it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unidentified {
    Missing,
    Invalid,
}

/// Who calls.
pub(crate) fn identify(headers: &HeaderMap) -> Result<String, Unidentified> {
    let id = header_text(headers, IDENTIFIER).unwrap_or_default();
    if id.is_empty() {
        return Err(Unidentified::Missing);
    }
    match uuid::Uuid::parse_str(&id) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(Unidentified::Invalid),
    }
}

pub(crate) fn unidentified(how: Unidentified) -> Reply {
    match how {
        Unidentified::Missing => answers::forbidden(
            "Extension.MissingExtensionIdentifier",
            "Missing Lambda-Extension-Identifier header",
        ),
        Unidentified::Invalid => answers::forbidden(
            "Extension.InvalidExtensionIdentifier",
            "Invalid Lambda-Extension-Identifier",
        ),
    }
}

pub(crate) fn unknown(id: &str) -> Reply {
    refused(&Refusal::Unknown(id.to_owned()))
}

/// `None` when the environment ends while the extension waits. `waits` is called before it does.
pub(crate) async fn next(
    extensions: &Extensions,
    headers: &HeaderMap,
    waits: impl FnOnce(),
) -> Option<Reply> {
    let id = match identify(headers) {
        Ok(id) => id,
        Err(how) => return Some(unidentified(how)),
    };
    let event = match extensions.next(&id) {
        Ok(Next::Event(event)) => event,
        Ok(Next::Wait(waiting)) => {
            waits();
            waiting.await.ok()?
        }
        Err(refusal) => return Some(refused(&refusal)),
    };
    let reply = answers::json(StatusCode::OK, event.body.clone().into());
    Some(with_header(reply, EVENT_IDENTIFIER, &event.id))
}

pub(crate) fn report(extensions: &Extensions, call: Call, headers: &HeaderMap) -> Reply {
    let id = match identify(headers) {
        Ok(id) => id,
        Err(how) => return unidentified(how),
    };
    let error_type = header_text(headers, ERROR_TYPE).unwrap_or_default();
    if error_type.is_empty() {
        return answers::forbidden(
            "Extension.MissingHeader",
            "Lambda-Extension-Function-Error-Type not found",
        );
    }
    let report = match call {
        Call::InitError => Report::Init,
        _ => Report::Exit,
    };
    match extensions.report(&id, report, &error_type) {
        Ok(()) => answers::accepted(),
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Reply {
    match refusal {
        Refusal::Closed => answers::forbidden(
            "Extension.RegistrationClosed",
            "Extension registration closed already",
        ),
        Refusal::NameTaken => answers::forbidden(
            "Extension.InvalidExtensionState",
            "Extension with this name already registered",
        ),
        Refusal::TooMany => answers::forbidden(
            "Extension.TooManyExtensions",
            &format!("Extension limit ({MAX_EXTENSIONS}) reached"),
        ),
        Refusal::ShutdownForInternal => answers::forbidden(
            "Extension.InvalidEventType",
            "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension",
        ),
        Refusal::Unknown(id) => answers::forbidden(
            "Extension.UnknownExtensionIdentifier",
            &format!("Unknown extension {id}"),
        ),
        Refusal::Transition {
            from,
            to,
            extension,
        } => answers::forbidden(
            "Extension.InvalidExtensionState",
            &format!(
                "State transition from {from} to {to} failed for extension {extension}. \
                 Error: State transition is not allowed"
            ),
        ),
    }
}

fn with_header(mut reply: Reply, name: &'static str, value: &str) -> Reply {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
    reply
}
