//! A request body that tells a progress bar how much of it has left.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use indicatif::ProgressBar;

const CHUNK_BYTES: usize = 64 << 10;

/// Bytes sent in chunks, with a known length.
#[derive(Debug)]
pub struct Upload {
    rest: Bytes,
    progress: Option<ProgressBar>,
}

impl Upload {
    /// A body that reports to `progress`, if there is one.
    pub const fn new(data: Bytes, progress: Option<ProgressBar>) -> Self {
        Self {
            rest: data,
            progress,
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        // Without a bar there is nobody to tell, and one large write is cheaper.
        let Some(progress) = &self.progress else {
            let all = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(Frame::data(all))));
        };
        let n = self.rest.len().min(CHUNK_BYTES);
        progress.inc(n as u64);
        let chunk = self.rest.split_to(n);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
