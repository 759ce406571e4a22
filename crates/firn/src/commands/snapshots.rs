//! `firn snapshots`: what is frozen, where it lies and how fast it thaws.

use anyhow::{Result, bail};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::cli::Global;
use crate::client::Client;
use crate::failure::usage;
use crate::output::{self, Style, human_bytes};

/// Flags of `firn snapshots`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List all snapshots (the default)
    List,
    /// Show everything about the snapshots of one function
    Inspect {
        /// The function: NAME or NAME:VERSION
        #[arg(value_name = "FUNCTION")]
        function: String,
    },
    /// Delete the snapshots of a function; they are made again when they are next needed
    Rm {
        /// The functions: NAME for all versions, or NAME:VERSION
        #[arg(required = true, value_name = "FUNCTION")]
        functions: Vec<String>,
    },
    /// Collect parts of deleted snapshots that no other one uses, now instead of later
    Gc,
}

pub async fn run(args: Args, global: &Global) -> Result<()> {
    let client = Client::new(global)?;
    match args.action.unwrap_or(Action::List) {
        Action::List => list(&client, global).await,
        Action::Inspect { function } => inspect(&client, &function, global).await,
        Action::Rm { functions } => remove(&client, &functions, global).await,
        Action::Gc => collect(&client, global).await,
    }
}

async fn all(client: &Client) -> Result<Value> {
    client.admin(Method::GET, "/_firn/snapshots").await
}

fn rows(answer: &Value) -> &[Value] {
    answer["snapshots"].as_array().map_or(&[], Vec::as_slice)
}

async fn list(client: &Client, global: &Global) -> Result<()> {
    let answer = all(client).await?;
    if global.json {
        return output::json(&answer);
    }
    let snapshots = rows(&answer);
    if snapshots.is_empty() && !global.quiet {
        eprintln!(
            "no snapshots yet; publish a version with `firn deploy DIR --snap-start --publish`"
        );
        return Ok(());
    }
    let rows: Vec<_> = snapshots.iter().map(row).collect();
    output::table(
        [
            "FUNCTION", "STATE", "SIZE", "STORED", "AGE", "TIER", "RESTORES", "P50", "P99", "HITS",
            "PARKED",
        ],
        &rows,
    )
}

fn row(snapshot: &Value) -> [String; 11] {
    let number = |name: &str| snapshot[name].as_u64();
    let count = |name: &str| number(name).unwrap_or_default().to_string();
    let size = |name: &str| number(name).map_or_else(dash, human_bytes);
    let text = |name: &str| snapshot[name].as_str().map_or_else(dash, str::to_owned);
    let ms = |name: &str| {
        let ms = snapshot[name].as_f64();
        ms.map_or_else(dash, |ms| format!("{ms:.1} ms"))
    };
    let hits = snapshot["hit_rate"].as_f64();
    [
        name(snapshot),
        text("state"),
        size("bytes"),
        size("stored_bytes"),
        number("age_s").map_or_else(dash, age),
        text("tier"),
        count("restores"),
        ms("restore_p50_ms"),
        ms("restore_p99_ms"),
        hits.map_or_else(dash, |share| format!("{:.0} %", share * 100.0)),
        count("parked"),
    ]
}

fn dash() -> String {
    "-".to_owned()
}

/// `name:version`, as commands take it.
fn name(snapshot: &Value) -> String {
    let arn = snapshot["function_arn"].as_str().unwrap_or_default();
    let version = snapshot["version"].as_str().unwrap_or_default();
    format!("{}:{version}", arn.rsplit(':').next().unwrap_or_default())
}

/// The largest unit alone: `3 d`.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

async fn inspect(client: &Client, function: &str, global: &Global) -> Result<()> {
    let (wanted, version) = split(function);
    let answer = all(client).await?;
    let found: Vec<&Value> = rows(&answer)
        .iter()
        .filter(|snapshot| {
            let arn = snapshot["function_arn"].as_str().unwrap_or_default();
            let names = arn == wanted || arn.rsplit(':').next() == Some(wanted);
            names && version.is_none_or(|version| snapshot["version"] == version)
        })
        .collect();
    if found.is_empty() {
        bail!("{function} has no snapshot");
    }
    if global.json {
        return output::json(&found);
    }
    let style = Style::stdout();
    for snapshot in found {
        output::line(style.strong(&name(snapshot)))?;
        for (member, value) in snapshot.as_object().into_iter().flatten() {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            output::line(format!("  {} {text}", style.faint(&format!("{member:18}"))))?;
        }
    }
    Ok(())
}

async fn remove(client: &Client, functions: &[String], global: &Global) -> Result<()> {
    let mut answers = Vec::new();
    for function in functions {
        let (name, version) = split(function);
        if name.is_empty() {
            return Err(usage("name a function: NAME or NAME:VERSION"));
        }
        let mut path = format!("/_firn/snapshots?function={}", encoded(name));
        if let Some(version) = version {
            path.push_str(&format!("&version={}", encoded(version)));
        }
        let answer = client.admin(Method::DELETE, &path).await?;
        if !global.json {
            output::line(format!("deleted what there was of {function}"))?;
        }
        answers.push(answer);
    }
    if global.json {
        return output::json(&answers);
    }
    Ok(())
}

async fn collect(client: &Client, global: &Global) -> Result<()> {
    let answer = client.admin(Method::POST, "/_firn/snapshots/gc").await?;
    if global.json {
        return output::json(&answer);
    }
    let chunks = answer["chunks"].as_u64().unwrap_or_default();
    let bytes = answer["bytes"].as_u64().unwrap_or_default();
    output::line(format!("collected {chunks} chunks, {}", human_bytes(bytes)))
}

/// The function and the version; an ARN has colons of its own.
fn split(function: &str) -> (&str, Option<&str>) {
    let is_version = |text: &str| text == "$LATEST" || text.bytes().all(|b| b.is_ascii_digit());
    match function.rsplit_once(':') {
        Some((name, version)) if is_version(version) => (name, Some(version)),
        _ => (function, None),
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_follows_a_name_or_an_arn() {
        assert_eq!(split("f"), ("f", None));
        assert_eq!(split("f:3"), ("f", Some("3")));
        assert_eq!(split("f:$LATEST"), ("f", Some("$LATEST")));
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:f";
        assert_eq!(split(arn), (arn, None));
        assert_eq!(split(&format!("{arn}:12")), (arn, Some("12")));
    }

    #[test]
    fn a_row_shows_what_is_known() {
        let snapshot = json!({
            "function_arn": "arn:aws:lambda:us-east-1:123456789012:function:f",
            "version": "2",
            "state": "ready",
            "bytes": 50_000_000,
            "stored_bytes": 9_000_000,
            "age_s": 7300,
            "tier": "memory",
            "restores": 12,
            "restore_p50_ms": 4.25,
            "restore_p99_ms": null,
            "hit_rate": 0.955,
            "parked": 1,
        });
        let expected = [
            "f:2", "ready", "50.0 MB", "9.0 MB", "2 h", "memory", "12", "4.2 ms", "-", "96 %", "1",
        ];
        assert_eq!(row(&snapshot), expected);
    }

    #[test]
    fn ages_have_one_unit() {
        let ages = [59, 60, 3599, 3600, 86_400].map(age);
        assert_eq!(ages, ["59 s", "1 min", "59 min", "1 h", "1 d"]);
    }
}
