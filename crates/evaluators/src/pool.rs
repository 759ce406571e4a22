//! The processes: started when they are needed, kept for a while, replaced when they have ended.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use asl::jsonata::elsewhere::Lost;

use crate::process::Process;

/// How much later than it should have ended an evaluation is ended: the library does not look at the
/// time inside of a function.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Config {
    /// What is executed; its `main` calls [`crate::worker_main`].
    pub program: PathBuf,
    /// So many at a time.
    pub most: usize,
    /// One that nobody has used for so long is ended.
    pub idle: Duration,
}

impl Config {
    pub fn of(program: PathBuf) -> Self {
        Self {
            program,
            most: crate::most(),
            idle: Duration::from_secs(30),
        }
    }
}

/// Processes that evaluate expressions.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    starter: Sender<SyncSender<io::Result<Process>>>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The one used last is at the end, and used next.
    idle: Vec<(Process, Instant)>,
    /// Idle, in use, or about to be started.
    all: usize,
}

/// A place in the pool, given back when it is dropped.
struct Place<'a>(&'a Shared);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state().all -= 1;
        self.0.freed.notify_one();
    }
}

impl Pool {
    pub fn new(config: Config) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            config,
            state: Mutex::default(),
            freed: Condvar::new(),
        });
        let (starter, wanted) = mpsc::channel();
        let of = Arc::downgrade(&shared);
        // All processes are started by one thread, since each ends with the thread that started it.
        std::thread::Builder::new()
            .name("evaluators".into())
            .spawn(move || keep(&of, &wanted))?;
        Ok(Self { shared, starter })
    }

    /// Has a request answered. Waiting for a process is part of the time.
    pub fn evaluate(&self, request: &[u8], limit: Duration) -> Result<Vec<u8>, Lost> {
        let began = Instant::now();
        let (place, process) = self.take(began + limit)?;
        let mut process = match process {
            Some(process) => process,
            None => self.start()?,
        };
        let (answer, is_more) = process.ask(request, began + limit + GRACE)?;
        if is_more {
            // The place goes back with the process in it.
            std::mem::forget(place);
            let mut state = self.shared.state();
            state.idle.push((process, Instant::now()));
            drop(state);
            self.shared.freed.notify_one();
        }
        Ok(answer)
    }

    /// The processes that there are, idle ones only.
    pub fn idle(&self) -> Vec<u32> {
        let state = self.shared.state();
        state.idle.iter().map(|(process, _)| process.id()).collect()
    }

    /// A process that is free, or the place for one.
    fn take(&self, deadline: Instant) -> Result<(Place<'_>, Option<Process>), Lost> {
        let shared = &*self.shared;
        let mut state = shared.state();
        loop {
            while let Some((mut process, _)) = state.idle.pop() {
                if !process.has_ended() {
                    return Ok((Place(shared), Some(process)));
                }
                state.all -= 1;
            }
            if state.all < shared.config.most {
                state.all += 1;
                return Ok((Place(shared), None));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Lost::Time);
            }
            let waited = shared.freed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn start(&self) -> Result<Process, Lost> {
        let (told, heard) = mpsc::sync_channel(1);
        self.starter.send(told).map_err(|_| Lost::Process)?;
        let started = heard.recv().map_err(|_| Lost::Process)?;
        started.map_err(|err| {
            tracing::error!(error = %err, "could not start a process for expressions");
            Lost::Process
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends processes that nobody has used for long. Gives how many are left.
    fn end_idle(&self) -> usize {
        let mut state = self.state();
        let now = Instant::now();
        let is_old = |used: &Instant| now.duration_since(*used) >= self.config.idle;
        let (old, kept) = std::mem::take(&mut state.idle)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, used)| is_old(used));
        state.idle = kept;
        state.all -= old.len();
        let left = state.all;
        drop(state);
        for _ in &old {
            self.freed.notify_one();
        }
        left
    }
}

/// Starts processes, and ends those that nobody uses, as long as there is a pool.
fn keep(of: &Weak<Shared>, wanted: &Receiver<SyncSender<io::Result<Process>>>) {
    let Some(config) = of.upgrade().map(|shared| shared.config.clone()) else {
        return;
    };
    let mut left = 0;
    loop {
        let next = match left {
            0 => wanted.recv().map_err(|_| RecvTimeoutError::Disconnected),
            _ => wanted.recv_timeout(config.idle / 2),
        };
        match next {
            Ok(told) => {
                // Who has given up drops the process, and with it ends it.
                let _ = told.send(Process::start(&config.program));
                left = 1;
            }
            Err(RecvTimeoutError::Timeout) => match of.upgrade() {
                Some(shared) => left = shared.end_idle(),
                None => return,
            },
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
