//! `firn logs`: prints or follows the log of a function.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use clock::{Clock, Timestamp};
use model::logs::{FilterLogEventsInput, FilteredLogEvent};
use serde_json::json;

use crate::cli::Global;
use crate::client::Client;
use crate::client::lambda::is_not_found;
use crate::failure::usage;
use crate::output::{self, Style};

const POLL: Duration = Duration::from_millis(500);

/// Events may arrive a little after later ones of another stream, so following looks back.
const OVERLAP_MS: i64 = 5_000;

/// Flags of `firn logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The function's name, or a log group (with a leading /)
    name: String,
    /// Keep printing new lines
    #[arg(short, long)]
    follow: bool,
    /// How far back to start: 30s, 5m, 2h, 1d
    #[arg(long, default_value = "1h", value_parser = parse_ago)]
    since: Duration,
    /// A CloudWatch filter pattern
    #[arg(long, value_name = "PATTERN")]
    filter: Option<String>,
    /// Print times before the lines
    #[arg(long)]
    timestamps: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<()> {
    let client = Client::new(global)?;
    let group = group_of(&args.name);
    let mut start_ms = (Clock::system().now() - args.since).as_millis();
    let mut seen: HashSet<String> = HashSet::new();
    loop {
        let events = match events(&client, &group, start_ms, args.filter.as_deref()).await {
            // Following may begin before the first line is written.
            Err(err) if args.follow && is_not_found(&err) => Vec::new(),
            other => other?,
        };
        for event in &events {
            if seen.insert(id(event).to_owned()) {
                print(event, &args, global)?;
            }
        }
        if !args.follow {
            return Ok(());
        }
        if let Some(newest) = events.iter().filter_map(|event| event.timestamp).max() {
            start_ms = start_ms.max(newest - OVERLAP_MS);
        }
        // Only what the overlap can bring again has to be remembered.
        let recent: HashSet<&str> = events
            .iter()
            .filter(|event| event.timestamp >= Some(start_ms))
            .map(id)
            .collect();
        seen.retain(|id| recent.contains(id.as_str()));
        tokio::time::sleep(POLL).await;
    }
}

fn id(event: &FilteredLogEvent) -> &str {
    event.event_id.as_deref().unwrap_or_default()
}

/// The events of a group from a moment on.
pub async fn events(
    client: &Client,
    group: &str,
    start_ms: i64,
    filter: Option<&str>,
) -> Result<Vec<FilteredLogEvent>> {
    let mut all = Vec::new();
    let mut input = FilterLogEventsInput {
        log_group_name: Some(group.to_owned()),
        start_time: Some(start_ms),
        filter_pattern: filter.map(str::to_owned),
        ..FilterLogEventsInput::default()
    };
    loop {
        let page = client.call(&input).await?.output;
        all.extend(page.events.unwrap_or_default());
        if page.next_token.is_none() || page.next_token == input.next_token {
            return Ok(all);
        }
        input.next_token = page.next_token;
    }
}

fn print(event: &FilteredLogEvent, args: &Args, global: &Global) -> Result<()> {
    if global.json {
        let document = json!({
            "timestamp": event.timestamp,
            "logStreamName": event.log_stream_name,
            "message": event.message,
            "eventId": event.event_id,
        });
        return output::line(document.to_string());
    }
    let text = styled(event);
    if args.timestamps {
        let time = Timestamp::from_millis(event.timestamp.unwrap_or_default());
        let style = Style::stdout();
        return output::line(format!("{} {text}", style.faint(&time.to_string())));
    }
    output::line(text)
}

/// The line, with that of the platform less bright than the function's own.
pub fn styled(event: &FilteredLogEvent) -> String {
    let message = event.message.as_deref().unwrap_or_default();
    let message = message.trim_end_matches('\n');
    if is_platform_line(message) {
        Style::stdout().faint(message)
    } else {
        message.to_owned()
    }
}

fn is_platform_line(message: &str) -> bool {
    [
        "START RequestId:",
        "END RequestId:",
        "REPORT RequestId:",
        "INIT_START ",
    ]
    .iter()
    .any(|start| message.starts_with(start))
}

fn group_of(name: &str) -> String {
    if name.starts_with('/') {
        return name.to_owned();
    }
    // An ARN names the function in its seventh part.
    let name = name.split(':').nth(6).unwrap_or(name);
    format!("/aws/lambda/{name}")
}

fn parse_ago(text: &str) -> Result<Duration, anyhow::Error> {
    let bad = || usage("give a time such as 30s, 5m, 2h or 1d");
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    // A hundred years is as good as for ever, and its microseconds still fit a timestamp.
    Ok(Duration::from_secs(
        number.saturating_mul(seconds).min(100 * 365 * 86_400),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_ago("5m").unwrap(), Duration::from_secs(300));
        assert_eq!(parse_ago("2h").unwrap(), Duration::from_secs(7200));
        for bad in ["5", "", "m", "-1m", "5é"] {
            assert!(parse_ago(bad).is_err(), "{bad}");
        }
        assert!(parse_ago("99999999999999999d").is_ok());
    }

    #[test]
    fn group_is_made_of_a_name_or_an_arn() {
        assert_eq!(group_of("f"), "/aws/lambda/f");
        assert_eq!(
            group_of("arn:aws:lambda:us-east-1:0:function:f"),
            "/aws/lambda/f"
        );
        assert_eq!(group_of("/my/group"), "/my/group");
    }
}
