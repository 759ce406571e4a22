use model::logs::{GetLogEventsInput, GetLogEventsOutput, OutputLogEvent};
use protocol::Caller;

use super::named_group;
use crate::event::Event;
use crate::sweep::{first_alive, horizon};
use crate::token::{EventsToken, Place};
use crate::view::View;
use crate::{Error, Logs};

const PAGE: usize = 10_000;
const MAX_BYTES: usize = 1 << 20;

pub async fn run(
    logs: &Logs,
    caller: &Caller,
    input: GetLogEventsInput,
) -> Result<GetLogEventsOutput, Error> {
    let (key, _) = named_group(caller, input.log_group_name, input.log_group_identifier)?;
    let token = input
        .next_token
        .as_deref()
        .map(EventsToken::decode)
        .transpose()?;
    let limit = input
        .limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(PAGE);
    let (stream, horizon) = {
        let mut registry = logs.registry();
        let stream = registry.stream(&key, &input.log_stream_name)?;
        let stream = stream.ok_or(Error::StreamNotFound)?.record.id;
        let group = registry.group(&key)?.ok_or(Error::GroupNotFound)?;
        (
            stream,
            horizon(&group.record, logs.clock().now().as_millis()),
        )
    };
    let view = View::open(&logs.tables().events, stream)?;
    let at = |time| {
        view.find(Place {
            timestamp: time,
            sequence: 0,
        })
    };
    let low = input
        .start_time
        .map_or(Ok(0), at)?
        .max(first_alive(&view, horizon)?);
    // Events at the end time itself are not returned.
    let high = input.end_time.map_or(Ok(view.len()), at)?.max(low);
    let from_head = input.start_from_head.unwrap_or(false);
    let token = token.unwrap_or(match from_head {
        true => EventsToken::Forward(Place::default()),
        false => EventsToken::Backward(Place {
            timestamp: i64::MAX,
            sequence: u64::MAX,
        }),
    });
    let (place, events) = match token {
        EventsToken::Forward(place) => {
            let start = view.find(place)?.clamp(low, high);
            (place, forward(view.range(start, high.min(start + limit))?))
        }
        EventsToken::Backward(place) => {
            let end = view.find(place)?.clamp(low, high);
            (
                place,
                backward(view.range(end.saturating_sub(limit).max(low), end)?),
            )
        }
    };
    // An empty page leaves the client where it was; at the very ends that is a place, too.
    let nowhere = || match place {
        Place {
            timestamp: i64::MAX,
            ..
        } => end_of(&view),
        place => Ok(place),
    };
    let (first, behind) = match (events.first(), events.last()) {
        (Some(first), Some(last)) => (Place::of(first), Place::behind(last)),
        _ => (nowhere()?, nowhere()?),
    };
    Ok(GetLogEventsOutput {
        events: Some(events.iter().map(output).collect()),
        next_forward_token: Some(EventsToken::Forward(behind).encode()),
        next_backward_token: Some(EventsToken::Backward(first).encode()),
    })
}

/// As many events as fit, from the first on.
fn forward(mut events: Vec<Event>) -> Vec<Event> {
    events.truncate(fitting(events.iter()));
    events
}

/// As many events as fit, up to the last.
fn backward(mut events: Vec<Event>) -> Vec<Event> {
    let kept = fitting(events.iter().rev());
    events.drain(..events.len() - kept);
    events
}

fn fitting<'a>(events: impl Iterator<Item = &'a Event>) -> usize {
    let mut bytes = 0;
    let fits = |event: &&Event| {
        bytes += event.size();
        bytes <= MAX_BYTES
    };
    events.take_while(fits).count()
}

/// Behind the last event.
fn end_of(view: &View) -> Result<Place, Error> {
    let len = view.len();
    Ok(view
        .range(len.saturating_sub(1), len)?
        .last()
        .map_or(Place::default(), Place::behind))
}

fn output(event: &Event) -> OutputLogEvent {
    OutputLogEvent {
        timestamp: Some(event.timestamp),
        message: Some(event.text()),
        ingestion_time: Some(event.ingested),
    }
}
