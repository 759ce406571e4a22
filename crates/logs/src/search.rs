//! FilterLogEvents: events of several streams, merged by time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::Error;
use crate::event::Event;
use crate::filter::Pattern;
use crate::token::{Place, decode_name, encode_name};
use crate::view::View;

/// A page holds at most this much text.
const MAX_BYTES: usize = 1 << 20;
/// Events looked at for one page; beyond, the page ends, found something or not, as on AWS.
const MAX_SCANNED: usize = 200_000;

/// What to look for, and from where on.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) pattern: Pattern,
    pub(crate) from: i64,
    /// The first time that is too late.
    pub(crate) to: i64,
    pub(crate) limit: usize,
    pub(crate) resume: Option<Resume>,
}

/// The last event that a page looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    timestamp: i64,
    stream: String,
    sequence: u64,
}

#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) events: Vec<(String, String, Event)>,
    pub(crate) next: Option<Resume>,
}

/// A stream being read.
struct Cursor {
    name: String,
    view: View,
    next: usize,
    end: usize,
    buffer: VecDeque<Event>,
    chunk: usize,
}

impl Search {
    /// Finds a page of events; reads from disk.
    pub(crate) fn run(&self, streams: Vec<(String, View)>) -> Result<Page, Error> {
        let chunk = (8192 / streams.len().max(1)).clamp(8, 512);
        let mut cursors = Vec::with_capacity(streams.len());
        for (name, view) in streams {
            let start = view.find(self.start(&name))?;
            let end = view.find(Place {
                timestamp: self.to,
                sequence: 0,
            })?;
            if start < end {
                let buffer = VecDeque::new();
                cursors.push(Cursor {
                    name,
                    view,
                    next: start,
                    end,
                    buffer,
                    chunk,
                });
            }
        }
        // Streams are in the order of their names, so that the index breaks ties by name.
        cursors.sort_by(|a, b| a.name.cmp(&b.name));
        let mut heads = BinaryHeap::new();
        for (index, cursor) in cursors.iter_mut().enumerate() {
            heads.extend(cursor.peek()?.map(|timestamp| Reverse((timestamp, index))));
        }
        let mut page = Page {
            events: Vec::new(),
            next: None,
        };
        let (mut bytes, mut scanned) = (0, 0);
        let mut last: Option<Resume> = None;
        while let Some(Reverse((_, index))) = heads.pop() {
            let cursor = &mut cursors[index];
            let Some(event) = cursor.buffer.pop_front() else {
                continue;
            };
            let found = self
                .pattern
                .matches(&String::from_utf8_lossy(&event.message));
            let full =
                page.events.len() == self.limit || (bytes > 0 && bytes + event.size() > MAX_BYTES);
            if scanned == MAX_SCANNED || (found && full) {
                page.next = last;
                return Ok(page);
            }
            scanned += 1;
            last = Some(Resume {
                timestamp: event.timestamp,
                stream: cursor.name.clone(),
                sequence: event.sequence,
            });
            if found {
                bytes += event.size();
                page.events
                    .push((cursor.name.clone(), event.id(cursor.view.stream), event));
            }
            heads.extend(cursor.peek()?.map(|timestamp| Reverse((timestamp, index))));
        }
        Ok(page)
    }

    /// Where to begin in a stream.
    fn start(&self, stream: &str) -> Place {
        let from = Place {
            timestamp: self.from,
            sequence: 0,
        };
        let Some(resume) = &self.resume else {
            return from;
        };
        let Resume {
            timestamp,
            sequence,
            ..
        } = *resume;
        let resumed = match stream.cmp(&resume.stream) {
            std::cmp::Ordering::Less => Place {
                timestamp: timestamp.saturating_add(1),
                sequence: 0,
            },
            std::cmp::Ordering::Equal => Place {
                timestamp,
                sequence: sequence.saturating_add(1),
            },
            std::cmp::Ordering::Greater => Place {
                timestamp,
                sequence: 0,
            },
        };
        resumed.max(from)
    }
}

impl Cursor {
    /// The timestamp of the next event, read if need be.
    fn peek(&mut self) -> Result<Option<i64>, Error> {
        while self.buffer.is_empty() && self.next < self.end {
            let to = self.end.min(self.next + self.chunk);
            self.buffer = self.view.range(self.next, to)?.into();
            self.next = to;
        }
        Ok(self.buffer.front().map(|event| event.timestamp))
    }
}

impl Resume {
    pub(crate) fn encode(&self) -> String {
        encode_name(
            'e',
            &format!("{}/{}/{}", self.timestamp, self.sequence, self.stream),
        )
    }

    pub(crate) fn decode(token: &str) -> Result<Self, Error> {
        let text = decode_name('e', token)?;
        let mut parts = text.splitn(3, '/');
        let mut parse = || {
            let timestamp = parts.next()?.parse().ok()?;
            let sequence = parts.next()?.parse().ok()?;
            Some(Self {
                timestamp,
                sequence,
                stream: parts.next()?.to_owned(),
            })
        };
        parse().ok_or(Error::InvalidToken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_decoded_as_it_was_encoded() {
        let resume = Resume {
            timestamp: -5,
            stream: "2026/11/22/[$LATEST]a/b".to_owned(),
            sequence: 7,
        };
        assert_eq!(Resume::decode(&resume.encode()).unwrap(), resume);
        assert!(Resume::decode("e31").is_err());
    }
}
