use bytes::Bytes;
use model::logs::{InputLogEvent, PutLogEventsInput, PutLogEventsOutput, RejectedLogEventsInfo};
use protocol::Caller;

use crate::event::OVERHEAD_BYTES;
use crate::registry::group_key;
use crate::service::{MAX_EVENT_BYTES, scope};
use crate::sweep::horizon;
use crate::{Error, Logs};

const MAX_BATCH_BYTES: usize = 1 << 20;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The sequence token in the request is ignored, as AWS does since 2023.
pub async fn run(
    logs: &Logs,
    caller: &Caller,
    input: PutLogEventsInput,
) -> Result<PutLogEventsOutput, Error> {
    check(&input.log_events)?;
    let key = group_key(&scope(caller), &input.log_group_name);
    let now = logs.clock().now().as_millis();
    let (appending, accepted, rejected, token) = {
        let mut registry = logs.registry();
        let group = registry.group(&key)?.ok_or(Error::GroupNotFound)?;
        let (accepted, rejected) = sort_out(input.log_events, now, horizon(&group.record, now));
        let stream = registry.stream(&key, &input.log_stream_name)?;
        let total = stream
            .ok_or(Error::StreamNotFound)?
            .last
            .map_or(0, |last| last.total_bytes);
        let appending = if accepted.is_empty() {
            None
        } else {
            let appending = registry.append(&key, &input.log_stream_name, &accepted)?;
            logs.publish(&key, &input.log_stream_name, &accepted);
            Some(appending)
        };
        (appending, accepted, rejected, total)
    };
    if let Some(appending) = appending {
        appending.finish().await?;
        logs.observed(caller, &accepted);
    }
    Ok(PutLogEventsOutput {
        next_sequence_token: Some(sequence_token(token)),
        rejected_log_events_info: rejected,
        rejected_entity_info: None,
    })
}

/// Tokens are 56 digits, and ignored.
pub(super) fn sequence_token(number: u64) -> String {
    format!("4{number:055}")
}

fn check(events: &[InputLogEvent]) -> Result<(), Error> {
    let invalid = |message: String| Err(Error::InvalidParameter(message));
    let mut total = 0;
    for event in events {
        let size = event.message.len() + OVERHEAD_BYTES;
        if size > MAX_EVENT_BYTES {
            return invalid(format!(
                "Log event too large: {size} bytes exceeds limit of {MAX_EVENT_BYTES}"
            ));
        }
        total += size;
    }
    if total > MAX_BATCH_BYTES {
        return invalid(format!(
            "Upload too large: {total} bytes exceeds limit of {MAX_BATCH_BYTES}"
        ));
    }
    if !events.is_sorted_by_key(|event| event.timestamp) {
        return invalid(
            "Log events in a single PutLogEvents request must be in chronological order."
                .to_owned(),
        );
    }
    if let (Some(first), Some(last)) = (events.first(), events.last())
        && last.timestamp.saturating_sub(first.timestamp) > DAY_MS
    {
        return invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 \
             hours."
                .to_owned(),
        );
    }
    Ok(())
}

/// Splits a batch, which is in order, into what is accepted and where the rest begins and ends.
fn sort_out(
    events: Vec<InputLogEvent>,
    now: i64,
    horizon: i64,
) -> (Vec<(i64, Bytes)>, Option<RejectedLogEventsInfo>) {
    let index = |end: usize| i32::try_from(end).unwrap_or(i32::MAX);
    let before = |time: i64| events.partition_point(|event| event.timestamp < time);
    let too_old = before(now - 14 * DAY_MS);
    let expired = before(horizon);
    let too_new = events.partition_point(|event| event.timestamp <= now + 2 * HOUR_MS);
    let rejected = RejectedLogEventsInfo {
        too_new_log_event_start_index: (too_new < events.len()).then(|| index(too_new)),
        // The index behind the last one that is too old.
        too_old_log_event_end_index: (too_old > 0).then(|| index(too_old)),
        expired_log_event_end_index: (expired > 0).then(|| index(expired)),
    };
    let start = too_old.max(expired);
    let accepted = events
        .into_iter()
        .take(too_new)
        .skip(start)
        .map(|event| (event.timestamp, Bytes::from(event.message)))
        .collect();
    let any = rejected != RejectedLogEventsInfo::default();
    (accepted, any.then_some(rejected))
}
