//! Answers that go out while the function writes them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use invoker::{ResponseStream, StreamItem};
use memchr::memmem;

use super::head::{Head, Malformed, Wanted};
use super::serve::Stopwatch;

/// The type of a stream that begins with status and headers.
pub const INTEGRATION: &str = "application/vnd.awslambda.http-integration-response";

/// What ends them.
const DELIMITER: [u8; 8] = [0; 8];
const MAX_PRELUDE_BYTES: usize = 256 << 10;

/// Collects the beginning of a stream until status and headers are there.
#[derive(Debug, Default)]
pub struct Prelude(BytesMut);

impl Prelude {
    /// Adds a piece; gives the head and what came after it once all of it is there.
    pub fn push(&mut self, piece: &[u8]) -> Result<Option<(Head, Bytes)>, Malformed> {
        // The delimiter may lie across two pieces.
        let from = self.0.len().saturating_sub(DELIMITER.len() - 1);
        self.0.extend_from_slice(piece);
        let Some(at) = memmem::find(&self.0[from..], &DELIMITER) else {
            return match self.0.len() > MAX_PRELUDE_BYTES {
                true => Err(Malformed("prelude")),
                false => Ok(None),
            };
        };
        let head = self.0.split_to(from + at);
        let wanted: Wanted = serde_json::from_slice(&head).map_err(|_| Malformed("prelude"))?;
        let head = wanted.check()?;
        let rest = self.0.split_off(DELIMITER.len()).freeze();
        Ok(Some((head, rest)))
    }
}

/// The body of a streamed answer. When the client goes away it is dropped, and the function runs
/// on to its end without a reader.
#[derive(Debug)]
pub struct StreamedBody {
    /// What came together with the head.
    pub first: Option<Bytes>,
    pub stream: ResponseStream,
    /// Stops when the last byte is handed on.
    pub stopwatch: Stopwatch,
}

/// The client has the beginning of an answer whose rest will never come: all that is left is to
/// cut the connection, so that it cannot take it for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the function failed while it was answering")]
pub struct BrokenOff;

impl http_body::Body for StreamedBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        loop {
            let item = match self.stream.poll_next(context) {
                Poll::Ready(item) => item,
                Poll::Pending => return Poll::Pending,
            };
            return Poll::Ready(match item {
                Some(StreamItem::Chunk(data)) if data.is_empty() => continue,
                Some(StreamItem::Chunk(data)) => Some(Ok(Frame::data(data))),
                Some(StreamItem::End(end)) if end.function_error.is_none() => {
                    self.stopwatch.stop();
                    None
                }
                Some(StreamItem::End(_)) | None => {
                    self.stopwatch.failed();
                    Some(Err(BrokenOff))
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &[u8] =
        b"{\"statusCode\":201,\"headers\":{\"x-a\":\"b\"}}\0\0\0\0\0\0\0\0body \0\0\0\0\0\0\0\0 goes on";

    proptest! {
        #[test]
        fn a_prelude_may_come_in_any_pieces(size in 1_usize..60) {
            let mut prelude = Prelude::default();
            let mut pieces = STREAM.chunks(size);
            let (head, mut body) = loop {
                if let Some((head, rest)) = prelude.push(pieces.next().unwrap()).unwrap() {
                    break (head, rest.to_vec());
                }
            };
            body.extend(pieces.flatten());
            prop_assert_eq!(head.status.as_u16(), 201);
            prop_assert_eq!(&head.headers["x-a"], "b");
            prop_assert_eq!(&body[..], &b"body \0\0\0\0\0\0\0\0 goes on"[..]);
        }
    }

    #[test]
    fn endless_and_broken_preludes_are_refused() {
        let mut prelude = Prelude::default();
        let endless = (0..10_000).find_map(|_| prelude.push(&[b' '; 100]).err());
        assert!(endless.is_some());
        assert!(Prelude::default().push(b"{\0\0\0\0\0\0\0\0").is_err());
        assert!(Prelude::default().push(b"\0\0\0\0\0\0\0\0").is_err());
    }
}
