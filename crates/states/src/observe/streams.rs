//! Hands lines to the logs: under the names that streams have on AWS, many lines at once.

use std::collections::HashMap;
use std::time::Duration;

use clock::{Clock, Timestamp};
use uuid::Uuid;

use super::lines::Lines;
use super::queue::Receiver;
use super::{LogBatch, LogHook};

/// Batches that are put together before they are handed on.
const AT_ONCE: usize = 256;
/// A machine has another stream after this time.
const STREAM_AGE: Duration = Duration::from_secs(3600);
/// Machines whose streams are known. With more, those of all begin anew.
const MAX_STREAMS: usize = 4_096;

/// Takes lines until the queue ends.
pub(super) async fn run(mut queue: Receiver<Lines>, hook: LogHook, clock: Clock) {
    let mut streams = Streams::default();
    while let Some(taken) = queue.take(AT_ONCE).await {
        for batch in together(taken, &mut streams, clock.now()) {
            hook(batch);
        }
        // The hook does not wait; others get their turn here.
        tokio::task::yield_now().await;
    }
}

/// One batch for each stream, in the order of the lines.
fn together(taken: Vec<Lines>, streams: &mut Streams, now: Timestamp) -> Vec<LogBatch> {
    let mut batches: Vec<(LogBatch, String)> = Vec::new();
    for Lines {
        destination,
        machine,
        mut lines,
    } in taken
    {
        let same = batches.iter_mut().find(|(batch, of)| {
            *of == destination && batch.stream == streams.name(&destination, &machine, now)
        });
        if let Some((batch, _)) = same {
            batch.lines.append(&mut lines);
            continue;
        }
        let Some((account, region, group)) = log_group(&destination) else {
            // Checked when the machine was made.
            tracing::warn!(destination, "not the ARN of a log group");
            continue;
        };
        let batch = LogBatch {
            account: account.to_owned(),
            region: region.to_owned(),
            group: group.to_owned(),
            stream: streams.name(&destination, &machine, now).to_owned(),
            lines,
        };
        batches.push((batch, destination));
    }
    batches.into_iter().map(|(batch, _)| batch).collect()
}

/// Account, region and name in the ARN of a log group.
fn log_group(arn: &str) -> Option<(&str, &str, &str)> {
    let mut parts = arn.splitn(7, ':');
    let ("arn", _partition, "logs") = (parts.next()?, parts.next()?, parts.next()?) else {
        return None;
    };
    let (region, account) = (parts.next()?, parts.next()?);
    let ("log-group", group) = (parts.next()?, parts.next()?) else {
        return None;
    };
    Some((account, region, group.strip_suffix(":*").unwrap_or(group)))
}

/// The streams in use: `states/MACHINE/YYYY-MM-DD-HH-MM/ID`, with the minute in which they began.
#[derive(Debug, Default)]
struct Streams(HashMap<(String, String), (Timestamp, String)>);

impl Streams {
    fn name(&mut self, destination: &str, machine: &str, now: Timestamp) -> &str {
        let key = (destination.to_owned(), machine.to_owned());
        let fresh = |since: Timestamp| now.duration_since(since) < STREAM_AGE;
        if !self.0.get(&key).is_some_and(|(since, _)| fresh(*since)) {
            if self.0.len() >= MAX_STREAMS {
                self.0.clear();
            }
            let minute: String = now
                .to_string()
                .chars()
                .take(16)
                .map(|letter| {
                    if matches!(letter, 'T' | ':') {
                        '-'
                    } else {
                        letter
                    }
                })
                .collect();
            let id = Uuid::new_v4().simple().to_string();
            let name = format!("states/{machine}/{minute}/{}", &id[..8]);
            self.0.insert(key.clone(), (now, name));
        }
        self.0.get(&key).map_or("", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "arn:aws:logs:eu-west-1:111111111111:log-group:/aws/vendedlogs/states/g:*";

    fn lines(machine: &str, text: &str) -> Lines {
        Lines {
            destination: GROUP.to_owned(),
            machine: machine.to_owned(),
            lines: vec![(Timestamp::from_millis(1), text.to_owned())],
        }
    }

    #[test]
    fn the_arn_of_a_log_group_is_taken_apart() {
        let parts = ("111111111111", "eu-west-1", "/aws/vendedlogs/states/g");
        assert_eq!(log_group(GROUP), Some(parts));
        assert_eq!(log_group(GROUP.strip_suffix(":*").unwrap()), Some(parts));
        assert_eq!(log_group("arn:aws:s3:::bucket"), None);
        assert_eq!(log_group("group"), None);
    }

    #[test]
    fn lines_of_a_machine_share_a_stream_that_is_named_as_on_aws() {
        let mut streams = Streams::default();
        // 2023-11-14T22:13:20Z
        let now = Timestamp::from_secs(1_700_000_000);
        let taken = vec![lines("m", "1"), lines("n", "2"), lines("m", "3")];
        let batches = together(taken, &mut streams, now);
        let texts = |batch: &LogBatch| -> Vec<String> {
            batch.lines.iter().map(|(_, line)| line.clone()).collect()
        };
        assert_eq!(batches.len(), 2);
        assert_eq!(texts(&batches[0]), ["1", "3"]);
        assert_eq!(texts(&batches[1]), ["2"]);
        let id = batches[0]
            .stream
            .strip_prefix("states/m/2023-11-14-22-13/")
            .unwrap();
        assert_eq!(id.len(), 8);
        let later = now + STREAM_AGE;
        let again = together(vec![lines("m", "4")], &mut streams, later);
        assert!(again[0].stream.starts_with("states/m/2023-11-14-23-13/"));
    }

    #[test]
    fn the_streams_that_are_known_have_a_bound() {
        let mut streams = Streams::default();
        let now = Timestamp::from_secs(1_700_000_000);
        for number in 0..MAX_STREAMS * 2 + 1 {
            let _ = streams.name(GROUP, &number.to_string(), now);
        }
        assert!(streams.0.len() <= MAX_STREAMS);
    }
}
