use model::logs::{DescribeLogStreamsInput, DescribeLogStreamsOutput, LogStream, OrderBy};
use protocol::Caller;

use super::put_log_events::sequence_token;
use super::{named_group, stream_arn};
use crate::registry::{Listed, Stream};
use crate::token::{decode_name, encode_name};
use crate::{Error, Logs};

const PAGE: usize = 50;

/// What streams are sorted by: the time of the last event, if asked for, then the name.
type Rank = (i64, String);

pub async fn run(
    logs: &Logs,
    caller: &Caller,
    input: DescribeLogStreamsInput,
) -> Result<DescribeLogStreamsOutput, Error> {
    let (key, group) = named_group(caller, input.log_group_name, input.log_group_identifier)?;
    let by_time = input.order_by == Some(OrderBy::LastEventTime);
    if by_time && input.log_stream_name_prefix.is_some() {
        return Err(Error::InvalidParameter(
            "Cannot order by LastEventTime with a logStreamNamePrefix.".to_owned(),
        ));
    }
    let after = input.next_token.as_deref().map(decode).transpose()?;
    let descending = input.descending.unwrap_or(false);
    let limit = input
        .limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(PAGE);
    let prefix = input.log_stream_name_prefix.unwrap_or_default();

    let events = &logs.tables().events;
    let (_, streams) = logs.streams(&key, &prefix)?;
    let mut ranked: Vec<(Rank, Listed)> = Vec::with_capacity(streams.len());
    for (name, mut stream) in streams {
        let mut time = 0;
        if by_time {
            let known = stream.load(events)?;
            let created = known.record.created.as_millis();
            time = known.last.map_or(created, |last| last.timestamp);
            stream = Listed::Known(known);
        }
        ranked.push(((time, name), stream));
    }
    ranked.sort_by(|(a, _), (b, _)| if descending { b.cmp(a) } else { a.cmp(b) });
    let start = match &after {
        Some(after) => ranked.partition_point(|(rank, _)| {
            if descending {
                rank >= after
            } else {
                rank <= after
            }
        }),
        None => 0,
    };
    let end = ranked.len().min(start + limit);
    let next_token = (end < ranked.len()).then(|| encode(&ranked[end - 1].0));
    let page = ranked
        .drain(start..end)
        .map(|((_, name), stream)| Ok(describe(caller, &group, name, &stream.load(events)?)));
    let log_streams = page.collect::<Result<_, Error>>()?;
    Ok(DescribeLogStreamsOutput {
        log_streams: Some(log_streams),
        next_token,
    })
}

fn describe(caller: &Caller, group: &str, name: String, stream: &Stream) -> LogStream {
    LogStream {
        arn: Some(stream_arn(caller, group, &name)),
        log_stream_name: Some(name),
        creation_time: Some(stream.record.created.as_millis()),
        first_event_timestamp: stream.last.and(stream.first),
        last_event_timestamp: stream.last.map(|last| last.timestamp),
        last_ingestion_time: stream.last.map(|last| last.ingested),
        upload_sequence_token: stream.last.map(|last| sequence_token(last.total_bytes)),
        // AWS has reported zero for every stream since 2019.
        stored_bytes: Some(0),
    }
}

fn encode((time, name): &Rank) -> String {
    encode_name('s', &format!("{time}/{name}"))
}

fn decode(token: &str) -> Result<Rank, Error> {
    let text = decode_name('s', token)?;
    let (time, name) = text.split_once('/').ok_or(Error::InvalidToken)?;
    Ok((
        time.parse().map_err(|_| Error::InvalidToken)?,
        name.to_owned(),
    ))
}
