//! Who may run: concurrency limits, checked before anything else.
//!
//! Every invocation takes a place in one pool and gives it back when it is done. An account has
//! one unreserved pool; a function with reserved concurrency has a pool of its own, cut out of the
//! account's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Function, InvokeError, ThrottleReason};

#[derive(Debug)]
pub(crate) struct Admission {
    account_limit: u32,
    accounts: Mutex<HashMap<String, Account>>,
}

#[derive(Debug)]
struct Account {
    unreserved: Arc<Pool>,
    /// By unqualified function ARN: all versions of a function share its reservation.
    reserved: HashMap<String, Arc<Pool>>,
}

#[derive(Debug)]
struct Pool {
    limit: AtomicU32,
    in_use: AtomicU32,
    reason: ThrottleReason,
}

/// A place in a pool, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Pool>);

impl Admission {
    pub fn new(account_limit: u32) -> Self {
        Self {
            account_limit,
            accounts: Mutex::default(),
        }
    }

    /// Takes a place for one invocation, or says why there is none.
    pub fn admit(&self, function: &Function) -> Result<Permit, InvokeError> {
        let pool = self.pool_of(function);
        if pool.take() {
            Ok(Permit(pool))
        } else {
            Err(InvokeError::TooManyRequests {
                reason: pool.reason,
            })
        }
    }

    fn pool_of(&self, function: &Function) -> Arc<Pool> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked up twice only for an account's first invocation: `entry` would copy its id always.
        if let Some(account) = accounts.get(&function.account) {
            return account.pool_of(function);
        }
        let account = Account::new(self.account_limit);
        accounts
            .entry(function.account.clone())
            .or_insert(account)
            .pool_of(function)
    }
}

impl Account {
    fn new(limit: u32) -> Self {
        Self {
            unreserved: Arc::new(Pool::unreserved(limit)),
            reserved: HashMap::new(),
        }
    }

    fn pool_of(&self, function: &Function) -> Arc<Pool> {
        Arc::clone(self.reserved.get(&function.arn).unwrap_or(&self.unreserved))
    }
}

impl Pool {
    fn unreserved(limit: u32) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            in_use: AtomicU32::new(0),
            reason: ThrottleReason::ConcurrentInvocationLimitExceeded,
        }
    }

    fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        self.in_use
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| {
                (n < limit).then_some(n + 1)
            })
            .is_ok()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn limit_counts_running_invocations_of_one_account() {
        let admission = Admission::new(2);
        let function = testing::function();
        let first = admission.admit(&function).unwrap();
        let _second = admission.admit(&function).unwrap();
        let refused = admission.admit(&function).unwrap_err();
        assert!(matches!(
            refused,
            InvokeError::TooManyRequests {
                reason: ThrottleReason::ConcurrentInvocationLimitExceeded
            }
        ));
        let other = Function {
            account: "111111111111".into(),
            ..function.clone()
        };
        assert!(admission.admit(&other).is_ok());
        drop(first);
        assert!(admission.admit(&function).is_ok());
    }
}
