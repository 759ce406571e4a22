use bytes::Bytes;
use tokio::sync::mpsc;

/// Part of a streamed response as it comes from the runtime.
#[derive(Debug)]
pub(crate) enum Chunk {
    Data(Bytes),
    /// The body ended. With the error that the trailers carry, if they do.
    End(Option<StreamError>),
    /// The connection broke, or the body was larger than allowed.
    Broken(StreamFault),
}

/// An error that the function met after the first byte, from the response's trailers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamError {
    pub error_type: Option<String>,
    pub body: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamFault {
    Truncated,
    TooLarge,
}

/// The receiving half. A channel that closes without an end means that the connection was dropped.
#[derive(Debug)]
pub(crate) struct StreamSource(pub(super) mpsc::Receiver<Chunk>);

/// Chunks under way between the runtime and a slow reader: the backpressure of a stream. A chunk is
/// what one read from the connection gave, up to a megabyte, so there are few.
const CHUNKS_IN_FLIGHT: usize = 2;

pub(super) fn channel() -> (mpsc::Sender<Chunk>, StreamSource) {
    let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    (sender, StreamSource(receiver))
}

impl StreamSource {
    /// The next chunk; never called again after an end.
    pub async fn next(&mut self) -> Chunk {
        self.0
            .recv()
            .await
            .unwrap_or(Chunk::Broken(StreamFault::Truncated))
    }
}
