use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::{Bucket, Rate};
use crate::provisioned::Stand;
use crate::{Function, ThrottleReason};

/// An account in a region.
#[derive(Debug)]
pub(super) struct Account {
    limit: u32,
    /// Of `limit`, what only single functions may use: reserved, or provisioned for them.
    set_aside: AtomicU32,
    /// Running invocations that took a place everybody may take.
    shared: AtomicU32,
    running: AtomicU32,
    rate: Bucket,
}

/// What one function may use, and uses.
#[derive(Debug)]
pub(crate) struct Gate {
    account: Arc<Account>,
    /// [`UNRESERVED`], or how much is reserved.
    reserved: AtomicU32,
    /// Provisioned environments that take from the function's places, or the account's.
    provisioned: AtomicU32,
    /// Running invocations outside of provisioned environments.
    on_demand: AtomicU32,
    on_provisioned: AtomicU32,
    rate: Bucket,
    /// Held while the two limits above change; what the account has set aside for them.
    set_aside: Mutex<u32>,
    has_stands: AtomicBool,
    stands: RwLock<Vec<Arc<Stand>>>,
}

const UNRESERVED: u32 = u32::MAX;

/// A place that is taken, and given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    seat: Seat,
}

#[derive(Debug)]
enum Seat {
    Shared,
    Reserved,
    Provisioned(Arc<Stand>),
}

impl Account {
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            set_aside: AtomicU32::new(0),
            shared: AtomicU32::new(0),
            running: AtomicU32::new(0),
            rate: Bucket::default(),
        }
    }

    /// Takes a place that is nobody's own.
    fn take_shared(&self) -> bool {
        let limit = self.unreserved();
        // A reservation that was taken away may still be in use: then more run than the shared
        // places tell.
        self.running.load(Ordering::Relaxed) < self.limit && take(&self.shared, limit)
    }

    fn unreserved(&self) -> u32 {
        self.limit
            .saturating_sub(self.set_aside.load(Ordering::Relaxed))
    }
}

impl Gate {
    pub(super) fn new(account: Arc<Account>) -> Self {
        Self {
            account,
            reserved: AtomicU32::new(UNRESERVED),
            provisioned: AtomicU32::new(0),
            on_demand: AtomicU32::new(0),
            on_provisioned: AtomicU32::new(0),
            rate: Bucket::default(),
            set_aside: Mutex::new(0),
            has_stands: AtomicBool::new(false),
            stands: RwLock::default(),
        }
    }

    /// Takes a place outside of provisioned environments.
    pub(super) fn take(self: &Arc<Self>) -> Result<Permit, ThrottleReason> {
        let seat = match self.reserved.load(Ordering::Relaxed) {
            UNRESERVED if self.account.take_shared() => {
                self.on_demand.fetch_add(1, Ordering::AcqRel);
                Seat::Shared
            }
            UNRESERVED => return Err(ThrottleReason::ConcurrentInvocationLimitExceeded),
            reserved => {
                let provisioned = self.provisioned.load(Ordering::Relaxed);
                if !take(&self.on_demand, reserved.saturating_sub(provisioned)) {
                    return Err(ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded);
                }
                Seat::Reserved
            }
        };
        Ok(self.permit(seat))
    }

    /// The place that a provisioned environment is.
    pub fn take_provisioned(self: &Arc<Self>, stand: Arc<Stand>) -> Permit {
        self.on_provisioned.fetch_add(1, Ordering::AcqRel);
        stand.running.fetch_add(1, Ordering::AcqRel);
        stand.invocations.fetch_add(1, Ordering::Relaxed);
        self.permit(Seat::Provisioned(stand))
    }

    fn permit(self: &Arc<Self>, seat: Seat) -> Permit {
        self.account.running.fetch_add(1, Ordering::AcqRel);
        Permit {
            gate: Arc::clone(self),
            seat,
        }
    }

    pub(super) fn check_rate(&self, now: Duration, per_place: u32) -> Result<(), ThrottleReason> {
        let reserved = self.reserved.load(Ordering::Relaxed);
        let (bucket, places, reason) = match reserved {
            UNRESERVED => (
                &self.account.rate,
                self.account.unreserved(),
                ThrottleReason::FunctionInvocationRateLimitExceeded,
            ),
            reserved => (
                &self.rate,
                reserved,
                ThrottleReason::ReservedFunctionInvocationRateLimitExceeded,
            ),
        };
        let rate = Rate::new(
            u64::from(places) * u64::from(per_place),
            Duration::from_secs(1),
        );
        bucket.take(now, rate).then_some(()).ok_or(reason)
    }

    /// Sets how much is reserved for the function, from now on.
    pub fn reserve(&self, reserved: Option<u32>) {
        self.set_limits(|gate| {
            let reserved = reserved.map_or(UNRESERVED, |reserved| reserved.min(UNRESERVED - 1));
            gate.reserved.store(reserved, Ordering::Relaxed);
        });
    }

    /// One of the function's versions has another number of provisioned environments than before.
    pub fn count_provisioned(&self, before: u32, now: u32) {
        self.set_limits(|gate| {
            // The difference may be negative, and adding wraps around like subtracting.
            gate.provisioned
                .fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        });
    }

    fn set_limits(&self, set: impl FnOnce(&Self)) {
        let mut set_aside = self
            .set_aside
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        set(self);
        let provisioned = self.provisioned.load(Ordering::Relaxed);
        let now = match self.reserved.load(Ordering::Relaxed) {
            UNRESERVED => provisioned,
            reserved => reserved.max(provisioned),
        };
        let before = std::mem::replace(&mut *set_aside, now);
        self.account
            .set_aside
            .fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    pub fn reserved(&self) -> Option<u32> {
        match self.reserved.load(Ordering::Relaxed) {
            UNRESERVED => None,
            reserved => Some(reserved),
        }
    }

    /// Running invocations of the function.
    pub fn running(&self) -> u32 {
        self.on_demand.load(Ordering::Relaxed) + self.on_provisioned.load(Ordering::Relaxed)
    }

    /// Running invocations of the account, and of these what took a place everybody may take.
    pub fn account_running(&self) -> u32 {
        self.account.running.load(Ordering::Relaxed)
    }

    pub fn account_shared(&self) -> u32 {
        self.account.shared.load(Ordering::Relaxed)
    }

    /// The provisioned environments of this version, if it was given any.
    pub fn stand(&self, function: &Function) -> Option<Arc<Stand>> {
        // Most functions have none: they do not even take the lock.
        if !self.has_stands.load(Ordering::Acquire) {
            return None;
        }
        let stands = self.stands.read().unwrap_or_else(PoisonError::into_inner);
        stands.iter().find(|stand| stand.is_of(function)).cloned()
    }

    pub fn stands(&self) -> Vec<Arc<Stand>> {
        self.stands
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn set_stands(&self, stands: Vec<Arc<Stand>>) {
        let mut all = self.stands.write().unwrap_or_else(PoisonError::into_inner);
        self.has_stands.store(!stands.is_empty(), Ordering::Release);
        *all = stands;
    }
}

impl Permit {
    /// The function's gate, for what is counted there.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The provisioned environments of which it is one.
    pub fn stand(&self) -> Option<&Arc<Stand>> {
        match &self.seat {
            Seat::Provisioned(stand) => Some(stand),
            Seat::Shared | Seat::Reserved => None,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.account.running.fetch_sub(1, Ordering::AcqRel);
        match &self.seat {
            Seat::Shared => {
                self.gate.on_demand.fetch_sub(1, Ordering::AcqRel);
                self.gate.account.shared.fetch_sub(1, Ordering::AcqRel);
            }
            Seat::Reserved => {
                self.gate.on_demand.fetch_sub(1, Ordering::AcqRel);
            }
            Seat::Provisioned(stand) => {
                self.gate.on_provisioned.fetch_sub(1, Ordering::AcqRel);
                stand.running.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

fn take(in_use: &AtomicU32, limit: u32) -> bool {
    in_use
        .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| {
            (n < limit).then_some(n + 1)
        })
        .is_ok()
}

/// How often something happened since the server started.
pub(crate) type Tally = AtomicU64;
