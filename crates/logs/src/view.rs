//! A stream's events by index, in the order of their timestamps.

use store::Log;
use uuid::Uuid;

use crate::Error;
use crate::event::Event;
use crate::token::Place;

/// The events of a stream as they were when the view was opened.
#[derive(Debug)]
pub(crate) struct View {
    log: Log,
    pub(crate) stream: Uuid,
    order: Order,
}

#[derive(Debug)]
enum Order {
    /// The events arrived in order: their sequences, from the first to the one after the last.
    Arrival(u64, u64),
    /// Some came late: all sequences, sorted by timestamp.
    Sorted(Vec<Place>),
}

const CHUNK: usize = 1000;

impl View {
    pub(crate) fn open(log: &Log, stream: Uuid) -> Result<Self, Error> {
        let (first, end) = log.bounds(stream)?.unwrap_or_default();
        let last = log.read_back(stream, end, 1)?;
        let disordered = match last.first() {
            Some(last) => Event::decode(last)?.disordered,
            None => false,
        };
        let order = if disordered {
            Order::Sorted(sorted(log, stream, first, end)?)
        } else {
            Order::Arrival(first, end)
        };
        Ok(Self {
            log: log.clone(),
            stream,
            order,
        })
    }

    pub(crate) fn len(&self) -> usize {
        match &self.order {
            Order::Arrival(first, end) => usize::try_from(end - first).unwrap_or(usize::MAX),
            Order::Sorted(places) => places.len(),
        }
    }

    /// The index of the first event that is not before `place`.
    pub(crate) fn find(&self, place: Place) -> Result<usize, Error> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let at = match &self.order {
                Order::Sorted(places) => places.get(middle).copied(),
                Order::Arrival(..) => self.range(middle, middle + 1)?.first().map(Place::of),
            };
            if at.is_some_and(|at| at < place) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The events at these indices, in order.
    pub(crate) fn range(&self, from: usize, to: usize) -> Result<Vec<Event>, Error> {
        let count = to.saturating_sub(from);
        match &self.order {
            Order::Arrival(first, _) => {
                let entries = self.log.read(self.stream, first + from as u64, count)?;
                entries.iter().map(Event::decode).collect()
            }
            Order::Sorted(places) => {
                let mut events = Vec::with_capacity(count);
                for place in places.get(from..to).unwrap_or_default() {
                    // An event may have expired since the view was opened.
                    let entries = self.log.read(self.stream, place.sequence, 1)?;
                    let entry = entries
                        .first()
                        .filter(|entry| entry.sequence == place.sequence);
                    events.extend(entry.map(Event::decode).transpose()?);
                }
                Ok(events)
            }
        }
    }
}

impl Place {
    pub(crate) fn of(event: &Event) -> Self {
        Self {
            timestamp: event.timestamp,
            sequence: event.sequence,
        }
    }

    pub(crate) fn behind(event: &Event) -> Self {
        Self {
            timestamp: event.timestamp,
            sequence: event.sequence + 1,
        }
    }
}

fn sorted(log: &Log, stream: Uuid, first: u64, end: u64) -> Result<Vec<Place>, Error> {
    let mut places = Vec::new();
    let mut next = first;
    while next < end {
        let entries = log.read(stream, next, CHUNK)?;
        let Some(last) = entries.last() else { break };
        next = last.sequence + 1;
        for entry in &entries {
            places.push(Place::of(&Event::decode(entry)?));
        }
    }
    places.sort_unstable();
    Ok(places)
}
