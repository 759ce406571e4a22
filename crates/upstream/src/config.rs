//! Where services are.

use std::collections::BTreeMap;
use std::fmt;

use protocol::sigv4::Credentials;
use serde::{Deserialize, Serialize};

/// Where services are that this server does not serve itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The endpoint of every service that has none of its own here, such as another emulator.
    /// Default none.
    pub default: String,
    /// The access key to sign with. Default: the account on whose behalf a request is made, by which
    /// emulators tell accounts apart.
    pub access_key_id: String,
    /// The secret of the access key. Default `firn`, for emulators that do not verify signatures.
    pub secret_access_key: String,
    /// Goes with temporary credentials. Default none.
    pub session_token: String,
    /// How long a request may take, in milliseconds. Default 10,000.
    pub timeout_ms: u64,
    /// The endpoint of each service, such as `sqs = "http://127.0.0.1:9324"` or
    /// `dynamodb = "https://dynamodb.{region}.amazonaws.com"`. Default none.
    #[serde(flatten)]
    pub services: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default: String::new(),
            access_key_id: String::new(),
            secret_access_key: "firn".to_owned(),
            session_token: String::new(),
            timeout_ms: 10_000,
            services: BTreeMap::new(),
        }
    }
}

impl Config {
    /// The endpoint of a service that is known by these names, if one is configured.
    pub fn endpoint(&self, names: &[&str]) -> Option<&str> {
        let own = self.own_endpoint(names);
        own.or_else(|| (!self.default.is_empty()).then(|| self.default.trim_end_matches('/')))
    }

    /// As [`Config::endpoint`], without the one that holds for every service.
    pub fn own_endpoint(&self, names: &[&str]) -> Option<&str> {
        let named = |key: &str| names.iter().any(|name| same(key, name));
        let (_, endpoint) = self
            .services
            .iter()
            .find(|(key, endpoint)| named(key) && !endpoint.is_empty())?;
        Some(endpoint.trim_end_matches('/'))
    }

    /// What requests are signed with that are made on behalf of `account`.
    pub fn credentials(&self, account: &str) -> Credentials {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Credentials {
            access_key: given(&self.access_key_id).unwrap_or_else(|| account.to_owned()),
            secret_key: self.secret_access_key.clone(),
            session_token: given(&self.session_token),
        }
    }
}

/// Whether two names are the same service's. Environment variables have no hyphens.
fn same(key: &str, name: &str) -> bool {
    let letters = |text: &'_ str| -> String {
        let letters = text.chars().filter(|letter| !matches!(letter, '-' | '_'));
        letters.collect()
    };
    key == name || letters(key).eq_ignore_ascii_case(&letters(name))
}

impl fmt::Debug for Config {
    // Secrets must not end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("default", &self.default)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let config = Config {
            secret_access_key: "hunter2".into(),
            session_token: "hunter3".into(),
            ..Config::default()
        };
        assert!(!format!("{config:?}").contains("hunter"));
    }

    #[test]
    fn without_keys_the_account_signs() {
        let credentials = Config::default().credentials("123456789012");
        assert_eq!(credentials.access_key, "123456789012");
        assert_eq!(credentials.session_token, None);
    }

    #[test]
    fn a_service_is_found_by_any_of_its_names() {
        let text = "default = 'http://d'\nbedrock_runtime = 'http://b/'\nsqs = ''\ntimeout_ms = 5";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(
            config.endpoint(&["bedrockruntime", "bedrock-runtime"]),
            Some("http://b")
        );
        assert_eq!(config.endpoint(&["sqs"]), Some("http://d"));
        assert_eq!(config.own_endpoint(&["sqs"]), None);
        assert_eq!(config.timeout_ms, 5);
    }
}
