//! Reads request bodies within a limit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body::Body;
use http_body_util::BodyExt;

/// A refused upload is read no longer than this.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_BYTES: usize = 512 << 20;

/// A client's announcement is not trusted with more memory than this before data arrives.
const MAX_RESERVED_BYTES: usize = 1 << 20;

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is longer than the limit.
    TooLarge,
    /// The client stopped sending.
    TooSlow,
    /// The connection broke, or the body is not framed as HTTP demands.
    Broken(String),
}

/// The length that the client announced.
pub(crate) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the client waits for a word before it sends the body.
pub(crate) fn awaits_continue(headers: &HeaderMap) -> bool {
    headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Reads the whole body. One that arrives in one piece is not copied.
pub(crate) async fn read<B>(body: &mut B, limit: u64, pause: Duration) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let Some(first) = next_chunk(body, pause).await? else {
        return Ok(Bytes::new());
    };
    if first.len() > limit {
        return Err(Unread::TooLarge);
    }
    if body.is_end_stream() {
        return Ok(first);
    }
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(0);
    let mut whole = BytesMut::with_capacity(first.len() + expected.min(MAX_RESERVED_BYTES));
    whole.extend_from_slice(&first);
    while let Some(chunk) = next_chunk(body, pause).await? {
        if whole.len() + chunk.len() > limit {
            return Err(Unread::TooLarge);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// The next data; trailers are skipped.
async fn next_chunk<B>(body: &mut B, pause: Duration) -> Result<Option<Bytes>, Unread>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    loop {
        let frame = match frame(body, pause).await? {
            None => return Ok(None),
            Some(frame) => frame.map_err(|err| Unread::Broken(err.to_string()))?,
        };
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

/// Most bodies are there already when their head is, so the timer is only set when there is a wait.
async fn frame<B: Body + Unpin>(
    body: &mut B,
    pause: Duration,
) -> Result<Option<Result<http_body::Frame<B::Data>, B::Error>>, Unread> {
    let mut next = body.frame();
    let polled =
        std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut next).poll(cx)))
            .await;
    match polled {
        std::task::Poll::Ready(frame) => Ok(frame),
        std::task::Poll::Pending => tokio::time::timeout(pause, next)
            .await
            .map_err(|_| Unread::TooSlow),
    }
}

/// Reads and drops what a refused client still sends, within bounds.
pub(crate) async fn discard<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let read = async {
        let mut total = 0;
        while let Some(Ok(frame)) = body.frame().await {
            total += frame.data_ref().map_or(0, Bytes::len);
            if total > LINGER_BYTES {
                return;
            }
        }
    };
    // Whether it ended or took too long: afterwards the connection may close.
    let _ = tokio::time::timeout(LINGER, read).await;
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    fn chunks(chunks: &[&'static str]) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin {
        let frames: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok(http_body::Frame::data(Bytes::from_static(chunk.as_bytes()))))
            .collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn body_in_pieces_is_put_together() {
        assert_eq!(
            read(&mut chunks(&["ab", "", "c"]), 3, PAUSE).await.unwrap(),
            "abc"
        );
    }

    #[tokio::test]
    async fn body_in_one_piece_is_not_copied() {
        let data = Bytes::from_static(b"abc");
        let read = read(&mut Full::new(data.clone()), 3, PAUSE).await.unwrap();
        assert_eq!(read.as_ptr(), data.as_ptr());
    }

    #[tokio::test]
    async fn body_beyond_the_limit_is_refused_while_reading() {
        assert_eq!(
            read(&mut chunks(&["ab", "cd"]), 3, PAUSE).await,
            Err(Unread::TooLarge)
        );
        assert_eq!(
            read(&mut chunks(&["abcd"]), 3, PAUSE).await,
            Err(Unread::TooLarge)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_stops_arriving_is_given_up() {
        let mut never = StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<Bytes>, std::io::Error>,
        >());
        assert_eq!(read(&mut never, 10, PAUSE).await, Err(Unread::TooSlow));
    }

    #[test]
    fn continue_is_recognised_in_any_case() {
        let mut headers = HeaderMap::new();
        headers.insert(EXPECT, "100-Continue".parse().unwrap());
        assert!(awaits_continue(&headers));
        assert!(!awaits_continue(&HeaderMap::new()));
    }
}
