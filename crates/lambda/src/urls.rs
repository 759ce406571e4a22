//! Function URLs: an HTTP address per function or alias, and what happens to a request there.
//!
//! [`UrlConfig`] is what the operations keep, [`Lambda::answer_url`] answers a request. It becomes
//! an event ([`event`]), the function's answer becomes a response ([`answer`], [`stream`]), and who
//! may ask is up to the URL's `AuthType` and the function's policy. Anything that a function
//! returns is as untrusted as what its callers send.
//!
//! See <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>.

mod address;
mod answer;
mod cors;
mod event;
mod head;
mod index;
mod refusal;
mod serve;
mod stream;

use std::collections::BTreeMap;

use clock::Timestamp;
use model::lambda as wire;
use serde::{Deserialize, Serialize};

use crate::configuration::last_modified;
use crate::error::Error;
use crate::function::Function;
use crate::name::{LATEST, Qualifier};
use crate::service::{Address, Lambda};

pub use address::{Addresses, PATH, is_url};
pub use answer::error_type;
pub use index::UrlIndex;
pub use serve::UrlRequest;

/// The largest body that a request to a URL may have, as on AWS.
pub const MAX_BODY_BYTES: u64 = 6_291_456;

/// The URLs of a function, by alias; `$LATEST` stands for the one without a qualifier.
pub type Urls = BTreeMap<String, UrlConfig>;

/// One URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UrlConfig {
    /// The first label of its host name; never changes.
    pub id: String,
    pub auth_type: AuthType,
    #[serde(default)]
    pub cors: Option<Cors>,
    pub invoke_mode: InvokeMode,
    pub created: Timestamp,
    pub modified: Timestamp,
}

/// Who may call a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthType {
    /// Whoever signs with AWS credentials, if the function's policy or their own account lets them.
    AwsIam,
    /// Everybody, if the function's policy says so.
    None,
}

/// How the function's answer travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvokeMode {
    #[default]
    Buffered,
    ResponseStream,
}

/// What pages of other origins may do. Absent lists and empty ones are told apart, as on AWS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cors {
    pub allow_credentials: Option<bool>,
    pub allow_headers: Option<Vec<String>>,
    pub allow_methods: Option<Vec<String>>,
    pub allow_origins: Option<Vec<String>>,
    pub expose_headers: Option<Vec<String>>,
    pub max_age: Option<i32>,
}

impl AuthType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AwsIam => "AWS_IAM",
            Self::None => "NONE",
        }
    }
}

impl From<&wire::FunctionUrlAuthType> for AuthType {
    /// Other values do not get past the constraint checks.
    fn from(wire: &wire::FunctionUrlAuthType) -> Self {
        match wire.as_str() {
            "NONE" => Self::None,
            _ => Self::AwsIam,
        }
    }
}

impl InvokeMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Buffered => "BUFFERED",
            Self::ResponseStream => "RESPONSE_STREAM",
        }
    }
}

impl From<&wire::InvokeMode> for InvokeMode {
    fn from(wire: &wire::InvokeMode) -> Self {
        match wire.as_str() {
            "RESPONSE_STREAM" => Self::ResponseStream,
            _ => Self::Buffered,
        }
    }
}

impl From<wire::Cors> for Cors {
    fn from(wire: wire::Cors) -> Self {
        let wire::Cors {
            allow_credentials,
            allow_headers,
            allow_methods,
            allow_origins,
            expose_headers,
            max_age,
        } = wire;
        Self {
            allow_credentials,
            allow_headers,
            allow_methods,
            allow_origins,
            expose_headers,
            max_age,
        }
    }
}

impl From<Cors> for wire::Cors {
    fn from(cors: Cors) -> Self {
        Self {
            allow_credentials: cors.allow_credentials,
            allow_headers: cors.allow_headers,
            allow_methods: cors.allow_methods,
            allow_origins: cors.allow_origins,
            expose_headers: cors.expose_headers,
            max_age: cors.max_age,
        }
    }
}

impl UrlConfig {
    /// A URL that nobody has used yet.
    pub fn new(auth_type: AuthType, now: Timestamp) -> Result<Self, Error> {
        Ok(Self {
            id: index::new_id()?,
            auth_type,
            cors: None,
            invoke_mode: InvokeMode::default(),
            created: now,
            modified: now,
        })
    }
}

/// Under which key a function keeps the URL of a qualifier. A version has none.
pub fn key(address: &Address) -> Result<&str, UrlError> {
    match &address.qualifier {
        None => Ok(LATEST),
        Some(Qualifier::Alias(name)) => Ok(name),
        Some(qualifier @ (Qualifier::Latest | Qualifier::Version(_))) => {
            let value = qualifier.to_string();
            Err(UrlError::Qualifier { value })
        }
    }
}

/// For a fuzz target: whatever a function answers must not bring the server down.
pub fn read_any_answer(bytes: &[u8]) {
    let payload = bytes::Bytes::copy_from_slice(bytes);
    for content_type in [None, Some(stream::INTEGRATION)] {
        let _ = answer::read(&payload, content_type);
    }
    let mut prelude = stream::Prelude::default();
    for piece in bytes.chunks(5) {
        if !matches!(prelude.push(piece), Ok(None)) {
            return;
        }
    }
}

/// Refuses an alias that is not there.
pub fn check_key(function: &Function, key: &str) -> Result<(), UrlError> {
    match key == LATEST || function.aliases.contains_key(key) {
        true => Ok(()),
        false => Err(UrlError::NoFunction),
    }
}

/// The URL of `key`.
pub fn find<'f>(function: &'f Function, key: &str) -> Result<&'f UrlConfig, Error> {
    let found = function.attached.urls.get(key);
    found.ok_or(Error::ResourceNotFound)
}

/// Why a URL cannot be configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("Function does not exist")]
    NoFunction,
    #[error(
        "Failed to create function url config for [functionArn = {arn}]. Error message:  \
         FunctionUrlConfig exists for this Lambda function"
    )]
    Exists { arn: String },
    /// What the interface's check says of a version as the qualifier; a function's name can hold
    /// one as well.
    #[error(
        "1 validation error detected: Value '{value}' at 'qualifier' failed to satisfy \
         constraint: Member must satisfy regular expression pattern: \
         ((?!^\\d+$)^[0-9a-zA-Z-_]+$)"
    )]
    Qualifier { value: String },
}

impl Lambda {
    /// Describes the URL of a function's `key`, as lists and single answers do.
    pub(crate) fn describe_url(
        &self,
        function: &Function,
        key: &str,
        url: &UrlConfig,
    ) -> wire::FunctionUrlConfig {
        wire::FunctionUrlConfig {
            function_url: (self.url_addresses).url(&url.id, &function.id.scope.region),
            function_arn: arn(function, key),
            creation_time: last_modified(url.created),
            last_modified_time: last_modified(url.modified),
            cors: url.cors.clone().map(Into::into),
            auth_type: url.auth_type.as_str().into(),
            invoke_mode: Some(url.invoke_mode.as_str().into()),
        }
    }
}

/// The ARN of what a URL leads to.
pub fn arn(function: &Function, key: &str) -> String {
    match key {
        LATEST => function.id.arn(),
        alias => function.alias_arn(alias),
    }
}
