//! The server's side of the spawner: requests, the table of environments, and the pool.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::link::Link;
use crate::mounts::Spare;
use crate::sandbox::{Environment, Prepared};
use crate::wire::{Abilities, Failure, FromSpawner, ToSpawner};
use crate::{Config, Error, cgroup, wire};

/// No step of making an environment takes this long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the pool waits after a failure before it tries again.
const RETRY: Duration = Duration::from_secs(1);
/// Making an environment takes milliseconds of a processor, which whoever has just taken one needs
/// more: as long as others are left, the pool is filled up this much later.
const GIVE_WAY: Duration = Duration::from_millis(20);

/// One server's environments.
#[derive(Debug)]
pub struct Service {
    pub config: Config,
    spawner: Mutex<Option<Arc<Link>>>,
    abilities: Mutex<Abilities>,
    table: Mutex<Table>,
    pool: Mutex<Pool>,
    spare: Mutex<Spare>,
    pub stopping: AtomicBool,
    /// True once the spawner has exited for good.
    pub finished: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    free_slots: VecDeque<u32>,
    next_slot: u32,
    environments: HashMap<u64, Entry>,
    opens: HashMap<u64, oneshot::Sender<Result<Vec<OwnedFd>, Failure>>>,
}

#[derive(Debug)]
struct Entry {
    slot: u32,
    created: Option<oneshot::Sender<Result<cgroup::Paths, Failure>>>,
    gone: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Pool {
    ready: VecDeque<Prepared>,
    waiting: VecDeque<oneshot::Sender<Result<Prepared, Error>>>,
    creating: usize,
    retry_pending: bool,
    refill_pending: bool,
    tasks: JoinSet<()>,
}

/// A panic while one of these locks was held leaves data that is still consistent: every critical
/// section is a handful of infallible operations.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            spawner: Mutex::default(),
            abilities: Mutex::default(),
            table: Mutex::default(),
            pool: Mutex::default(),
            spare: Mutex::default(),
            stopping: AtomicBool::new(false),
            finished: watch::Sender::new(false),
        }
    }

    pub fn abilities(&self) -> Abilities {
        lock(&self.abilities).clone()
    }

    /// Takes a newly started spawner into service.
    pub fn attach(self: &Arc<Self>, link: Link, abilities: Abilities) {
        let link = Arc::new(link);
        *lock(&self.abilities) = abilities;
        *lock(&self.spawner) = Some(Arc::clone(&link));
        if self.is_stopping() {
            link.close();
        }
        let service = Arc::clone(self);
        lock(&self.pool)
            .tasks
            .spawn(async move { service.read(&link).await });
        self.replenish();
    }

    /// The spawner has exited, and the kernel has killed all its environments.
    pub fn detach(self: &Arc<Self>) {
        *lock(&self.spawner) = None;
        lock(&self.spare).clear();
        let (environments, opens) = {
            let mut table = lock(&self.table);
            let environments = std::mem::take(&mut table.environments);
            table
                .free_slots
                .extend(environments.values().map(|entry| entry.slot));
            (environments, std::mem::take(&mut table.opens))
        };
        for entry in environments.into_values() {
            entry.gone.send_replace(true);
        }
        drop(opens);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Lets the spawner end everything.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(spawner) = lock(&self.spawner).as_ref() {
            spawner.close();
        }
        let (ready, waiting) = {
            let mut pool = lock(&self.pool);
            pool.tasks.abort_all();
            (
                std::mem::take(&mut pool.ready),
                std::mem::take(&mut pool.waiting),
            )
        };
        drop((ready, waiting));
    }

    fn spawner(&self) -> Result<Arc<Link>, Error> {
        lock(&self.spawner)
            .clone()
            .ok_or(Error::Ended("the spawner"))
    }

    async fn read(&self, link: &Link) {
        loop {
            match link.receive().await {
                Ok(Some((message, fds))) => self.dispatch(message, fds),
                Ok(None) => return,
                Err(err) => {
                    tracing::error!(error = %err, "the spawner sent what cannot be read");
                    return link.close();
                }
            }
        }
    }

    fn dispatch(&self, message: FromSpawner, fds: Vec<OwnedFd>) {
        let mut table = lock(&self.table);
        match message {
            FromSpawner::Created { id, cgroup } => table.created(id, Ok(cgroup)),
            FromSpawner::NotCreated { id, failure } => {
                table.created(id, Err(failure));
                table.gone(id);
            }
            FromSpawner::Opened { request } => table.opened(request, Ok(fds)),
            FromSpawner::NotOpened { request, failure } => table.opened(request, Err(failure)),
            FromSpawner::Gone { id } => table.gone(id),
            FromSpawner::Started(_) | FromSpawner::Refused(_) => {}
        }
    }

    /// Opens host paths as detached mounts.
    pub async fn open(self: &Arc<Self>, sources: Vec<String>) -> Result<Vec<OwnedFd>, Error> {
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let spare = lock(&self.spare).take(&sources);
        self.open_spare(sources.clone());
        match spare {
            Some(mounts) => Ok(mounts),
            None => self.open_now(sources).await,
        }
    }

    /// Has the next set ready for whoever wants the same.
    fn open_spare(self: &Arc<Self>, sources: Vec<String>) {
        let service = Arc::clone(self);
        lock(&self.pool).tasks.spawn(async move {
            tokio::time::sleep(GIVE_WAY).await;
            // Without it the next start opens them itself, and reports what is wrong.
            if let Ok(mounts) = service.open_now(sources.clone()).await {
                lock(&service.spare).put(sources, mounts);
            }
        });
    }

    async fn open_now(&self, sources: Vec<String>) -> Result<Vec<OwnedFd>, Error> {
        let (sender, receiver) = oneshot::channel();
        let request = lock(&self.table).expect_open(sender);
        let message = ToSpawner::Open { request, sources };
        let sent = self.spawner()?.send(&message, &[]).await;
        sent.map_err(|err| Error::io("ask the spawner for mounts", err))?;
        Ok(patiently("open the mounts", receiver)
            .await?
            .map_err(|_| ENDED)??)
    }

    async fn create(self: &Arc<Self>) -> Result<Prepared, Error> {
        let (ours, theirs) =
            wire::pair().map_err(|err| Error::io("create a control socket", err))?;
        let link = Link::new(ours).map_err(|err| Error::io("watch a control socket", err))?;
        let (sender, receiver) = oneshot::channel();
        let (id, slot, gone) = lock(&self.table).admit(self.config.max_environments, sender)?;
        let abandoned = Abandoned { service: self, id };
        let message = ToSpawner::Create { id, slot };
        let sent = self.spawner()?.send(&message, &[theirs.as_fd()]).await;
        sent.map_err(|err| Error::io("ask the spawner for an environment", err))?;
        drop(theirs);
        let paths = patiently("create an environment", receiver)
            .await?
            .map_err(|_| ENDED)??;
        let ready = Environment::ready(Arc::clone(self), id, link, paths, gone);
        let prepared = patiently("prepare an environment", ready).await??;
        std::mem::forget(abandoned);
        Ok(prepared)
    }

    /// Asks for the end of an environment; `Gone` follows.
    pub fn destroy(&self, id: u64) {
        let Ok(spawner) = self.spawner() else { return };
        if let Err(err) = spawner.try_send(&ToSpawner::Destroy { id }) {
            if err.kind() == std::io::ErrorKind::BrokenPipe {
                // A spawner that has ended took its environments with it.
                return;
            }
            // Its control socket is closed as well, which ends it in all but pathological cases.
            tracing::warn!(error = %err, id, "could not ask the spawner to end an environment");
        }
    }

    /// A prepared environment, from the pool or made for the caller.
    pub async fn take(self: &Arc<Self>) -> Result<Prepared, Error> {
        let receiver = {
            let mut pool = lock(&self.pool);
            loop {
                match pool.ready.pop_front() {
                    Some(prepared) if prepared.has_ended() => {}
                    Some(prepared) if pool.ready.is_empty() => {
                        drop(pool);
                        self.replenish();
                        return Ok(prepared);
                    }
                    Some(prepared) => {
                        self.replenish_later(&mut pool);
                        return Ok(prepared);
                    }
                    None => break,
                }
            }
            let (sender, receiver) = oneshot::channel();
            pool.waiting.push_back(sender);
            receiver
        };
        if self.is_stopping() {
            return Err(Error::Ended("the sandbox service"));
        }
        self.replenish();
        receiver
            .await
            .map_err(|_| Error::Ended("the sandbox service"))?
    }

    /// Makes as many environments as are missing, within the permitted parallelism.
    pub fn replenish(self: &Arc<Self>) {
        if self.is_stopping() {
            return;
        }
        let mut pool = lock(&self.pool);
        while pool.tasks.try_join_next().is_some() {}
        pool.waiting.retain(|waiting| !waiting.is_closed());
        let waiting = pool.waiting.len();
        // After a failure only those who wait for an environment, and so learn of it, try again.
        let spare = if pool.retry_pending {
            0
        } else {
            self.config.pool_size
        };
        while pool.creating < self.config.create_parallelism.max(1)
            && pool.creating + pool.ready.len() < spare + waiting
        {
            pool.creating += 1;
            let service = Arc::clone(self);
            pool.tasks.spawn(async move {
                let result = service.create().await;
                service.deliver(result);
            });
        }
    }

    fn deliver(self: &Arc<Self>, mut result: Result<Prepared, Error>) {
        let mut pool = lock(&self.pool);
        pool.creating -= 1;
        while let Some(waiting) = pool.waiting.pop_front() {
            match waiting.send(result) {
                Ok(()) => {
                    drop(pool);
                    return self.replenish();
                }
                // Whoever waited has given up meanwhile.
                Err(returned) => result = returned,
            }
        }
        match result {
            Ok(prepared) => pool.ready.push_back(prepared),
            Err(err) if !self.is_stopping() => {
                tracing::warn!(error = %err, "could not prepare an environment");
                self.retry_later(&mut pool);
            }
            Err(_) => return,
        }
        drop(pool);
        self.replenish();
    }

    fn replenish_later(self: &Arc<Self>, pool: &mut Pool) {
        if std::mem::replace(&mut pool.refill_pending, true) {
            return;
        }
        let service = Arc::clone(self);
        pool.tasks.spawn(async move {
            tokio::time::sleep(GIVE_WAY).await;
            lock(&service.pool).refill_pending = false;
            service.replenish();
        });
    }

    fn retry_later(self: &Arc<Self>, pool: &mut Pool) {
        if std::mem::replace(&mut pool.retry_pending, true) {
            return;
        }
        let service = Arc::clone(self);
        pool.tasks.spawn(async move {
            tokio::time::sleep(RETRY).await;
            lock(&service.pool).retry_pending = false;
            service.replenish();
        });
    }
}

const ENDED: Error = Error::Ended("the spawner");

/// An answer, or an error when it does not come.
pub async fn patiently<T>(what: &str, answer: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(PATIENCE, answer)
        .await
        .map_err(|_| Error::io(what, std::io::Error::from(std::io::ErrorKind::TimedOut)))
}

/// Ends an environment whose making failed or was given up.
struct Abandoned<'a> {
    service: &'a Service,
    id: u64,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        self.service.destroy(self.id);
    }
}

impl Table {
    fn admit(
        &mut self,
        max: u32,
        created: oneshot::Sender<Result<cgroup::Paths, Failure>>,
    ) -> Result<(u64, u32, watch::Receiver<bool>), Error> {
        // Users and addresses are reused as late as possible: the kernel takes a while to clear
        // away the last traces of a network namespace.
        let fresh = (self.next_slot < max).then_some(self.next_slot);
        let slot = fresh
            .or_else(|| self.free_slots.pop_front())
            .ok_or(Error::Exhausted(max))?;
        self.next_slot += u32::from(fresh.is_some());
        self.last_id += 1;
        let gone = watch::Sender::new(false);
        let receiver = gone.subscribe();
        self.environments.insert(
            self.last_id,
            Entry {
                slot,
                created: Some(created),
                gone,
            },
        );
        Ok((self.last_id, slot, receiver))
    }

    fn created(&mut self, id: u64, result: Result<cgroup::Paths, Failure>) {
        let sender = self
            .environments
            .get_mut(&id)
            .and_then(|entry| entry.created.take());
        if let Some(sender) = sender {
            // The receiver may have run out of patience; its guard has then asked for the end.
            let _ = sender.send(result);
        }
    }

    /// Only now may another environment run under the same users.
    fn gone(&mut self, id: u64) {
        if let Some(entry) = self.environments.remove(&id) {
            self.free_slots.push_back(entry.slot);
            entry.gone.send_replace(true);
        }
    }

    fn expect_open(&mut self, sender: oneshot::Sender<Result<Vec<OwnedFd>, Failure>>) -> u64 {
        self.last_id += 1;
        self.opens.insert(self.last_id, sender);
        self.last_id
    }

    fn opened(&mut self, request: u64, result: Result<Vec<OwnedFd>, Failure>) {
        if let Some(sender) = self.opens.remove(&request) {
            let _ = sender.send(result);
        }
    }
}
