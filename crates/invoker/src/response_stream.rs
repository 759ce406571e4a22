use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{FunctionError, Report};

/// A response that arrives while the function still runs. Dropping it does not stop the function.
#[derive(Debug)]
pub struct ResponseStream(mpsc::Receiver<StreamItem>);

/// Part of a streamed response.
#[derive(Debug)]
pub enum StreamItem {
    Chunk(Bytes),
    /// The last item, always sent.
    End(Box<StreamEnd>),
}

/// How a streamed invocation ended.
#[derive(Debug)]
pub struct StreamEnd {
    pub function_error: Option<FunctionError>,
    pub error_type: Option<String>,
    /// The error as JSON, as a buffered invocation would have answered it.
    pub error: Option<Bytes>,
    pub log_tail: Option<Bytes>,
    pub report: Report,
}

/// Chunks that wait for a slow reader before the function has to.
const CHUNKS_IN_FLIGHT: usize = 2;

impl ResponseStream {
    pub(crate) fn channel() -> (mpsc::Sender<StreamItem>, Self) {
        let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
        (sender, Self(receiver))
    }

    /// The next item; `None` after the end.
    pub async fn next(&mut self) -> Option<StreamItem> {
        self.0.recv().await
    }

    /// As [`ResponseStream::next`], for those who are polled themselves.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<StreamItem>> {
        self.0.poll_recv(context)
    }
}
