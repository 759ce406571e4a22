//! `firn states watch`: follows an execution until it ends.

use std::time::Duration;

use anyhow::Result;
use clock::Clock;
use indicatif::ProgressBar;
use serde_json::Value;

use crate::cli::Global;
use crate::client::Client;
use crate::client::states::id;
use crate::failure::Failure;
use crate::output::{self, Style};
use crate::progress;
use crate::workflow::duration;
use crate::workflow::event::{Event, reason};
use crate::workflow::outcome;
use crate::workflow::timeline::{Line, Live, Tone};
use crate::workflow::trace::Items;

/// While things happen, the next look comes soon; the longer nothing does, the later.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Flags of `firn states watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution: an ARN, MACHINE/EXECUTION, or MACHINE for its newest one
    execution: String,
}

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    Stdout,
    Stderr,
}

pub async fn run(client: &Client, args: Args, global: &Global) -> Result<()> {
    let arn = client.execution_arn(&args.execution).await?;
    follow(client, &arn, Out::Stdout, global).await?;
    let ended = client.execution(&arn).await?;
    let status = ended.status.as_str();
    if status == "SUCCEEDED" {
        return Ok(());
    }
    Err(Failure::Function(why(status, ended.error.as_deref(), ended.cause.as_deref())).into())
}

/// Tells what happens until the execution has ended. With `--json`, each event is one line.
pub async fn follow(client: &Client, arn: &str, out: Out, global: &Global) -> Result<()> {
    let clock = Clock::system();
    let spinner = progress::spinner(global.quiet || global.json, "");
    let mut live = Live::default();
    let mut seen = 0;
    let mut pause = SHORTEST;
    loop {
        let documents = client.events_after(arn, seen).await?;
        pause = next_pause(pause, !documents.is_empty());
        seen = documents.last().map_or(seen, id);
        let events: Vec<Event> = documents.iter().filter_map(Event::read).collect();
        let lines = live.add(&events);
        spinner.suspend(|| tell(&documents, &lines, out, global))?;
        if live.trace.end.is_some() {
            spinner.finish_and_clear();
            return Ok(());
        }
        if !spinner.is_hidden() {
            show(client, &live, &spinner, clock.now().as_millis()).await;
        }
        tokio::time::sleep(pause).await;
    }
}

fn next_pause(pause: Duration, news: bool) -> Duration {
    if news {
        SHORTEST
    } else {
        pause.mul_f64(1.5).min(LONGEST)
    }
}

/// What runs now, in one line.
async fn show(client: &Client, live: &Live, spinner: &ProgressBar, now_ms: i64) {
    let mut parts = live.running(now_ms);
    for (name, arn) in live.map_runs() {
        // Progress is a comfort: without it, watching goes on.
        if let Ok(run) = client.map_run(&arn).await {
            let counts = run.item_counts;
            let items = Items {
                total: Some(counts.total),
                succeeded: counts.succeeded,
                failed: counts.failed,
            };
            parts.push(format!("{name} {}", outcome::progress(items)));
        }
    }
    spinner.set_message(parts.join("  "));
}

fn tell(documents: &[Value], lines: &[Line], out: Out, global: &Global) -> Result<()> {
    if global.json {
        // Beside the output of `start --watch --json`, events would be a second document.
        let all = documents.iter().filter(|_| out == Out::Stdout);
        return all
            .into_iter()
            .try_for_each(|event| output::line(event.to_string()));
    }
    let style = match out {
        Out::Stdout => Style::stdout(),
        Out::Stderr => Style::stderr(),
    };
    for line in lines {
        let text = match line.tone {
            Tone::Plain => line.text.clone(),
            Tone::Good => style.good(&line.text),
            Tone::Warning => style.warning(&line.text),
            Tone::Bad => style.error(&line.text),
        };
        let time = style.faint(&format!("{:>9}", duration::offset(line.offset_ms)));
        let text = format!("{time}  {text}");
        match out {
            Out::Stdout => output::line(text)?,
            Out::Stderr if global.quiet => {}
            Out::Stderr => eprintln!("{text}"),
        }
    }
    Ok(())
}

/// Waits for the end without a word.
pub async fn until_end(client: &Client, arn: &str, global: &Global) -> Result<()> {
    let spinner = progress::spinner(global.quiet || global.json, "running");
    let mut pause = SHORTEST;
    while client.execution(arn).await?.status.as_str() == "RUNNING" {
        tokio::time::sleep(pause).await;
        pause = next_pause(pause, false);
    }
    spinner.finish_and_clear();
    Ok(())
}

/// Prints the output of an execution that has ended, or fails as it has.
pub async fn result(client: &Client, arn: &str, global: &Global) -> Result<()> {
    let ended = client.execution(arn).await?;
    if global.json {
        output::json(&super::executions::as_json(&ended))?;
    } else if let Some(output) = &ended.output {
        super::print_document(output)?;
    }
    let status = ended.status.as_str();
    if status == "SUCCEEDED" {
        return Ok(());
    }
    Err(Failure::Function(why(status, ended.error.as_deref(), ended.cause.as_deref())).into())
}

/// `the execution failed: Busy: try later`.
pub fn why(status: &str, error: Option<&str>, cause: Option<&str>) -> String {
    let how = match status {
        "TIMED_OUT" => "timed out",
        "ABORTED" => "was stopped",
        "FAILED" => "failed",
        other => other,
    };
    match reason(error, cause) {
        Some(reason) => format!("the execution {how}: {reason}"),
        None => format!("the execution {how}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rarer_while_nothing_happens() {
        let mut pause = SHORTEST;
        for _ in 0..20 {
            pause = next_pause(pause, false);
        }
        assert_eq!(pause, LONGEST);
        assert_eq!(next_pause(pause, true), SHORTEST);
    }

    #[test]
    fn an_end_is_told_with_what_is_known_of_it() {
        assert_eq!(
            why("FAILED", Some("Busy"), Some("try later")),
            "the execution failed: Busy: try later"
        );
        assert_eq!(why("ABORTED", None, Some("")), "the execution was stopped");
    }
}
