//! What an operator can change.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The section `integrations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Pause between looks at a job that a `.sync` task waits for, in milliseconds. Default 5,000.
    pub poll_ms: u64,
    /// Where models are that answer like those of OpenAI, such as `http://127.0.0.1:11434/v1`:
    /// `bedrock:invokeModel` goes there. Default none.
    pub openai: String,
    /// The key for it. Default none.
    pub openai_key_secret: String,
    /// The model to ask for there, whatever the workflow names. Default: what the workflow names.
    pub openai_model: String,
    /// Where APIs of API Gateway are, with `{api}` for the API's id, `{region}` and `{stage}`.
    /// Default: at AWS, or where `ApiEndpoint` says.
    pub apigateway: String,
    /// Credentials for HTTP tasks, by the name of the connection. Default none.
    pub connections: BTreeMap<String, Connection>,
}

/// How requests of HTTP tasks are authorised.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connection {
    /// A header, with `api_key_value`.
    pub api_key_name: String,
    pub api_key_value: String,
    /// Basic authorization, with `password`.
    pub username: String,
    pub password: String,
    /// OAuth's client credentials, with `client_id` and `client_secret`.
    pub token_endpoint: String,
    pub client_id: String,
    pub client_secret: String,
    /// Sent to the token endpoint, too. Default none.
    pub scope: String,
    /// Sent with every request.
    pub headers: BTreeMap<String, String>,
    pub query: BTreeMap<String, String>,
    pub body: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            poll_ms: 5_000,
            openai: String::new(),
            openai_key_secret: String::new(),
            openai_model: String::new(),
            apigateway: String::new(),
            connections: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for Connection {
    // Secrets must not end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("api_key_name", &self.api_key_name)
            .field("username", &self.username)
            .field("token_endpoint", &self.token_endpoint)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// What is wrong with the settings.
    ///
    /// # Errors
    /// If `upstream` names a service that AWS does not have, or a connection has no credentials.
    pub fn check(&self, upstream: &upstream::Config) -> Result<(), InvalidConfig> {
        for name in upstream.services.keys() {
            let known = crate::catalog::all().any(|entry| {
                let names = entry.names.all();
                let letters = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
                names.iter().any(|known| letters(known) == letters(name))
            });
            if !known {
                return Err(InvalidConfig::UnknownService(name.clone()));
            }
        }
        for (name, connection) in &self.connections {
            let ways = [
                &connection.api_key_name,
                &connection.username,
                &connection.token_endpoint,
            ];
            let given = ways.iter().filter(|way| !way.is_empty()).count();
            if given != 1 {
                return Err(InvalidConfig::Connection(name.clone()));
            }
        }
        Ok(())
    }
}

/// Settings that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    #[error("upstream.{0} is no service that workflows can call")]
    UnknownService(String),
    #[error(
        "integrations.connections.{0} needs exactly one of api_key_name, username and \
         token_endpoint"
    )]
    Connection(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_known_by_each_of_their_names() {
        let named = |name: &str| {
            let upstream = upstream::Config {
                services: [(name.to_owned(), "http://x".to_owned())].into(),
                ..upstream::Config::default()
            };
            Config::default().check(&upstream)
        };
        for known in [
            "sqs",
            "events",
            "eventbridge",
            "bedrock_runtime",
            "monitoring",
            "s3",
        ] {
            assert_eq!(named(known), Ok(()), "{known}");
        }
        assert!(named("sqss").is_err());
    }

    #[test]
    fn a_connection_has_one_way_to_authorise_and_hides_its_secrets() {
        let connection = Connection {
            username: "me".into(),
            password: "hunter2".into(),
            ..Connection::default()
        };
        assert!(!format!("{connection:?}").contains("hunter"));
        let mut config = Config::default();
        config.connections.insert("c".into(), connection.clone());
        assert_eq!(config.check(&upstream::Config::default()), Ok(()));
        let two = Connection {
            api_key_name: "x".into(),
            ..connection
        };
        config.connections.insert("c".into(), two);
        assert!(config.check(&upstream::Config::default()).is_err());
    }
}
