//! Reading what has happened.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use asl::history::HistoryEvent;
use store::Record;

use super::record::{self, Head, Turn};
use super::{Described, Executions};
use crate::Error;

/// Turns that are read at once.
const PAGE: usize = 32;

/// Events of an execution, in the order that was asked for.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    pub described: Described,
    pub events: Vec<HistoryEvent>,
    /// Where the next page begins.
    pub next: Option<Place>,
}

/// An event, and the turn that it came of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    turn: u64,
    event: u64,
}

impl Executions {
    /// Up to `limit` events, from a place on; backwards if `newest_first`. `None` if there is no such
    /// execution.
    pub fn history(
        &self,
        arn: &str,
        from: Option<Place>,
        limit: usize,
        newest_first: bool,
    ) -> Result<Option<HistoryPage>, Error> {
        let Some(stored) = self.table.get(record::head_key(arn))? else {
            return Ok(None);
        };
        let head: Head = record::decode(&stored.value)?;
        let number = head.number;
        let status = super::status_of(head.end.as_ref());
        let about = Arc::new(self.about(arn, head)?);
        let described = Described { about, status };
        let mut page = HistoryPage {
            described,
            events: Vec::new(),
            next: None,
        };
        let mut turn = from.map(|from| from.turn);
        loop {
            let turns = match newest_first {
                false => self.turns_from(number, turn)?,
                true => self.turns_back(number, turn)?,
            };
            for stored in &turns {
                let at = record::number_of(&stored.key).unwrap_or_default();
                let mut events = record::decode::<Turn>(&stored.value)?.events;
                if newest_first {
                    events.reverse();
                }
                for event in events {
                    let before = from.is_some_and(|from| match newest_first {
                        false => event.id < from.event,
                        true => event.id > from.event,
                    });
                    if before {
                        continue;
                    }
                    if page.events.len() == limit {
                        let event = event.id;
                        page.next = Some(Place { turn: at, event });
                        return Ok(Some(page));
                    }
                    page.events.push(event);
                }
                turn = match newest_first {
                    false => Some(at + 1),
                    true if at == 0 => return Ok(Some(page)),
                    true => Some(at - 1),
                };
            }
            if turns.len() < PAGE {
                return Ok(Some(page));
            }
        }
    }

    fn turns_from(&self, number: u64, turn: Option<u64>) -> Result<Vec<Record>, Error> {
        let before = turn.and_then(|turn| turn.checked_sub(1));
        let after = before.map(|turn| record::turn_key(number, turn));
        let prefix = record::turns_of(number);
        Ok(self.table.scan(prefix, after.as_deref(), PAGE)?)
    }

    fn turns_back(&self, number: u64, turn: Option<u64>) -> Result<Vec<Record>, Error> {
        let before = turn.map(|turn| record::turn_key(number, turn + 1));
        let prefix = record::turns_of(number);
        Ok(self.table.scan_back(prefix, before.as_deref(), PAGE)?)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.turn, self.event)
    }
}

impl FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (turn, event) = text.split_once('.').unwrap_or((text, ""));
        let (turn, event): (u32, u32) = (turn.parse()?, event.parse()?);
        Ok(Self {
            turn: turn.into(),
            event: event.into(),
        })
    }
}
