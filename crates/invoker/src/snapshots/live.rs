//! An image that is ready to be thawed: its description decoded, its tape compiled, its pages in a
//! file of this server's memory, or on their way there.

use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chunks::Fill;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use sandbox::Confinement;
use snapshot::{CompileOptions, Image, Tape, WorkingSet};
use tokio::sync::Notify;

use super::envelope::Header;
use super::{Metrics, Phase, Snapshots};
use crate::runtime_api::Pending;

/// How long the rest of an image waits for the first answer of an environment that has its first
/// pages.
const FIRST_ANSWER: Duration = Duration::from_millis(500);

/// The name of the side record with the pages that a first answer needs.
pub(super) const WORKING_SET: &str = "working-set";

/// See the module.
#[derive(Debug)]
pub(crate) struct LiveImage {
    pub image: Image,
    pub pending: Vec<Pending>,
    header: Header,
    confinement: Arc<Confinement>,
    pages: Pages,
    scratch: Option<OwnedFd>,
    /// Loads the pages; `None` for an image that was made here, whose pages were never elsewhere.
    fill: Option<Arc<Fill>>,
    /// Ranges of the page file that were there before `fill` began.
    packed: Option<Vec<Range<u64>>>,
    /// It was opened with a working set, but the pages that this names were not stored together.
    pub scattered: bool,
    answered: Notify,
    complete: AtomicBool,
    tapes: Mutex<Tapes>,
    working_set: Mutex<Recording>,
    used: Mutex<Instant>,
    /// Restores that failed since the last one that succeeded.
    pub failures: AtomicU32,
}

/// The file with the pages, and the same opened for reading only, which is all that a clone gets.
#[derive(Debug)]
pub(crate) struct Pages {
    file: Arc<File>,
    for_clones: File,
}

#[derive(Debug, Default)]
struct Tapes {
    /// For when all pages are there.
    plain: Option<Arc<Tape>>,
    /// For when they are not.
    faulting: Option<Arc<Tape>>,
    /// For clones that nobody waits for yet.
    unhurried: Option<Arc<Tape>>,
}

/// What a tape is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// All pages are there, and somebody waits.
    AtOnce,
    /// Pages may be missing.
    Faulting,
    /// Nobody waits yet.
    Unhurried,
}

#[derive(Debug)]
enum Recording {
    Wanted,
    /// By one environment.
    UnderWay,
    Known(Arc<WorkingSet>),
}

/// Why an image cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiveError {
    #[error("cannot keep the image in memory")]
    Memory(#[from] io::Error),
    #[error("the image cannot be thawed: {0}")]
    Compile(#[from] snapshot::TapeError),
    #[error("pages of the image cannot be read")]
    Pages(#[source] chunks::Error),
}

impl LiveError {
    /// Whether what is stored is at fault, so that it has to be made anew.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Pages(err) => err.is_damage(),
            Self::Compile(_) => true,
            Self::Memory(_) => false,
        }
    }
}

/// What brings the pages of an image.
pub(crate) struct Filling {
    pub fill: Arc<Fill>,
    /// What is there already.
    pub packed: Option<Vec<Range<u64>>>,
}

/// What a thaw needs.
pub(crate) struct Ready {
    pub tape: Arc<Tape>,
    /// Pages that are not there yet are asked for here.
    pub fill: Option<Arc<Fill>>,
}

impl Pages {
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("firn-pages", flags)?);
        // Else whoever got hold of a descriptor could open it again for writing.
        rustix::fs::fchmod(&file, Mode::RUSR)?;
        Self::of(file)
    }

    fn of(file: File) -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let for_clones = rustix::fs::open(path, flags, Mode::empty())?.into();
        Ok(Self {
            file: Arc::new(file),
            for_clones,
        })
    }

    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// From here on nobody can change it.
    fn seal(&self) {
        let seals = SealFlags::SEAL | SealFlags::GROW | SealFlags::SHRINK | SealFlags::WRITE;
        if let Err(err) = rustix::fs::fcntl_add_seals(&*self.file, seals) {
            tracing::warn!(error = %err, "cannot seal the pages of an image");
        }
    }
}

impl LiveImage {
    /// For pages that are all there. Compiles: to be called where blocking is allowed.
    pub fn complete(
        (header, image): (Header, Image),
        confinement: &Arc<Confinement>,
        pages: Pages,
        metrics: &Metrics,
    ) -> Result<Self, LiveError> {
        pages.seal();
        let live = Self::new((header, image), confinement, pages, None, None)?;
        live.compile_plain(metrics)?;
        Ok(live)
    }

    /// For pages that `fill` brings. Compiles: to be called where blocking is allowed.
    pub fn filling(
        (header, image): (Header, Image),
        confinement: &Arc<Confinement>,
        pages: Pages,
        filling: Filling,
        working_set: Option<WorkingSet>,
        metrics: &Metrics,
    ) -> Result<Self, LiveError> {
        let live = Self::new(
            (header, image),
            confinement,
            pages,
            Some(filling),
            working_set,
        )?;
        // Memory that is not shared is read by the tape, all of it.
        if live.header.shares_memory {
            let tape = live.compile(Pace::Faulting, metrics)?;
            live.tapes().faulting = Some(Arc::new(tape));
        }
        Ok(live)
    }

    fn new(
        (header, image): (Header, Image),
        confinement: &Arc<Confinement>,
        pages: Pages,
        filling: Option<Filling>,
        working_set: Option<WorkingSet>,
    ) -> io::Result<Self> {
        let (fill, packed) = match filling {
            Some(Filling { fill, packed }) => (Some(fill), packed),
            None => (None, None),
        };
        let scratch = snapshot::encode_scratch(&image);
        Ok(Self {
            scattered: fill.is_some() && working_set.is_some() && packed.is_none(),
            pending: header.pending.clone(),
            scratch: scratch.map(|list| list_file(&list)).transpose()?,
            complete: AtomicBool::new(fill.is_none()),
            working_set: Mutex::new(match working_set {
                Some(known) => Recording::Known(Arc::new(known)),
                None => Recording::Wanted,
            }),
            confinement: Arc::clone(confinement),
            image,
            header,
            pages,
            fill,
            packed,
            answered: Notify::new(),
            tapes: Mutex::default(),
            used: Mutex::new(Instant::now()),
            failures: AtomicU32::new(0),
        })
    }

    /// Bytes of this server's memory that it takes when it is complete.
    pub fn bytes(&self) -> u64 {
        self.image.pages_len
    }

    pub fn pages(&self) -> BorrowedFd<'_> {
        self.pages.for_clones.as_fd()
    }

    pub fn token(&self) -> Option<&str> {
        Some(self.header.token.as_str()).filter(|token| !token.is_empty())
    }

    pub fn scratch(&self) -> Option<BorrowedFd<'_>> {
        self.scratch.as_ref().map(AsFd::as_fd)
    }

    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    pub fn has_log_pipe(&self) -> bool {
        let log = snapshot::Kind::External(snapshot::External::Log);
        self.image
            .descriptions
            .iter()
            .any(|description| description.kind == log)
    }

    pub fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for what a thaw cannot do without: with page faults served on demand, for the pages
    /// that the tape itself reads and those that were needed the last time; without, for all.
    pub async fn ready(&self, can_fault: bool, metrics: &Metrics) -> Result<Ready, LiveError> {
        if self.is_complete() {
            let plain = self.tapes().plain.clone();
            if let Some(tape) = plain {
                return Ok(Ready { tape, fill: None });
            }
        }
        let faulting = self.tapes().faulting.clone().filter(|_| can_fault);
        if let (Some(tape), Some(fill)) = (faulting, &self.fill) {
            let began = Instant::now();
            fill.first().await.map_err(LiveError::Pages)?;
            for range in self.required(&tape) {
                if !self.is_packed(&range) && !fill.present(range.clone()) {
                    fill.demand(range).await.map_err(LiveError::Pages)?;
                }
            }
            metrics.lap(Phase::FillFirst, began);
            return Ok(Ready {
                tape,
                fill: Some(Arc::clone(fill)),
            });
        }
        if let Some(fill) = &self.fill {
            fill.all().await.map_err(LiveError::Pages)?;
        }
        // Between the last page and the task that compiles for it.
        let plain = self.tapes().plain.clone();
        let tape = match plain {
            Some(tape) => tape,
            None => self.compile_plain(metrics)?,
        };
        Ok(Ready { tape, fill: None })
    }

    /// The tape of a clone that is made ahead of time, from an image that is complete.
    pub async fn ahead(self: &Arc<Self>, snapshots: &Arc<Snapshots>) -> Result<Ready, LiveError> {
        if self.working_set().is_none() {
            return self.ready(false, snapshots.metrics()).await;
        }
        let known = self.tapes().unhurried.clone();
        let tape = match known {
            Some(tape) => tape,
            None => {
                let (live, snapshots) = (Arc::clone(self), Arc::clone(snapshots));
                let compiling = move || {
                    let tape = Arc::new(live.compile(Pace::Unhurried, snapshots.metrics())?);
                    live.tapes().unhurried = Some(Arc::clone(&tape));
                    Ok::<_, LiveError>(tape)
                };
                let compiled = tokio::task::spawn_blocking(compiling).await;
                compiled.map_err(io::Error::other)??
            }
        };
        Ok(Ready { tape, fill: None })
    }

    fn is_packed(&self, range: &Range<u64>) -> bool {
        let mut packed = self.packed.iter().flatten();
        packed.any(|packed| packed.start <= range.start && range.end <= packed.end)
    }

    /// An environment made from this has answered for the first time.
    pub fn has_answered(&self) {
        self.answered.notify_one();
    }

    /// Waits until all pages are there, and prepares for that. Loses nothing when dropped.
    pub async fn completed(self: &Arc<Self>, snapshots: &Arc<Snapshots>) -> Result<(), LiveError> {
        if self.packed.is_some() {
            // Whoever waits for the first answer has the machine for itself.
            let _ = tokio::time::timeout(FIRST_ANSWER, self.answered.notified()).await;
        }
        if let Some(fill) = &self.fill {
            fill.all().await.map_err(LiveError::Pages)?;
        }
        let (live, snapshots) = (Arc::clone(self), Arc::clone(snapshots));
        let compiled = tokio::task::spawn_blocking(move || {
            live.pages.seal();
            let known = live.working_set().is_some();
            live.compile_plain(snapshots.metrics())?;
            live.complete.store(true, Ordering::Release);
            // Recorded in between, and by someone who saw that it was not complete.
            if !known && live.working_set().is_some() {
                live.compile_plain(snapshots.metrics())?;
            }
            live.compact();
            Ok(())
        });
        compiled.await.map_err(io::Error::other)?
    }

    /// True for the one environment that is to find out what a first answer needs.
    pub fn wants_recording(&self) -> bool {
        let mut recording = self.recording();
        let wanted = matches!(*recording, Recording::Wanted);
        if wanted {
            *recording = Recording::UnderWay;
        }
        wanted
    }

    /// It did not find out; another one may try.
    pub fn recording_failed(&self) {
        *self.recording() = Recording::Wanted;
    }

    /// Takes over what a first answer needed. To be called where blocking is allowed.
    pub fn recorded(&self, set: WorkingSet, metrics: &Metrics) {
        *self.recording() = Recording::Known(Arc::new(set));
        self.tapes().unhurried = None;
        if self.is_complete()
            && let Err(err) = self.compile_plain(metrics)
        {
            tracing::warn!(error = %err, "cannot compile an image with its working set");
        }
        self.compact();
    }

    /// Puts the pages into larger pieces of memory. Not before it has been recorded what an answer
    /// needs: each piece counts as needed as a whole.
    fn compact(&self) {
        if !self.is_complete() || self.working_set().is_none() || !self.header.shares_memory {
            return;
        }
        if let Err(err) = snapshot::compact(self.pages(), self.bytes()) {
            tracing::warn!(error = %err, "cannot move an image into huge pages");
        }
    }

    pub fn working_set(&self) -> Option<Arc<WorkingSet>> {
        match &*self.recording() {
            Recording::Known(set) => Some(Arc::clone(set)),
            Recording::Wanted | Recording::UnderWay => None,
        }
    }

    /// Ranges of the page file that are read by means that cannot wait for them: by the tape, and by
    /// whoever restores scratch files.
    fn required(&self, tape: &Tape) -> Vec<Range<u64>> {
        let by_tape = tape
            .required()
            .iter()
            .map(|(offset, length)| *offset..offset + length);
        by_tape.chain(snapshot::required(&self.image)).collect()
    }

    fn compile_plain(&self, metrics: &Metrics) -> Result<Arc<Tape>, LiveError> {
        let tape = Arc::new(self.compile(Pace::AtOnce, metrics)?);
        self.tapes().plain = Some(Arc::clone(&tape));
        Ok(tape)
    }

    fn compile(&self, pace: Pace, metrics: &Metrics) -> Result<Tape, LiveError> {
        let began = Instant::now();
        let set = self.working_set();
        let options = CompileOptions {
            memory: self.header.memory(),
            userfault: pace == Pace::Faulting,
            working_set: set.as_deref(),
            unhurried: pace == Pace::Unhurried,
            confinement: Some(snapshot::Confinement {
                uid: self.confinement.uid,
                gid: self.confinement.gid,
                drop_groups: self.confinement.drop_groups,
                filter: &self.confinement.filter,
            }),
            ..CompileOptions::default()
        };
        let tape = snapshot::compile(&self.image, &options)?;
        metrics.lap(Phase::Compile, began);
        Ok(tape)
    }

    fn tapes(&self) -> MutexGuard<'_, Tapes> {
        // Nothing panics under the lock.
        self.tapes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recording(&self) -> MutexGuard<'_, Recording> {
        self.working_set
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn list_file(list: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("firn-scratch", flags)?);
    file.write_all(list)?;
    let seals = SealFlags::SEAL | SealFlags::GROW | SealFlags::SHRINK | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// The parts of the page file that a recorded working set names, within the file.
pub(super) fn touched(set: &WorkingSet, length: u64) -> Vec<Range<u64>> {
    set.touched
        .iter()
        .map(|(offset, count)| *offset..offset.saturating_add(*count).min(length))
        .filter(|range| range.start < range.end)
        .collect()
}
