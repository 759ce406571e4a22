//! Bodies made of events.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http_body::Frame;
use model::event_stream::{Event, EventStream};

use crate::{Body, BodyError};

/// Frames events when they come, each in a piece of its own, so that none waits for the next.
struct Framed<E>(EventStream<E>);

impl<E: Event> http_body::Body for Framed<E> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let events = Pin::new(&mut self.get_mut().0);
        events
            .poll_next(context)
            .map(|event| event.map(|event| Ok(Frame::data(event.to_message().encode()))))
    }
}

impl<E: Event> From<EventStream<E>> for Body {
    fn from(events: EventStream<E>) -> Self {
        Self::stream(Framed(events))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use model::event_stream::Decoder;
    use model::lambda::{InvokeResponseStreamUpdate, InvokeWithResponseStreamResponseEvent};

    use super::*;

    #[tokio::test]
    async fn every_event_leaves_in_a_frame_of_its_own() {
        let chunk = |text: &'static str| {
            InvokeWithResponseStreamResponseEvent::PayloadChunk(InvokeResponseStreamUpdate {
                payload: Some(Bytes::from_static(text.as_bytes()).into()),
            })
        };
        let events = EventStream::new(futures_util::stream::iter([chunk("a"), chunk("b")]));
        let mut body = Body::from(events);
        for expected in ["a", "b"] {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            let mut decoder = Decoder::default();
            decoder.push(&frame);
            let message = decoder.next().unwrap().unwrap();
            assert!(decoder.is_empty());
            assert_eq!(message.event_type(), Some("PayloadChunk"));
            assert_eq!(message.payload, expected);
        }
        assert!(body.frame().await.is_none());
    }
}
