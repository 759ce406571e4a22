//! What is under way on an environment's Runtime API connections.
//!
//! A snapshot must not be cut in the middle of a request: what the server has read of one, or has
//! still in its buffers, is in no image, and the thawed process would wait for its answer for ever.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// The connections of one environment.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    open: Mutex<Open>,
    settled: Notify,
    /// Counts connections, and reads that brought something.
    activity: AtomicU64,
}

/// A moment of quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quiet(u64);

#[derive(Debug, Default)]
struct Open {
    listener: Weak<TcpListener>,
    lines: Vec<Weak<Line>>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    stage: AtomicU8,
    traffic: Arc<Traffic>,
}

/// No request is under way.
const IDLE: u8 = 0;
/// A request comes in, or is being served.
const BUSY: u8 = 1;
/// A request is here as a whole, and its answer will come from the invoker.
const WAITING: u8 = 2;
/// The answer is being written.
const ANSWERING: u8 = 3;

const A_MOMENT: Duration = Duration::from_millis(1);

/// The server's end of a connection, as a stream of bytes that may begin with a request from
/// before the snapshot.
#[derive(Debug)]
pub(super) struct Connection {
    line: Arc<Line>,
    replay: Bytes,
}

impl Traffic {
    pub fn listen(&self, listener: &Arc<TcpListener>) {
        self.lock().listener = Arc::downgrade(listener);
    }

    /// Takes a connection over, with what is to be read from it before its own bytes.
    pub fn connect(self: &Arc<Self>, stream: TcpStream, replay: Bytes) -> Connection {
        let line = Arc::new(Line {
            stream,
            stage: AtomicU8::new(IDLE),
            traffic: Arc::clone(self),
        });
        self.activity.fetch_add(1, Ordering::AcqRel);
        let mut open = self.lock();
        open.lines.retain(|line| line.strong_count() > 0);
        open.lines.push(Arc::downgrade(&line));
        drop(open);
        Connection { line, replay }
    }

    /// Resolves when every request that has begun is answered, or waits for the invoker.
    pub async fn quiet(&self) -> Quiet {
        loop {
            let settled = self.settled.notified();
            let activity = self.activity.load(Ordering::Acquire);
            if self.is_quiet() {
                self.acknowledge();
                return Quiet(activity);
            }
            if self.is_settled() {
                // What the kernel has will be taken from it in a moment, and nobody tells when.
                tokio::time::sleep(A_MOMENT).await;
            } else {
                settled.await;
            }
        }
    }

    /// Whether nothing came in between that moment and the end of all processes, for which this
    /// waits: what they still sent has arrived before their connections end.
    pub async fn lasted(&self, since: Quiet) -> bool {
        loop {
            let ended = {
                let open = self.lock();
                open.lines().next().is_none() && !open.is_knocked_at()
            };
            if ended {
                return self.activity.load(Ordering::Acquire) == since.0;
            }
            tokio::time::sleep(A_MOMENT).await;
        }
    }

    /// Whether that is so, and no byte and no connection waits to be taken from the kernel.
    pub fn is_quiet(&self) -> bool {
        let open = self.lock();
        let unread = |line: &Line| rustix::io::ioctl_fionread(&line.stream).is_ok_and(|n| n > 0);
        !open.is_knocked_at() && open.lines().all(|line| line.is_settled() && !unread(&line))
    }

    /// Has the kernel acknowledge at once what was read. Until it does, which may take 40 ms, the
    /// other ends count it as not sent.
    fn acknowledge(&self) {
        for line in self.lock().lines() {
            // Where it cannot be done there is nothing to acknowledge.
            let _ = rustix::net::sockopt::set_tcp_quickack(&line.stream, true);
        }
    }

    fn is_settled(&self) -> bool {
        self.lock().lines().all(|line| line.is_settled())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing panics under the lock, so the list is whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// A connection waits to be accepted.
    fn is_knocked_at(&self) -> bool {
        let listener = self.listener.upgrade();
        listener.is_some_and(|listener| is_readable(&listener))
    }

    fn lines(&self) -> impl Iterator<Item = Arc<Line>> {
        self.lines.iter().filter_map(Weak::upgrade)
    }
}

fn is_readable(listener: &TcpListener) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    matches!(rustix::event::poll(&mut fds, Some(&Timespec::default())), Ok(n) if n > 0)
}

impl Line {
    /// The request is here as a whole; its answer depends on the invoker.
    pub fn waits(&self) {
        self.set(WAITING);
    }

    /// The answer is there: all that is left is to write it.
    pub fn answers(&self) {
        self.set(ANSWERING);
    }

    fn set(&self, stage: u8) {
        self.stage.store(stage, Ordering::Release);
        if matches!(stage, IDLE | WAITING) {
            self.traffic.settled.notify_waiters();
        }
    }

    fn is_settled(&self) -> bool {
        matches!(self.stage.load(Ordering::Acquire), IDLE | WAITING)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.traffic.settled.notify_waiters();
    }
}

impl Connection {
    pub fn line(&self) -> &Arc<Line> {
        &self.line
    }

    fn read_into(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.replay.is_empty() {
            let taken = self.replay.len().min(buffer.remaining());
            buffer.put_slice(&self.replay[..taken]);
            self.replay.advance(taken);
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.line.stream.poll_read_ready(cx))?;
            match self.line.stream.try_read_buf(buffer) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Ok(())),
                read => {
                    self.line.traffic.activity.fetch_add(1, Ordering::AcqRel);
                    return Poll::Ready(read.map(drop));
                }
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(self.read_into(buffer, cx));
        if buffer.filled().len() > before {
            // What comes while a request waits belongs to a next one.
            self.line.set(BUSY);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = &self.line.stream;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_write(bytes) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = &self.line.stream;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_write_vectored(slices) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Called when a message has been written: a socket has nothing to flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.line.stage.load(Ordering::Acquire) == ANSWERING {
            self.line.set(IDLE);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = rustix::net::shutdown(&self.line.stream, rustix::net::Shutdown::Write);
        Poll::Ready(ended.map_err(io::Error::from))
    }
}
