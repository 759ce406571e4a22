use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use invoker::{Mode, Outcome, Payload, ResponseStream, StreamItem};
use model::Blob;
use model::event_stream::{self, EventStream};
use model::lambda::InvokeWithResponseStreamResponseEvent as Event;
use model::lambda::{
    InvokeResponseStreamUpdate, InvokeWithResponseStreamCompleteEvent,
    InvokeWithResponseStreamInput, InvokeWithResponseStreamOutput,
};
use protocol::Caller;

use super::invoke::payload_of;
use super::source::refuse;
use crate::error::Error;
use crate::invoke::Call;
use crate::urls::error_type;
use crate::{Lambda, payload};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: InvokeWithResponseStreamInput,
) -> Result<InvokeWithResponseStreamOutput, Error> {
    let (name, qualifier) = (&input.function_name, input.qualifier.as_deref());
    let address = lambda.resolve(caller, "InvokeFunction", name, qualifier)?;
    refuse(&[("TenantId", input.tenant_id.is_some())])?;
    let kind = input.invocation_type.as_ref().map(|kind| kind.as_str());
    if kind == Some("DryRun") {
        lambda.dry_run(&address)?;
        return Ok(InvokeWithResponseStreamOutput {
            status_code: Some(204),
            ..InvokeWithResponseStreamOutput::default()
        });
    }
    let log_type = input.log_type.as_ref().map(|kind| kind.as_str());
    let call = Call {
        request_id: caller.request_id.clone(),
        payload: payload_of(input.payload)?,
        client_context: payload::client_context(input.client_context.as_deref())?,
        trace_header: input.trace_header,
        want_tail: log_type == Some("Tail"),
        mode: Mode::Streaming,
    };
    let answer = lambda.invoke(&address, call).await?;
    Ok(InvokeWithResponseStreamOutput {
        status_code: Some(200),
        executed_version: Some(answer.executed_version),
        event_stream: events(answer.outcome),
        response_stream_content_type: Some(event_stream::CONTENT_TYPE.to_owned()),
        trace_header: Some(answer.trace_header),
    })
}

/// What the function does, as events. A runtime that does not stream gives one chunk.
fn events(outcome: Outcome) -> EventStream<Event> {
    let Outcome {
        payload,
        function_error,
        log_tail,
        ..
    } = outcome;
    match payload {
        Payload::Stream(stream) => EventStream::new(forward(stream)),
        Payload::Buffered(error) if function_error.is_some() => {
            let kind = error_type(&error);
            let end = complete(Some((kind, error)), log_tail);
            EventStream::new(stream::iter([end]))
        }
        Payload::Buffered(payload) => {
            let events = [chunk(payload), complete(None, log_tail)];
            EventStream::new(stream::iter(events))
        }
    }
}

fn forward(stream: ResponseStream) -> impl stream::Stream<Item = Event> + Send {
    stream::unfold(Some(stream), |stream| async {
        let mut stream = stream?;
        Some(match stream.next().await? {
            StreamItem::Chunk(data) => (chunk(data), Some(stream)),
            StreamItem::End(end) => {
                let end = *end;
                let failed = end.function_error.is_some();
                let (kind, document, log_tail) = (end.error_type, end.error, end.log_tail);
                let error = failed.then(|| (kind, document.unwrap_or_default()));
                (complete(error, log_tail), None)
            }
        })
    })
}

fn chunk(data: Bytes) -> Event {
    Event::PayloadChunk(InvokeResponseStreamUpdate {
        payload: Some(Blob::from(data)),
    })
}

/// The last event. The error is told in the function's own words.
fn complete(error: Option<(Option<String>, Bytes)>, log_tail: Option<Bytes>) -> Event {
    let (error_code, error_details) = match error {
        None => (None, None),
        Some((kind, document)) => {
            let kind = kind.or_else(|| error_type(&document));
            (
                Some(kind.unwrap_or_else(|| "Unhandled".to_owned())),
                Some(String::from_utf8_lossy(&document).into_owned()),
            )
        }
    };
    Event::InvokeComplete(InvokeWithResponseStreamCompleteEvent {
        error_code,
        error_details,
        log_result: log_tail.map(|tail| STANDARD.encode(tail)),
    })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use invoker::{FunctionError, Report};

    use super::*;

    fn outcome(payload: &'static str, failed: bool) -> Outcome {
        Outcome {
            payload: Payload::Buffered(Bytes::from_static(payload.as_bytes())),
            content_type: None,
            function_error: failed.then_some(FunctionError::Unhandled),
            log_tail: Some(Bytes::from_static(b"log")),
            report: Report::default(),
        }
    }

    #[tokio::test]
    async fn an_answer_in_one_piece_is_one_chunk() {
        let events: Vec<_> = events(outcome("{}", false)).collect().await;
        let [Event::PayloadChunk(update), Event::InvokeComplete(end)] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!(update.payload, Some(Blob::from(Bytes::from_static(b"{}"))));
        assert_eq!((&end.error_code, &end.error_details), (&None, &None));
        assert_eq!(end.log_result.as_deref(), Some("bG9n"));
    }

    #[tokio::test]
    async fn a_failure_is_told_at_the_end() {
        let document = r#"{"errorType":"ValueError","errorMessage":"no"}"#;
        let events: Vec<_> = events(outcome(document, true)).collect().await;
        let [Event::InvokeComplete(end)] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!(end.error_code.as_deref(), Some("ValueError"));
        assert_eq!(end.error_details.as_deref(), Some(document));
    }
}
