//! Takes contents in and gives them out, piece by piece.

use std::collections::VecDeque;
use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::task::JoinHandle;

use crate::checksum::{Digests, Expected};
use crate::files::{self, Files, Kept, Writer, blocking};
use crate::janitor::Pin as Pinned;
use crate::keys::Id;
use crate::record::Place;
use crate::service::S3;
use crate::{Error, Result};

/// How much of an upload is gathered before it is written, while as much may be on its way to the
/// disk.
const WRITE_BYTES: usize = 1 << 20;
/// How much is read from a file at once.
const READ_BYTES: usize = 256 << 10;

/// A body as it arrives.
pub(crate) type Body = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// A whole body in memory.
pub(crate) fn body_of(bytes: Bytes) -> Body {
    Box::pin(futures_util::stream::iter([Ok(bytes)]))
}

/// A content that is on disk, or will be with the record that refers to it.
#[derive(Debug)]
pub(crate) enum Held {
    Empty,
    Inline(Id, Bytes),
    File(Kept),
}

impl Held {
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Empty => Place::Empty,
            Self::Inline(id, _) => Place::Inline(*id),
            Self::File(kept) => Place::File(kept.id()),
        }
    }
}

impl S3 {
    /// Takes a body in: small ones into memory, others into a file.
    pub(crate) async fn receive(
        &self,
        mut body: Body,
        limit: u64,
        expected: &Expected,
    ) -> Result<(Held, Digests)> {
        if expected.size.is_some_and(|size| size > limit) {
            return Err(Error::EntityTooLarge);
        }
        let inline = self.config().inline();
        let mut size = 0_u64;
        let mut gathered = Gathered::default();
        let mut ended = false;
        while gathered.bytes <= inline {
            match body.next().await.transpose()? {
                Some(chunk) => {
                    size += chunk.len() as u64;
                    gathered.push(chunk);
                }
                None => {
                    ended = true;
                    break;
                }
            }
        }
        if ended {
            return self.hold(gathered, expected);
        }
        let (files, id, hasher) = (self.files().clone(), self.next_id(), expected.hasher());
        let mut writing =
            Writing::Idle(Box::new(blocking(move || files.create(id, hasher)).await?));
        while let Some(chunk) = body.next().await.transpose()? {
            size += chunk.len() as u64;
            if size > limit {
                return Err(Error::EntityTooLarge);
            }
            gathered.push(chunk);
            if gathered.bytes >= WRITE_BYTES {
                writing = writing.write(gathered.take()).await?;
            }
        }
        writing = writing.write(gathered.take()).await?;
        let writer = writing.idle().await?;
        let (kept, digests) = blocking(move || writer.finish()).await?;
        expected.check(&digests)?;
        Ok((Held::File(kept), digests))
    }

    fn hold(&self, gathered: Gathered, expected: &Expected) -> Result<(Held, Digests)> {
        let bytes = gathered.whole();
        let mut hasher = expected.hasher();
        hasher.update(&bytes);
        let digests = hasher.finish();
        expected.check(&digests)?;
        let held = if bytes.is_empty() {
            Held::Empty
        } else {
            Held::Inline(self.next_id(), bytes)
        };
        Ok((held, digests))
    }
}

#[derive(Default)]
struct Gathered {
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Gathered {
    fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        if !chunk.is_empty() {
            self.chunks.push(chunk);
        }
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.bytes = 0;
        std::mem::take(&mut self.chunks)
    }

    fn whole(mut self) -> Bytes {
        match self.chunks.len() {
            0 | 1 => self.chunks.pop().unwrap_or_default(),
            _ => self.chunks.concat().into(),
        }
    }
}

/// A file being written, one batch behind what is being received.
enum Writing {
    Idle(Box<Writer>),
    Busy(JoinHandle<Result<Box<Writer>>>),
}

impl Writing {
    async fn idle(self) -> Result<Box<Writer>> {
        match self {
            Self::Idle(writer) => Ok(writer),
            Self::Busy(task) => task.await.unwrap_or(Err(Error::Stopping)),
        }
    }

    async fn write(self, batch: Vec<Bytes>) -> Result<Self> {
        let mut writer = self.idle().await?;
        Ok(Self::Busy(tokio::task::spawn_blocking(move || {
            writer.write(&batch)?;
            Ok(writer)
        })))
    }
}

/// Where some bytes of an object are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Bytes(Bytes),
    /// An open file.
    Open(Arc<File>),
    /// A content that is looked up when its turn comes.
    Place(Place),
}

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) source: Source,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

type Reading = Pin<Box<dyn Future<Output = Result<(Bytes, Segment)>> + Send + Sync>>;

/// The bytes of an object, read while they are sent.
pub struct Contents {
    segments: VecDeque<Segment>,
    reading: Option<Reading>,
    s3: S3,
    /// Keeps the parts of the object from being removed.
    _pin: Option<Pinned>,
}

impl Contents {
    pub(crate) fn new(s3: &S3, segments: VecDeque<Segment>, pin: Option<Pinned>) -> Self {
        Self {
            segments,
            reading: None,
            s3: s3.clone(),
            _pin: pin,
        }
    }

    /// How many bytes are still to come.
    pub fn remaining(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// All bytes at once, for what is known to be small: more than `limit` is an error.
    pub async fn collect(mut self, limit: u64) -> Result<Bytes> {
        if self.remaining() > limit {
            return Err(Error::EntityTooLarge);
        }
        let mut chunks = Gathered::default();
        while let Some(chunk) = self.next().await.transpose()? {
            chunks.push(chunk);
        }
        Ok(chunks.whole())
    }

    pub(crate) fn boxed(self) -> Body {
        Box::pin(self)
    }
}

impl Stream for Contents {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = ready!(reading.as_mut().poll(cx));
                self.reading = None;
                let (bytes, rest) = match read {
                    Ok(read) => read,
                    Err(error) => {
                        self.segments.clear();
                        return Poll::Ready(Some(Err(error)));
                    }
                };
                if rest.length > 0 {
                    self.segments.push_front(rest);
                }
                if bytes.is_empty() {
                    continue;
                }
                return Poll::Ready(Some(Ok(bytes)));
            }
            match self.segments.pop_front() {
                None => return Poll::Ready(None),
                Some(Segment { length: 0, .. }) => {}
                Some(Segment {
                    source: Source::Bytes(bytes),
                    ..
                }) => return Poll::Ready(Some(Ok(bytes))),
                Some(segment) => {
                    self.reading = Some(Box::pin(read(self.s3.clone(), segment)));
                }
            }
        }
    }
}

/// Reads the beginning of a segment; gives it and what is left.
async fn read(s3: S3, mut segment: Segment) -> Result<(Bytes, Segment)> {
    let file = match segment.source {
        Source::Bytes(bytes) => {
            segment.length = 0;
            segment.source = Source::Bytes(Bytes::new());
            return Ok((bytes, segment));
        }
        Source::Open(file) => file,
        Source::Place(place) => match s3.source(place).await? {
            Some(Source::Open(file)) => file,
            Some(Source::Bytes(bytes)) => {
                let from = usize::try_from(segment.offset).unwrap_or(usize::MAX);
                let to = usize::try_from(segment.offset + segment.length).unwrap_or(usize::MAX);
                if to > bytes.len() {
                    return Err(cut_short());
                }
                segment.length = 0;
                segment.source = Source::Bytes(Bytes::new());
                return Ok((bytes.slice(from..to), segment));
            }
            Some(Source::Place(_)) | None => return Err(cut_short()),
        },
    };
    let offset = segment.offset;
    let limit = usize::try_from(segment.length)
        .unwrap_or(READ_BYTES)
        .min(READ_BYTES);
    let (bytes, file) = blocking(move || match files::read_at(&file, offset, limit) {
        Ok(bytes) => Ok((bytes, file)),
        Err(source) => Err(Error::Io {
            action: "read",
            path: "a content".into(),
            source,
        }),
    })
    .await?;
    if bytes.len() < limit {
        return Err(cut_short());
    }
    let length = segment.length - bytes.len() as u64;
    let offset = offset + bytes.len() as u64;
    let rest = Segment {
        source: Source::Open(file),
        offset,
        length,
    };
    Ok((bytes, rest))
}

fn cut_short() -> Error {
    Error::Damaged("a content is shorter than its record says, or gone".to_owned())
}

impl S3 {
    /// The bytes or the open file at a place; `None` if there is nothing any more.
    pub(crate) async fn source(&self, place: Place) -> Result<Option<Source>> {
        match place {
            Place::Empty => Ok(Some(Source::Bytes(Bytes::new()))),
            Place::Inline(id) => {
                let record = self.table().get(crate::keys::inline(id))?;
                Ok(record.map(|record| Source::Bytes(record.value)))
            }
            Place::File(id) => {
                let files: Files = self.files().clone();
                let file = blocking(move || files.read(id)).await?;
                Ok(file.map(|file| Source::Open(Arc::new(file))))
            }
            Place::Parts(_) => Err(Error::Damaged("a part that has parts".to_owned())),
        }
    }
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents")
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
