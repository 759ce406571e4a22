use model::logs::{FilterLogEventsInput, FilterLogEventsOutput, FilteredLogEvent};
use protocol::Caller;

use super::named_group;
use crate::filter::Pattern;
use crate::search::{Resume, Search};
use crate::sweep::horizon;
use crate::view::View;
use crate::{Error, Logs};

const PAGE: usize = 10_000;

pub async fn run(
    logs: &Logs,
    caller: &Caller,
    input: FilterLogEventsInput,
) -> Result<FilterLogEventsOutput, Error> {
    let (key, _) = named_group(caller, input.log_group_name, input.log_group_identifier)?;
    if input.log_stream_names.is_some() && input.log_stream_name_prefix.is_some() {
        return Err(Error::InvalidParameter(
            "logStreamNames and logStreamNamePrefix are mutually exclusive parameters.".to_owned(),
        ));
    }
    let resume = input
        .next_token
        .as_deref()
        .map(Resume::decode)
        .transpose()?;
    let pattern = Pattern::parse(input.filter_pattern.as_deref().unwrap_or_default())?;
    let prefix = input.log_stream_name_prefix.unwrap_or_default();
    let (group, mut streams) = logs.streams(&key, &prefix)?;
    if let Some(names) = &input.log_stream_names {
        if names.iter().any(|name| !streams.contains_key(name)) {
            return Err(Error::StreamNotFound);
        }
        streams.retain(|name, _| names.contains(name));
    }
    let horizon = horizon(&group, logs.clock().now().as_millis());
    let search = Search {
        pattern,
        from: input.start_time.unwrap_or(0).max(horizon),
        // Unlike in GetLogEvents, events at the end time itself are returned.
        to: input.end_time.map_or(i64::MAX, |end| end.saturating_add(1)),
        limit: input
            .limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(PAGE),
        resume,
    };
    let events_log = logs.tables().events.clone();
    // A search may read much from disk.
    let searching = tokio::task::spawn_blocking(move || {
        let views = streams
            .into_iter()
            .map(|(name, stream)| Ok((name, View::open(&events_log, stream.record().id)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        search.run(views)
    });
    let page = searching
        .await
        .unwrap_or(Err(Error::Store(store::Error::Closed)))?;
    let event = |(stream, id, event): (String, String, crate::event::Event)| FilteredLogEvent {
        log_stream_name: Some(stream),
        timestamp: Some(event.timestamp),
        message: Some(event.text()),
        ingestion_time: Some(event.ingested),
        event_id: Some(id),
    };
    Ok(FilterLogEventsOutput {
        events: Some(page.events.into_iter().map(event).collect()),
        // AWS fills it no more.
        searched_log_streams: Some(Vec::new()),
        next_token: page.next.map(|next| next.encode()),
    })
}
