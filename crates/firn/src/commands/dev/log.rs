//! The function's log, as it is written.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use clock::{Clock, Timestamp};
use model::logs::FilteredLogEvent;

use crate::client::Client;
use crate::client::lambda::is_not_found;
use crate::commands::logs;
use crate::output;

const POLL: Duration = Duration::from_millis(200);
/// Events may arrive a little after later ones of another stream.
const OVERLAP_MS: i64 = 5_000;

#[derive(Debug)]
pub struct Log {
    group: String,
    start: Timestamp,
    seen: HashSet<String>,
    next: tokio::time::Instant,
}

impl Log {
    pub fn of(name: &str) -> Self {
        Self {
            group: format!("/aws/lambda/{name}"),
            start: Clock::system().now(),
            seen: HashSet::new(),
            next: tokio::time::Instant::now(),
        }
    }

    /// The lines that have come since. May be given up at any time.
    pub async fn next(&mut self, client: &Client) -> Result<Vec<FilteredLogEvent>> {
        tokio::time::sleep_until(self.next).await;
        let found = logs::events(client, &self.group, self.start.as_millis(), None).await;
        self.next = tokio::time::Instant::now() + POLL;
        match found {
            // It comes with the first line.
            Err(err) if is_not_found(&err) => Ok(Vec::new()),
            other => other,
        }
    }

    pub fn print(&mut self, events: Vec<FilteredLogEvent>) -> Result<()> {
        let newest = events.iter().filter_map(|event| event.timestamp).max();
        let mut recent = HashSet::new();
        for event in &events {
            let id = event.event_id.clone().unwrap_or_default();
            if !self.seen.contains(&id) {
                output::line(logs::styled(event))?;
            }
            recent.insert(id);
        }
        self.seen = recent;
        if let Some(newest) = newest {
            let back = Timestamp::from_millis(newest - OVERLAP_MS);
            self.start = self.start.max(back);
        }
        Ok(())
    }
}
