//! Pages of a clone that were not in memory yet when it was thawed: each fault is answered as soon
//! as the page has been read from the store and verified.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chunks::Fill;
use sandbox::Process;
use snapshot::{Pager, PagerEvent, Recorder};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::snapshots::{LiveError, LiveImage, Phase, Revision, Snapshots};

const SIGKILL: i32 = 9;

/// Serves the page faults of one clone.
pub(super) struct Paging {
    pub snapshots: Arc<Snapshots>,
    pub revision: Arc<Revision>,
    pub live: Arc<LiveImage>,
    pub fill: Arc<Fill>,
    pub process: Arc<Process>,
    /// Set when a page could not be had; the clone has been killed then.
    pub failed: Arc<AtomicBool>,
}

/// Both ends of the socket over which a clone hands over its descriptor; only ours does not block.
pub(super) fn handover() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

/// For a clone whose pages are all there.
pub(super) async fn receive_recorder(socket: UnixStream) -> io::Result<Recorder> {
    let receive = || Recorder::receive(socket.as_fd());
    socket.async_io(Interest::READABLE, receive).await
}

/// Why pages are not served any more.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot serve page faults")]
    Io(#[from] io::Error),
    #[error("a page cannot be had")]
    Page(#[from] chunks::Error),
    #[error("a task ended before it served a page")]
    Task(#[from] tokio::task::JoinError),
}

impl Paging {
    /// Serves until the clone has ended. A page that cannot be had ends it: it never runs with
    /// wrong memory.
    pub async fn serve(self, socket: UnixStream) {
        if let Err(err) = self.run(socket).await {
            tracing::warn!(
                error = &err as &dyn std::error::Error,
                "an environment lost its memory and is ended",
            );
            // First of all, so that whoever starts another one instead does not use it again.
            if let Failure::Page(err) = err {
                let (snapshots, revision) = (&self.snapshots, &self.revision);
                snapshots.lost_image(revision, &self.live, &LiveError::Pages(err));
            }
            self.failed.store(true, Ordering::Release);
            if let Err(err) = self.process.signal(SIGKILL) {
                tracing::error!(error = %err, "cannot end an environment without memory");
            }
        }
    }

    async fn run(&self, socket: UnixStream) -> Result<(), Failure> {
        let receive = || Pager::receive(socket.as_fd(), &self.live.image);
        let pager = match socket.async_io(Interest::READABLE, receive).await {
            Ok(pager) => pager,
            // The clone ended before it got so far; others notice that.
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(err) => return Err(err.into()),
        };
        drop(socket);
        let origin = (Arc::clone(&self.live), Arc::clone(&self.fill));
        serve(pager, origin, Arc::clone(&self.snapshots)).await
    }
}

/// Serves one address space and those of its children, for as long as it is not dropped.
fn serve(
    pager: Pager,
    (live, fill): (Arc<LiveImage>, Arc<Fill>),
    snapshots: Arc<Snapshots>,
) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>> {
    Box::pin(async move {
        let descriptor = pager.as_fd().try_clone_to_owned()?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, for types whose descriptor can change; an \
                      OwnedFd's cannot"
        )]
        let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
        let pager = Arc::new(Mutex::new(pager));
        let mut under_way = JoinSet::new();
        loop {
            let mut ready = tokio::select! {
                ready = descriptor.readable() => ready?,
                Some(ended) = under_way.join_next() => {
                    ended??;
                    continue;
                }
            };
            // Before the events are taken, so that one that comes meanwhile is not lost.
            ready.clear_ready();
            let events = lock(&pager).events()?;
            for event in events {
                match event {
                    PagerEvent::Fault(fault) => {
                        let (pager, fill) = (Arc::clone(&pager), Arc::clone(&fill));
                        let snapshots = Arc::clone(&snapshots);
                        live.miss(fault.pages.clone());
                        under_way.spawn(async move {
                            let began = Instant::now();
                            fill.demand(fault.pages.clone()).await?;
                            lock(&pager).wake(&fault)?;
                            snapshots.metrics().lap(Phase::Demand, began);
                            Ok(())
                        });
                    }
                    PagerEvent::Forked(child) => {
                        let origin = (Arc::clone(&live), Arc::clone(&fill));
                        let served = serve(child, origin, Arc::clone(&snapshots));
                        under_way.spawn(served);
                    }
                }
            }
        }
    })
}

fn lock(pager: &Mutex<Pager>) -> MutexGuard<'_, Pager> {
    // Nothing panics under the lock.
    pager.lock().unwrap_or_else(PoisonError::into_inner)
}
