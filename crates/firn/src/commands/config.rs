//! `firn config`: the effective configuration.

use anyhow::Result;
use serde_json::json;
use toml::Value;

use crate::cli::Global;
use crate::config::{self, Overrides};
use crate::output;

/// Flags of `firn config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print every key, its value, and where the value comes from
    Show {
        #[command(flatten)]
        overrides: Box<Overrides>,
    },
}

pub fn run(args: Args, global: &Global) -> Result<()> {
    let Action::Show { overrides } = args.action;
    let loaded = config::load(*overrides)?;
    if global.json {
        let entries: serde_json::Map<_, _> = loaded
            .layers
            .entries()
            .map(|(key, value, source)| {
                (
                    key.to_owned(),
                    json!({ "value": shown(key, value), "source": source.to_string() }),
                )
            })
            .collect();
        return output::json(&entries);
    }
    let rows: Vec<_> = loaded
        .layers
        .entries()
        .map(|(key, value, source)| {
            [
                key.to_owned(),
                shown(key, value).to_string(),
                source.to_string(),
            ]
        })
        .collect();
    output::table(["KEY", "VALUE", "SOURCE"], &rows)
}

/// A value without the password that a URL may carry, and no secret at all.
fn shown(key: &str, value: &Value) -> Value {
    let of_connection = key.starts_with("integrations.connections.");
    let secret = key.ends_with(".secret_access_key")
        || key.ends_with(".session_token")
        || key == "integrations.openai_key_secret"
        || of_connection && (key.ends_with("_secret") || key.ends_with(".password"))
        || of_connection && key.ends_with(".api_key_value");
    if secret && value.as_str().is_some_and(|text| !text.is_empty()) {
        return Value::from("...");
    }
    let text = value.as_str().filter(|_| key.ends_with("_url"));
    let parts = text.and_then(|text| {
        let (scheme, rest) = text.split_once("://")?;
        let (_, place) = rest.rsplit_once('@')?;
        Some(format!("{scheme}://...@{place}"))
    });
    parts.map_or_else(|| value.clone(), Value::String)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_not_shown() {
        let shown = |key: &str, value: &str| shown(key, &Value::from(value));
        let hidden = shown("snapstart.redis_url", "redis://me:p@ss@cache:6379/1");
        assert_eq!(hidden, Value::from("redis://...@cache:6379/1"));
        for key in [
            "upstream.secret_access_key",
            "upstream.session_token",
            "integrations.connections.billing.client_secret",
            "integrations.connections.billing.api_key_value",
        ] {
            assert_eq!(shown(key, "hunter2"), Value::from("..."));
        }
        for (key, value) in [("snapstart.redis_url", "redis://cache"), ("data", "/a@b")] {
            assert_eq!(shown(key, value), Value::from(value));
        }
    }
}
