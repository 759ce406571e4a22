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
use snapshot::{CompileOptions, Image, Recorder, Tape, WorkingSet};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::envelope::Header;
use super::{Metrics, Phase, Snapshots};
use crate::runtime_api::Pending;

/// How long the rest of an image waits for the first answer of an environment that has its first
/// pages.
const FIRST_ANSWER: Duration = Duration::from_millis(500);

/// How often what other first answers needed beside it is added to a recorded working set: enough for
/// what varies a little, an end for what is never the same.
const MAX_ADDITIONS: u32 = 4;

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
    /// Pages that a clone had to wait for although those that are needed were there.
    missed: Mutex<Vec<Range<u64>>>,
    /// Whether a clone can be made to show exactly what it uses.
    records_exactly: bool,
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
    /// For the clone that shows what a first answer needs.
    recording: Option<Arc<Tape>>,
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
    /// As [`Self::AtOnce`], and it is to be seen which pages are used.
    Recording,
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
    /// A recorder is to be received from the clone.
    pub recording: bool,
}

impl Ready {
    fn plain(tape: Arc<Tape>) -> Self {
        Self {
            tape,
            fill: None,
            recording: false,
        }
    }
}

/// Held for the one environment that shows what a first answer needs. When it is dropped before that
/// is known, it is another one's turn.
#[derive(Debug)]
pub(crate) struct Turn {
    live: Arc<LiveImage>,
    recorder: Option<JoinHandle<io::Result<Recorder>>>,
}

impl Turn {
    /// `None` if it is known, or another one's turn.
    pub fn take(live: &Arc<LiveImage>) -> Option<Self> {
        let mut recording = live.recording();
        if !matches!(*recording, Recording::Wanted) {
            return None;
        }
        *recording = Recording::UnderWay;
        drop(recording);
        Some(Self {
            live: Arc::clone(live),
            recorder: None,
        })
    }

    /// What `receiving` brings is kept until [`Self::recorder`].
    pub fn keep(&mut self, receiving: JoinHandle<io::Result<Recorder>>) {
        self.recorder = Some(receiving);
    }

    /// `None` if more may seem to have been used than was.
    pub async fn recorder(&mut self) -> Option<Recorder> {
        match self.recorder.take()?.await {
            Ok(Ok(recorder)) => Some(recorder),
            Ok(Err(err)) => {
                tracing::warn!(error = %err, "a snapshot's pages are not recorded one by one");
                None
            }
            Err(_) => None,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut recording = self.live.recording();
        if matches!(*recording, Recording::UnderWay) {
            *recording = Recording::Wanted;
        }
    }
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
        snapshots: &Snapshots,
    ) -> Result<Self, LiveError> {
        pages.seal();
        let mut live = Self::new((header, image), confinement, pages, None, None)?;
        live.records_exactly = snapshots.records_exactly;
        live.compile_complete(snapshots.metrics())?;
        Ok(live)
    }

    /// For pages that `fill` brings. Compiles: to be called where blocking is allowed.
    pub fn filling(
        (header, image): (Header, Image),
        confinement: &Arc<Confinement>,
        pages: Pages,
        filling: Filling,
        working_set: Option<WorkingSet>,
        snapshots: &Snapshots,
    ) -> Result<Self, LiveError> {
        let mut live = Self::new(
            (header, image),
            confinement,
            pages,
            Some(filling),
            working_set,
        )?;
        live.records_exactly = snapshots.records_exactly;
        // Memory that is not shared is read by the tape, all of it.
        if live.header.shares_memory {
            let tape = live.compile(Pace::Faulting, snapshots.metrics())?;
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
            missed: Mutex::default(),
            records_exactly: false,
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
                return Ok(Ready::plain(tape));
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
                recording: false,
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
        Ok(Ready::plain(tape))
    }

    /// For the clone that shows what a first answer needs, if it can be made to show just that. One
    /// of an image that is still being loaded does so anyway.
    pub fn recorded_next(&self) -> Option<Ready> {
        let tape = self.tapes().recording.clone()?;
        Some(Ready {
            tape,
            fill: None,
            recording: true,
        })
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
        Ok(Ready::plain(tape))
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
            // What comes after a first answer is nobody's.
            live.lock_missed().clear();
            let known = live.working_set().is_some();
            live.compile_complete(snapshots.metrics())?;
            live.complete.store(true, Ordering::Release);
            // Recorded in between, and by someone who saw that it was not complete.
            if !known && live.working_set().is_some() {
                live.compile_plain(snapshots.metrics())?;
                live.tapes().recording = None;
            }
            live.compact();
            Ok(())
        });
        compiled.await.map_err(io::Error::other)?
    }

    /// A clone waits for these pages.
    pub fn miss(&self, pages: Range<u64>) {
        if self.packed.is_some() {
            self.lock_missed().push(pages);
        }
    }

    /// The working set with what was missed, unless nothing was, or that was so too often.
    pub fn grown(&self) -> Option<Arc<WorkingSet>> {
        let missed = std::mem::take(&mut *self.lock_missed());
        let mut recording = self.recording();
        let Recording::Known(known) = &mut *recording else {
            return None;
        };
        if missed.is_empty() || known.additions >= MAX_ADDITIONS {
            return None;
        }
        Arc::make_mut(known).add(missed);
        Some(Arc::clone(known))
    }

    fn lock_missed(&self) -> MutexGuard<'_, Vec<Range<u64>>> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what a first answer needed. To be called where blocking is allowed.
    pub fn recorded(&self, set: WorkingSet, metrics: &Metrics) {
        *self.recording() = Recording::Known(Arc::new(set));
        {
            let mut tapes = self.tapes();
            (tapes.unhurried, tapes.recording) = (None, None);
        }
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

    /// The tapes for when all pages are there.
    fn compile_complete(&self, metrics: &Metrics) -> Result<(), LiveError> {
        self.compile_plain(metrics)?;
        let unknown = self.working_set().is_none();
        if unknown && self.records_exactly && self.header.shares_memory {
            let tape = self.compile(Pace::Recording, metrics)?;
            self.tapes().recording = Some(Arc::new(tape));
        }
        Ok(())
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
            page_by_page: match pace {
                Pace::Recording => true,
                Pace::Faulting => set.is_none() && self.records_exactly,
                Pace::AtOnce | Pace::Unhurried => false,
            },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn live(working_set: Option<WorkingSet>) -> Arc<LiveImage> {
        let header = Header {
            pending: Vec::new(),
            token: String::new(),
            shares_memory: true,
        };
        let parts = (header, snapshot::example::image());
        let confinement = Arc::new(Confinement {
            uid: 993,
            gid: 990,
            drop_groups: false,
            filter: Vec::new(),
        });
        let pages = Pages::new().unwrap();
        let mut live = LiveImage::new(parts, &confinement, pages, None, working_set).unwrap();
        live.packed = Some(Vec::new());
        live.records_exactly = true;
        Arc::new(live)
    }

    #[test]
    fn one_environment_at_a_time_shows_what_a_first_answer_needs() {
        let live = live(None);
        let turn = Turn::take(&live).unwrap();
        assert!(Turn::take(&live).is_none());
        // It ended without an answer.
        drop(turn);
        let turn = Turn::take(&live).unwrap();
        live.recorded(WorkingSet::default(), &Metrics::default());
        drop(turn);
        assert!(Turn::take(&live).is_none());
        assert!(live.working_set().is_some());
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn only_until_it_is_known_is_there_a_tape_that_shows_it() {
        let live = live(None);
        assert!(live.recorded_next().is_none());
        live.compile_complete(&Metrics::default()).unwrap();
        assert!(live.recorded_next().unwrap().recording);
        live.recorded(WorkingSet::default(), &Metrics::default());
        assert!(live.recorded_next().is_none());
        live.compile_complete(&Metrics::default()).unwrap();
        assert!(live.recorded_next().is_none());
    }

    #[test]
    fn what_was_missed_is_added_a_few_times() {
        let live = live(Some(WorkingSet {
            touched: vec![(0, 4096)],
            ..WorkingSet::default()
        }));
        assert!(live.grown().is_none());
        for time in 1..=u64::from(MAX_ADDITIONS) {
            live.miss(8192 * time..8192 * time + 4096);
            let set = live.grown().unwrap();
            assert_eq!(set.touched.len() as u64, 1 + time);
            assert_eq!(live.working_set(), Some(set));
            assert!(live.grown().is_none(), "it is known by now");
        }
        live.miss(0x10_0000..0x10_1000);
        assert!(live.grown().is_none());
    }
}
