//! Which environment serves which invocation: the warm pool and the line of those who wait.
//!
//! An invocation that finds an idle environment takes it, the most recently used first. Otherwise
//! it joins the line of its function, and the line asks for a cold start. Starts are not tied to
//! the invocation that caused them: whatever becomes available first, a started environment or one
//! that another invocation has finished with, serves the one that has waited longest. So an
//! invocation never queues behind a busy environment, and a burst needs no more environments than
//! it can use.
//!
//! Starts take turns in the order of arrival over all functions, within two bounds: how many may
//! be under way, and how much memory all environments may be promised. When memory is short, the
//! least recently used idle environments of others are ended first; else the line waits. How fast
//! one function may get new environments is limited, too: who would need one more is refused.
//!
//! A pool that is *kept* ([`crate::provisioned`]) is brought to a size and held there. Its starts
//! come after those that somebody waits for, its idle environments make room for nobody, and its
//! line is only for those who wait for one that is about to come back.
//!
//! This module is a plain data structure: it decides, the invoker acts. `E` is an environment and
//! `F` the failure of a start; neither is looked into.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::admission::{Bucket, Rate};
use crate::provisioned::{NO_MEMORY, Stand, pause_after};
use crate::{Function, FunctionKey};

/// Kept environments may have this much of the memory, so that others can run at all.
const KEPT_PERCENT: u64 = 80;
/// When too many of them have died of late.
const REPLACEMENT_PAUSE: Duration = Duration::from_secs(1);
/// Functions that were given an environment of late; more are forgotten when they may have all
/// again.
const MAX_IDLE_BUCKETS: usize = 1024;

/// What an invocation in line is given.
#[derive(Debug)]
pub(crate) enum Grant<E, F> {
    Environment(E),
    /// A start that failed; the one who waited longest gets to report it.
    Failed(F),
    /// It would take one more environment than the function may be given at this time.
    Throttled,
}

/// What the invoker has to do after a change.
#[derive(Debug)]
pub(crate) enum Action<E> {
    /// Start an environment; [`Placement::started`] or [`Placement::start_failed`] follows.
    Start(FunctionKey, Arc<Function>),
    /// End this environment; [`Placement::freed`] follows.
    End(E),
    /// End parked environments that have this much memory, in MB; [`Placement::freed_parked`]
    /// follows.
    Yield(u64),
    /// Call [`Placement::attend`] at this time.
    Remind(Instant),
}

/// Place in the line of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
pub(crate) struct Placement<E, F> {
    parallel_starts: usize,
    budget_mb: u64,
    pools: HashMap<FunctionKey, Pool<E, F>>,
    /// Wishes for a start, oldest first. Outdated ones are skipped when their turn comes.
    wishes: VecDeque<FunctionKey>,
    turns_taken: usize,
    promised_mb: u64,
    /// Of `promised_mb`, what environments hold that are being ended to make room.
    leaving_mb: u64,
    /// Of `promised_mb`, what parked environments hold.
    parked_mb: u64,
    tickets: u64,
    /// Pools that are kept.
    kept: Vec<FunctionKey>,
    /// One of them may lack an environment.
    attend: bool,
    /// New environments per function; `None` if they are not limited.
    scaling: Option<Rate>,
    /// What is left of it, by ARN.
    scaled: HashMap<String, Bucket>,
    /// The zero of the time that the buckets know.
    since: Instant,
}

#[derive(Debug)]
struct Pool<E, F> {
    function: Arc<Function>,
    /// Least recently used first.
    idle: Vec<Idle<E>>,
    line: VecDeque<(Ticket, oneshot::Sender<Grant<E, F>>)>,
    wishes: usize,
    /// One of the wishes is for nobody in line.
    prepare: bool,
    starting: usize,
    /// Environments that will be available in a moment: their runtime has answered but not yet
    /// asked for more, or they are just being frozen.
    returning: usize,
    /// Environments busy with an invocation.
    busy: usize,
    /// No new environments, and none is kept.
    retired: bool,
    kept: Option<Kept>,
}

/// What a kept pool is kept by.
#[derive(Debug)]
struct Kept {
    stand: Arc<Stand>,
    wanted: usize,
    /// Starts in a row that failed.
    failures: u32,
    /// No start before.
    paused_until: Option<Instant>,
    /// Bounds what environments cost that die again and again.
    replacements: Bucket,
}

#[derive(Debug)]
struct Idle<E> {
    environment: E,
    id: u64,
    since: Instant,
}

/// The immediate answer to a request for an environment.
#[derive(Debug)]
pub(crate) enum Placed<E, F> {
    Environment(E),
    Waiting(Ticket, oneshot::Receiver<Grant<E, F>>),
}

impl<E, F> Placement<E, F> {
    pub fn new(parallel_starts: usize, budget_mb: u64) -> Self {
        Self {
            parallel_starts: parallel_starts.max(1),
            budget_mb: budget_mb.max(1),
            pools: HashMap::new(),
            wishes: VecDeque::new(),
            turns_taken: 0,
            promised_mb: 0,
            leaving_mb: 0,
            parked_mb: 0,
            tickets: 0,
            kept: Vec::new(),
            attend: false,
            scaling: None,
            scaled: HashMap::new(),
            since: Instant::now(),
        }
    }

    /// Limits how fast each function gets new environments.
    pub fn limit_scaling(&mut self, scaling: Rate) {
        self.scaling = Some(scaling);
    }

    /// An environment for an invocation: an idle one, or a place in line.
    pub fn request(&mut self, key: &FunctionKey, function: &Arc<Function>) -> Placed<E, F> {
        let ticket = Ticket(self.tickets);
        let pool = self.pool(key, function);
        if let Some(idle) = pool.idle.pop() {
            pool.busy += 1;
            return Placed::Environment(idle.environment);
        }
        let (sender, receiver) = oneshot::channel();
        pool.line.push_back((ticket, sender));
        self.tickets += 1;
        self.wish(key);
        Placed::Waiting(ticket, receiver)
    }

    /// A kept environment, or a place in line for one that will be back in a moment. `None` if
    /// there is neither.
    pub fn request_kept(&mut self, key: &FunctionKey) -> Option<Placed<E, F>> {
        let ticket = Ticket(self.tickets);
        let pool = self.pools.get_mut(key).filter(|pool| !pool.retired)?;
        if let Some(idle) = pool.idle.pop() {
            pool.busy += 1;
            return Some(Placed::Environment(idle.environment));
        }
        if pool.line.len() >= pool.returning {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        pool.line.push_back((ticket, sender));
        self.tickets += 1;
        Some(Placed::Waiting(ticket, receiver))
    }

    /// Brings a kept pool to a size, and holds it there. Returns what is too much.
    pub fn keep(&mut self, stand: &Arc<Stand>, wanted: usize) -> Vec<E> {
        let (key, now) = (&stand.key, self.since.elapsed());
        if wanted == 0 && !self.pools.contains_key(key) {
            return Vec::new();
        }
        let pool = self.pool(key, &stand.function);
        match &mut pool.kept {
            Some(kept) if Arc::ptr_eq(&kept.stand, stand) => {
                kept.wanted = wanted;
                // Whoever changes something wants to see whether it helps.
                kept.paused_until = None;
                kept.replacements = Bucket::default();
            }
            kept => *kept = Some(Kept::new(Arc::clone(stand), wanted)),
        }
        pool.retired = wanted == 0;
        let surplus = pool.surplus().min(pool.idle.len());
        let ended = pool.idle.drain(..surplus).map(|idle| idle.environment);
        let ended = ended.collect();
        pool.publish();
        if !self.kept.contains(key) {
            self.kept.push(key.clone());
        }
        self.scaled.retain(|_, bucket| !bucket.is_full(now));
        self.attend = true;
        self.wish(key);
        self.forget_if_unused(key);
        ended
    }

    /// A start for a kept pool failed. Returns when the next one will be tried.
    pub fn kept_start_failed(&mut self, key: &FunctionKey, reason: &str) -> Option<Instant> {
        let pool = self.pools.get_mut(key)?;
        pool.starting = pool.starting.saturating_sub(1);
        let kept = pool.kept.as_mut()?;
        kept.failures = kept.failures.saturating_add(1);
        let until = Instant::now() + pause_after(kept.failures);
        kept.paused_until = Some(until);
        kept.stand.set_failure(Some(reason.into()));
        self.forget_if_unused(key);
        Some(until)
    }

    /// Looks after the kept pools, with the next [`Placement::actions`].
    pub fn attend(&mut self) {
        self.attend = true;
    }

    /// Someone left the line.
    pub fn leave(&mut self, key: &FunctionKey, ticket: Ticket) {
        if let Some(pool) = self.pools.get_mut(key) {
            pool.line.retain(|(waiting, _)| *waiting != ticket);
        }
        self.forget_if_unused(key);
    }

    /// Asks for one environment ahead of any invocation, unless one is there or on its way.
    pub fn prepare(&mut self, key: &FunctionKey, function: &Arc<Function>) {
        let pool = self.pool(key, function);
        if pool.idle.is_empty() && pool.starting + pool.returning + pool.busy + pool.wishes == 0 {
            pool.prepare = true;
            pool.wishes += 1;
            self.wishes.push_back(key.clone());
        }
    }

    /// Grants turns to start. Call after every change, and perform the actions in order.
    pub fn actions(&mut self) -> Vec<Action<E>> {
        if self.wishes.is_empty() && !self.attend {
            return Vec::new();
        }
        self.actions_at(Instant::now())
    }

    fn actions_at(&mut self, now: Instant) -> Vec<Action<E>> {
        let mut actions = Vec::new();
        while self.turns_taken < self.parallel_starts {
            let Some(key) = self.wishes.front().cloned() else {
                break;
            };
            let Some(pool) = self.pools.get(&key) else {
                self.wishes.pop_front();
                continue;
            };
            if pool.is_served() {
                self.drop_wish(&key);
                continue;
            }
            let function = Arc::clone(&pool.function);
            let memory_mb = u64::from(function.memory_mb).min(self.budget_mb);
            if !self.make_room(memory_mb, &key, &mut actions) {
                break;
            }
            if !self.may_scale(&function, now) {
                self.refuse_last(&key);
                continue;
            }
            self.promised_mb += memory_mb;
            self.turns_taken += 1;
            // Before the wish goes, or the pool could be forgotten in between.
            self.with(&key, |pool| {
                pool.prepare = false;
                pool.starting += 1;
            });
            self.drop_wish(&key);
            actions.push(Action::Start(key, function));
        }
        if self.attend && self.wishes.is_empty() {
            self.attend = false;
            for key in self.kept.clone() {
                self.replenish(&key, now, &mut actions);
            }
        }
        actions
    }

    /// Starts what a kept pool lacks, as far as that is possible now.
    fn replenish(&mut self, key: &FunctionKey, now: Instant, actions: &mut Vec<Action<E>>) {
        loop {
            let since = now.saturating_duration_since(self.since);
            let Some(pool) = self.pools.get(key) else {
                return;
            };
            let Some(kept) = pool.kept.as_ref().filter(|kept| pool.total() < kept.wanted) else {
                return;
            };
            let function = Arc::clone(&pool.function);
            if kept.paused_until.is_some_and(|until| now < until) {
                return;
            }
            if self.turns_taken >= self.parallel_starts {
                self.attend = true;
                return;
            }
            let memory_mb = u64::from(function.memory_mb).min(self.budget_mb);
            if self.kept_mb() + memory_mb > self.budget_mb * KEPT_PERCENT / 100 {
                kept.stand.set_failure(Some(NO_MEMORY.into()));
                return;
            }
            if !kept.replacements.take(since, kept.replacement_rate()) {
                let until = now + REPLACEMENT_PAUSE;
                self.with(key, |pool| pool.pause(until));
                actions.push(Action::Remind(until));
                return;
            }
            if kept.failures == 0 {
                // The memory that it has waited for may be had now.
                kept.stand.set_failure(None);
            }
            if !self.make_room(memory_mb, key, actions) {
                self.attend = true;
                return;
            }
            self.promised_mb += memory_mb;
            self.turns_taken += 1;
            self.with(key, |pool| pool.starting += 1);
            actions.push(Action::Start(key.clone(), function));
        }
    }

    /// The memory of all kept environments that are there or on their way.
    fn kept_mb(&self) -> u64 {
        let pools = self.kept.iter().filter_map(|key| self.pools.get(key));
        pools
            .map(|pool| u64::from(pool.function.memory_mb) * pool.total() as u64)
            .sum()
    }

    fn may_scale(&mut self, function: &Function, now: Instant) -> bool {
        let Some(rate) = self.scaling else {
            return true;
        };
        let now = now.saturating_duration_since(self.since);
        if let Some(bucket) = self.scaled.get(&function.arn) {
            return bucket.take(now, rate);
        }
        if self.scaled.len() >= MAX_IDLE_BUCKETS {
            self.scaled.retain(|_, bucket| !bucket.is_full(now));
        }
        let bucket = self.scaled.entry(function.arn.clone()).or_default();
        bucket.take(now, rate)
    }

    /// Sends the one away who came last, because the wish at the front cannot be met.
    fn refuse_last(&mut self, key: &FunctionKey) {
        self.with(key, |pool| {
            pool.prepare = false;
            while let Some((_, waiting)) = pool.line.pop_back() {
                if waiting.send(Grant::Throttled).is_ok() {
                    break;
                }
            }
        });
        self.drop_wish(key);
    }

    /// A start gives its turn to the next; its environment is still not there.
    pub fn turn_over(&mut self) {
        self.turns_taken = self.turns_taken.saturating_sub(1);
    }

    /// A start succeeded.
    pub fn started(&mut self, key: &FunctionKey, id: u64, environment: E) -> Option<E> {
        self.with(key, |pool| {
            pool.starting = pool.starting.saturating_sub(1);
            pool.busy += 1;
            pool.recovered();
        });
        self.release(key, id, environment, Instant::now())
    }

    /// A start failed. Its memory is given back with [`Placement::freed`].
    /// Returns the failure when nobody waits for it.
    pub fn start_failed(&mut self, key: &FunctionKey, failure: F) -> Option<F> {
        // Never dropped in here: a failure holds memory, and giving that back needs this placement.
        let Some(pool) = self.pools.get_mut(key) else {
            return Some(failure);
        };
        pool.starting = pool.starting.saturating_sub(1);
        let mut grant = Grant::Failed(failure);
        while let Some((_, waiting)) = pool.line.pop_front() {
            match waiting.send(grant) {
                Ok(()) => {
                    // It tries once more itself, and until then counts as one environment.
                    pool.busy += 1;
                    self.wish(key);
                    return None;
                }
                Err(refused) => grant = refused,
            }
        }
        self.forget_if_unused(key);
        match grant {
            Grant::Failed(failure) => Some(failure),
            Grant::Environment(_) | Grant::Throttled => None,
        }
    }

    /// The runtime of a busy environment has answered and should be back in a moment.
    pub fn returning(&mut self, key: &FunctionKey) {
        self.with(key, |pool| {
            pool.busy = pool.busy.saturating_sub(1);
            pool.returning += 1;
        });
    }

    /// It was expected back and is not: those in line should not wait for it.
    pub fn late(&mut self, key: &FunctionKey) {
        self.with(key, |pool| {
            pool.returning = pool.returning.saturating_sub(1);
            pool.busy += 1;
        });
        self.wish(key);
    }

    /// A returning environment is back.
    pub fn returned(
        &mut self,
        key: &FunctionKey,
        id: u64,
        environment: E,
        since: Instant,
    ) -> Option<E> {
        self.with(key, |pool| {
            pool.returning = pool.returning.saturating_sub(1);
            pool.busy += 1;
        });
        self.release(key, id, environment, since)
    }

    /// A busy environment is free: for the next in line, else for the pool. Handed back when it
    /// is not wanted any more and has to be ended.
    pub fn release(
        &mut self,
        key: &FunctionKey,
        id: u64,
        environment: E,
        since: Instant,
    ) -> Option<E> {
        let Some(pool) = self.pools.get_mut(key) else {
            return Some(environment);
        };
        let mut grant = Grant::Environment(environment);
        while let Some((_, waiting)) = pool.line.pop_front() {
            match waiting.send(grant) {
                Ok(()) => return None,
                Err(refused) => grant = refused,
            }
        }
        let Grant::Environment(environment) = grant else {
            return None;
        };
        let unwanted = pool.retired || pool.surplus() > 0;
        pool.busy = pool.busy.saturating_sub(1);
        if unwanted {
            pool.publish();
            self.forget_if_unused(key);
            return Some(environment);
        }
        let at = pool.idle.partition_point(|idle| idle.since <= since);
        pool.idle.insert(
            at,
            Idle {
                environment,
                id,
                since,
            },
        );
        pool.publish();
        None
    }

    /// A busy or returning environment ended instead of becoming free.
    pub fn lost(&mut self, key: &FunctionKey, was_returning: bool) {
        self.with(key, |pool| {
            let count = if was_returning {
                &mut pool.returning
            } else {
                &mut pool.busy
            };
            *count = count.saturating_sub(1);
            pool.publish();
        });
        self.wish(key);
        self.forget_if_unused(key);
    }

    /// Takes an environment out of the pool, if it is idle, to freeze or to end it.
    pub fn take_idle(&mut self, key: &FunctionKey, id: u64) -> Option<(E, Instant)> {
        let pool = self.pools.get_mut(key)?;
        let at = pool.idle.iter().position(|idle| idle.id == id)?;
        let idle = pool.idle.remove(at);
        pool.returning += 1;
        Some((idle.environment, idle.since))
    }

    /// Since when an environment is idle, if it is.
    pub fn idle_since(&self, key: &FunctionKey, id: u64) -> Option<Instant> {
        let pool = self.pools.get(key)?;
        pool.idle
            .iter()
            .find(|idle| idle.id == id)
            .map(|idle| idle.since)
    }

    /// The memory of an environment that is gone.
    pub fn freed(&mut self, memory_mb: u32, was_leaving: bool) {
        let memory_mb = u64::from(memory_mb).min(self.budget_mb);
        self.promised_mb = self.promised_mb.saturating_sub(memory_mb);
        if was_leaving {
            self.leaving_mb = self.leaving_mb.saturating_sub(memory_mb);
        }
        self.attend |= !self.kept.is_empty();
    }

    /// Takes all idle environments of the functions whose key contains `name` out of the pool, to
    /// end them.
    pub fn take_all_idle(&mut self, name: &str) -> Vec<E> {
        let mut taken = Vec::new();
        for (key, pool) in &mut self.pools {
            if key.as_str().contains(name) {
                taken.extend(pool.idle.drain(..).map(|idle| idle.environment));
                pool.publish();
            }
        }
        self.attend |= !self.kept.is_empty();
        self.pools.retain(|_, pool| !pool.is_unused());
        taken
    }

    /// Promises memory to a parked environment, if nobody else needs it.
    pub fn promise_parked(&mut self, memory_mb: u32) -> bool {
        let memory_mb = u64::from(memory_mb).min(self.budget_mb);
        if !self.wishes.is_empty() || self.promised_mb + memory_mb > self.budget_mb {
            return false;
        }
        self.promised_mb += memory_mb;
        self.parked_mb += memory_mb;
        true
    }

    /// A parked environment is gone, or is none any more.
    pub fn freed_parked(&mut self, memory_mb: u32) {
        let memory_mb = u64::from(memory_mb).min(self.budget_mb);
        self.promised_mb = self.promised_mb.saturating_sub(memory_mb);
        self.parked_mb = self.parked_mb.saturating_sub(memory_mb);
        self.attend |= !self.kept.is_empty();
    }

    /// Memory that is taken without waiting for it; [`Placement::freed`] follows.
    pub fn charge(&mut self, memory_mb: u32) {
        self.promised_mb += u64::from(memory_mb).min(self.budget_mb);
    }

    /// Keeps nothing of this function any longer; returns what is idle. Who waits is still served.
    pub fn retire(&mut self, key: &FunctionKey) -> Vec<E> {
        let Some(pool) = self.pools.get_mut(key) else {
            return Vec::new();
        };
        pool.retired = true;
        let ended = std::mem::take(&mut pool.idle);
        self.forget_if_unused(key);
        ended.into_iter().map(|idle| idle.environment).collect()
    }

    /// Retires everything and sends everyone in line away.
    pub fn close(&mut self) -> Vec<E> {
        self.wishes.clear();
        self.kept.clear();
        let mut ended = Vec::new();
        for pool in self.pools.values_mut() {
            pool.retired = true;
            if let Some(kept) = &mut pool.kept {
                kept.wanted = 0;
            }
            pool.wishes = 0;
            pool.line.clear();
            ended.extend(
                std::mem::take(&mut pool.idle)
                    .into_iter()
                    .map(|idle| idle.environment),
            );
        }
        ended
    }

    fn pool(&mut self, key: &FunctionKey, function: &Arc<Function>) -> &mut Pool<E, F> {
        self.pools
            .entry(key.clone())
            .or_insert_with(|| Pool::new(Arc::clone(function)))
    }

    fn with(&mut self, key: &FunctionKey, change: impl FnOnce(&mut Pool<E, F>)) {
        if let Some(pool) = self.pools.get_mut(key) {
            change(pool);
        }
    }

    /// Wishes for as many starts as there are people in line without prospects.
    fn wish(&mut self, key: &FunctionKey) {
        let Some(pool) = self.pools.get_mut(key) else {
            return;
        };
        if pool.kept.is_some() {
            // Nobody waits for a start here: who has no prospects spills over.
            pool.line.truncate(pool.returning);
            self.attend = true;
            return;
        }
        while pool.line.len() > pool.wishes + pool.starting + pool.returning {
            pool.wishes += 1;
            self.wishes.push_back(key.clone());
        }
    }

    fn drop_wish(&mut self, key: &FunctionKey) {
        self.wishes.pop_front();
        self.with(key, |pool| pool.wishes = pool.wishes.saturating_sub(1));
        self.forget_if_unused(key);
    }

    /// True if the memory is there. Else it ends idle environments of others, as far as that helps.
    fn make_room(
        &mut self,
        memory_mb: u64,
        key: &FunctionKey,
        actions: &mut Vec<Action<E>>,
    ) -> bool {
        let Some(missing_mb) = (self.promised_mb + memory_mb).checked_sub(self.budget_mb) else {
            return true;
        };
        if missing_mb == 0 {
            return true;
        }
        if self.parked_mb > 0 {
            actions.push(Action::Yield(missing_mb.min(self.parked_mb)));
        }
        let leaving_mb = self.leaving_mb + self.parked_mb;
        let mut staying_mb = self.promised_mb.saturating_sub(leaving_mb);
        while staying_mb + memory_mb > self.budget_mb {
            let Some((environment, mb)) = self.take_least_recently_used(key) else {
                break;
            };
            self.leaving_mb += mb;
            staying_mb = staying_mb.saturating_sub(mb);
            actions.push(Action::End(environment));
        }
        false
    }

    fn take_least_recently_used(&mut self, except: &FunctionKey) -> Option<(E, u64)> {
        let key = self
            .pools
            .iter()
            .filter(|(key, pool)| *key != except && pool.kept.is_none())
            .filter_map(|(key, pool)| Some((pool.idle.first()?.since, key)))
            .min_by_key(|(since, _)| *since)
            .map(|(_, key)| key.clone())?;
        let pool = self.pools.get_mut(&key)?;
        let idle = pool.idle.remove(0);
        let mb = u64::from(pool.function.memory_mb).min(self.budget_mb);
        self.forget_if_unused(&key);
        Some((idle.environment, mb))
    }

    fn forget_if_unused(&mut self, key: &FunctionKey) {
        if self.pools.get(key).is_some_and(Pool::is_unused) {
            self.pools.remove(key);
            self.kept.retain(|kept| kept != key);
        }
    }
}

impl<E, F> Pool<E, F> {
    fn new(function: Arc<Function>) -> Self {
        Self {
            function,
            idle: Vec::new(),
            line: VecDeque::new(),
            wishes: 0,
            prepare: false,
            starting: 0,
            returning: 0,
            busy: 0,
            retired: false,
            kept: None,
        }
    }

    /// Environments that are there.
    fn present(&self) -> usize {
        self.idle.len() + self.busy + self.returning
    }

    fn total(&self) -> usize {
        self.present() + self.starting
    }

    /// How many more are there than a kept pool should have.
    fn surplus(&self) -> usize {
        let kept = self.kept.as_ref();
        kept.map_or(0, |kept| self.present().saturating_sub(kept.wanted))
    }

    /// Shows how many environments a kept pool has.
    fn publish(&self) {
        if let Some(kept) = &self.kept {
            kept.stand.set_allocated(self.present());
        }
    }

    fn pause(&mut self, until: Instant) {
        if let Some(kept) = &mut self.kept {
            kept.paused_until = Some(until);
        }
    }

    /// A start went well after all.
    fn recovered(&mut self) {
        if let Some(kept) = &mut self.kept
            && std::mem::take(&mut kept.failures) > 0
        {
            kept.paused_until = None;
            kept.stand.set_failure(None);
        }
    }

    /// Everyone in line has prospects without another start.
    fn is_served(&self) -> bool {
        let prospects = self.starting + self.returning;
        let prepared = !self.prepare || self.retired || prospects + self.busy + self.idle.len() > 0;
        self.line.len() <= prospects && prepared
    }

    fn is_unused(&self) -> bool {
        self.idle.is_empty()
            && self.line.is_empty()
            && self.wishes + self.starting + self.returning + self.busy == 0
            && self.kept.as_ref().is_none_or(|kept| kept.wanted == 0)
    }
}

impl Kept {
    fn new(stand: Arc<Stand>, wanted: usize) -> Self {
        Self {
            stand,
            wanted,
            failures: 0,
            paused_until: None,
            replacements: Bucket::default(),
        }
    }

    /// All of them twice at once, then as many again each minute.
    fn replacement_rate(&self) -> Rate {
        Rate::new(2 * self.wanted as u64 + 8, Duration::from_secs(60))
    }
}

#[cfg(test)]
mod tests;
