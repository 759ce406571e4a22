//! Where a command finds the server and whose name it signs with: flags, then firn's environment
//! variables, then those that AWS's tools read.

use anyhow::Result;

use crate::cli::Global;
use crate::failure::usage;
use gateway::Secret;

pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:4566";
const DEFAULT_REGION: &str = "us-east-1";
const DEFAULT_ACCOUNT: &str = "000000000000";

/// The resolved settings of a client command.
#[derive(Debug)]
pub struct Settings {
    pub endpoint: String,
    pub region: String,
    pub credentials: Credentials,
}

/// What requests are signed with.
#[derive(Debug)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: Secret<String>,
    pub session_token: Option<Secret<String>>,
}

impl Settings {
    /// Reads flags and the process's environment.
    pub fn resolve(global: &Global) -> Result<Self> {
        Self::from_lookup(global, |name| {
            std::env::var(name).ok().filter(|v| !v.is_empty())
        })
    }

    fn from_lookup(global: &Global, env: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let endpoint = global
            .endpoint
            .clone()
            .or_else(|| env("FIRN_ENDPOINT"))
            .or_else(|| env("AWS_ENDPOINT_URL"))
            .unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let endpoint = check_endpoint(&endpoint)?;
        let region = global
            .region
            .clone()
            .or_else(|| env("AWS_REGION"))
            .or_else(|| env("AWS_DEFAULT_REGION"))
            .unwrap_or_else(|| DEFAULT_REGION.to_owned());
        Ok(Self {
            endpoint,
            region,
            credentials: credentials(global, &env),
        })
    }
}

/// A server that accepts any credentials takes a 12-digit access key for the account itself, so an
/// account needs no key. A server that verifies signatures needs those of the environment.
fn credentials(global: &Global, env: &impl Fn(&str) -> Option<String>) -> Credentials {
    let from_env = || {
        Some(Credentials {
            access_key: env("AWS_ACCESS_KEY_ID")?,
            secret_key: Secret::new(env("AWS_SECRET_ACCESS_KEY")?),
            session_token: env("AWS_SESSION_TOKEN").map(Secret::new),
        })
    };
    let of_account = |account: &str| Credentials {
        access_key: account.to_owned(),
        secret_key: Secret::new("firn".to_owned()),
        session_token: None,
    };
    match &global.account {
        Some(account) => of_account(account),
        None => from_env().unwrap_or_else(|| of_account(DEFAULT_ACCOUNT)),
    }
}

fn check_endpoint(text: &str) -> Result<String> {
    let text = text.trim_end_matches('/');
    if text.starts_with("https://") {
        return Err(usage(format!(
            "{text}: firn serves plain HTTP; use http://"
        )));
    }
    let url = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let parsed = url
        .parse::<http::Uri>()
        .ok()
        .filter(|uri| uri.scheme_str() == Some("http"));
    match parsed.as_ref().and_then(http::Uri::authority) {
        Some(authority) => Ok(format!("http://{authority}")),
        None => Err(usage(format!(
            "{text:?} is not an endpoint such as {DEFAULT_ENDPOINT}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global() -> Global {
        Global {
            json: false,
            endpoint: None,
            region: None,
            account: None,
            quiet: false,
        }
    }

    fn resolve(global: &Global, env: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_lookup(global, |name| {
            env.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn defaults_need_no_environment() {
        let settings = resolve(&global(), &[]).unwrap();
        assert_eq!(settings.endpoint, DEFAULT_ENDPOINT);
        assert_eq!(settings.region, "us-east-1");
        assert_eq!(settings.credentials.access_key, "000000000000");
    }

    #[test]
    fn flag_beats_firn_variable_beats_aws_variable() {
        let env = [
            ("FIRN_ENDPOINT", "http://b:2"),
            ("AWS_ENDPOINT_URL", "http://c:3"),
        ];
        let flagged = Global {
            endpoint: Some("http://a:1/".into()),
            ..global()
        };
        assert_eq!(resolve(&flagged, &env).unwrap().endpoint, "http://a:1");
        assert_eq!(resolve(&global(), &env).unwrap().endpoint, "http://b:2");
        assert_eq!(
            resolve(&global(), &env[1..]).unwrap().endpoint,
            "http://c:3"
        );
    }

    #[test]
    fn keys_come_from_the_environment_unless_an_account_is_named() {
        let env = [
            ("AWS_ACCESS_KEY_ID", "AKIAX"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
        ];
        assert_eq!(
            resolve(&global(), &env).unwrap().credentials.access_key,
            "AKIAX"
        );
        let named = Global {
            account: Some("123456789012".into()),
            ..global()
        };
        assert_eq!(
            resolve(&named, &env).unwrap().credentials.access_key,
            "123456789012"
        );
    }

    #[test]
    fn endpoint_without_scheme_is_http_and_https_is_explained() {
        let bare = Global {
            endpoint: Some("localhost:99".into()),
            ..global()
        };
        assert_eq!(resolve(&bare, &[]).unwrap().endpoint, "http://localhost:99");
        let tls = Global {
            endpoint: Some("https://x".into()),
            ..global()
        };
        assert!(
            resolve(&tls, &[])
                .unwrap_err()
                .to_string()
                .contains("plain HTTP")
        );
        let junk = Global {
            endpoint: Some("http:// x".into()),
            ..global()
        };
        assert!(resolve(&junk, &[]).is_err());
    }
}
