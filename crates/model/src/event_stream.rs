//! Event streams: answers that are a sequence of typed messages, each framed with its length and
//! two checksums (`application/vnd.amazon.eventstream`).
//!
//! [`Message`] is one frame, [`Decoder`] takes frames out of bytes as they come in, [`Event`] leads
//! from a generated enum to its frames, and [`EventStream`] is the member of an output that yields
//! them. Frames that come from outside are bounded in size and never trusted.
//!
//! See <https://smithy.io/2.0/aws/amazon-eventstream.html>.

mod decoder;
mod message;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

pub use decoder::{Decoder, FrameError};
pub use message::{Message, Value};

use crate::DecodeError;

/// The content type of a body that is an event stream.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

const OCTETS: &str = "application/octet-stream";
const JSON: &str = "application/json";

/// One of the messages that an operation's event stream may hold. Implemented by generated code.
pub trait Event: Sized + Send + 'static {
    /// The event's frame.
    fn to_message(&self) -> Message;

    /// Reads a frame; `None` if it is an event that this version of the interface does not know.
    fn from_message(message: &Message) -> Result<Option<Self>, DecodeError>;
}

/// The events of an answer, in order, while they come.
pub struct EventStream<E>(Pin<Box<dyn Stream<Item = E> + Send>>);

impl<E: Send + 'static> EventStream<E> {
    /// The events that `events` yields.
    pub fn new(events: impl Stream<Item = E> + Send + 'static) -> Self {
        Self(Box::pin(events))
    }
}

impl<E: Event> EventStream<E> {
    /// Reads the events of a whole body. For clients.
    pub fn from_body(body: Bytes) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::default();
        decoder.push(&body);
        let mut events = Vec::new();
        while let Some(message) = decoder.next().map_err(unreadable)? {
            events.extend(E::from_message(&message)?);
        }
        if !decoder.is_empty() {
            return Err(DecodeError::serialization("The event stream broke off"));
        }
        Ok(Self::new(futures_util::stream::iter(events)))
    }
}

impl<E> Stream for EventStream<E> {
    type Item = E;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<E>> {
        self.0.as_mut().poll_next(context)
    }
}

impl<E: Send + 'static> Default for EventStream<E> {
    fn default() -> Self {
        Self::new(futures_util::stream::empty())
    }
}

impl<E> fmt::Debug for EventStream<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventStream")
    }
}

/// The frame of an event whose payload is a blob.
pub(crate) fn blob_event(name: &'static str, payload: Option<&crate::Blob>) -> Message {
    let payload = payload.and_then(|payload| payload.decode().ok());
    Message::event(name, OCTETS, payload.unwrap_or_default())
}

/// The frame of an event that is a JSON document.
pub(crate) fn json_event(name: &'static str, document: Bytes) -> Message {
    Message::event(name, JSON, document)
}

fn unreadable(error: FrameError) -> DecodeError {
    DecodeError::serialization(error.to_string())
}
