//! Who may run: concurrency limits, checked before anything else.
//!
//! Every invocation takes a place and gives it back when it is done. An account has so many places
//! in a region. A function with reserved concurrency has as many as were reserved for it, and
//! nobody else gets them; all others share what is left. Provisioned environments are places of
//! their own: who runs in one takes none of the others, which are fewer by as many.
//!
//! A function's [`Gate`] is found by its ARN under a lock for reading; what follows is atomic
//! counters. Limits may change at any time, and count from then on: an invocation that runs keeps
//! the place that it took.
//!
//! See <https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html>.

mod bucket;
mod gate;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::{Config, Function, InvokeError, ThrottleReason};

pub(crate) use bucket::{Bucket, Rate};
use gate::Account;
pub(crate) use gate::{Gate, Permit, Tally};

#[derive(Debug)]
pub(crate) struct Admission {
    account_limit: u32,
    /// Requests per second for each place; 0 if they are not limited.
    requests_per_place: u32,
    /// The zero of the time that the buckets know.
    since: Instant,
    /// By account and region.
    accounts: RwLock<HashMap<String, Arc<Account>>>,
    /// By unqualified ARN: all versions of a function share one.
    gates: RwLock<HashMap<String, Arc<Gate>>>,
}

/// Where the limits of an account count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub arn: &'a str,
    pub account: &'a str,
    pub region: &'a str,
}

impl<'a> From<&'a Function> for Place<'a> {
    fn from(function: &'a Function) -> Self {
        Self {
            arn: &function.arn,
            account: &function.account,
            region: &function.region,
        }
    }
}

impl Admission {
    pub fn new(config: &Config) -> Self {
        Self {
            account_limit: config.account_concurrency,
            requests_per_place: config.requests_per_second_per_concurrency,
            since: Instant::now(),
            accounts: RwLock::default(),
            gates: RwLock::default(),
        }
    }

    /// Takes a place for one invocation outside of provisioned environments, or says why there is
    /// none.
    pub fn admit(&self, gate: &Arc<Gate>) -> Result<Permit, InvokeError> {
        self.admit_at(gate, self.since.elapsed())
    }

    fn admit_at(&self, gate: &Arc<Gate>, now: Duration) -> Result<Permit, InvokeError> {
        let refused = |reason| InvokeError::TooManyRequests { reason };
        let permit = gate.take().map_err(refused)?;
        self.check_rate(gate, now).map_err(refused)?;
        Ok(permit)
    }

    /// Requests per second are limited, too: by ten for each place on AWS.
    fn check_rate(&self, gate: &Gate, now: Duration) -> Result<(), ThrottleReason> {
        if self.requests_per_place == 0 {
            return Ok(());
        }
        gate.check_rate(now, self.requests_per_place)
    }

    /// The gate of a function.
    pub fn gate(&self, of: Place<'_>) -> Arc<Gate> {
        let gates = self.gates.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(of.arn) {
            return Arc::clone(gate);
        }
        drop(gates);
        let gate = Arc::new(Gate::new(self.account(of)));
        let mut gates = self.gates.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(of.arn.to_owned()).or_insert(gate))
    }

    /// A function was deleted: what was set aside for it is free again. Invocations that still run
    /// keep their places.
    pub fn forget(&self, arn: &str) {
        let mut gates = self.gates.write().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.remove(arn);
        drop(gates);
        if let Some(gate) = gate {
            gate.reserve(None);
        }
    }

    /// All gates there are, with the ARNs of their functions.
    pub fn gates(&self) -> Vec<(String, Arc<Gate>)> {
        let gates = self.gates.read().unwrap_or_else(PoisonError::into_inner);
        gates
            .iter()
            .map(|(arn, gate)| (arn.clone(), Arc::clone(gate)))
            .collect()
    }

    fn account(&self, of: Place<'_>) -> Arc<Account> {
        let mut accounts = self
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let account = accounts
            .entry(format!("{}/{}", of.account, of.region))
            .or_insert_with(|| Arc::new(Account::new(self.account_limit)));
        Arc::clone(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn admission(account_concurrency: u32) -> Admission {
        Admission::new(&Config {
            account_concurrency,
            ..Config::default()
        })
    }

    fn gate(admission: &Admission, name: &str) -> Arc<Gate> {
        let function = Function {
            arn: name.into(),
            ..testing::function()
        };
        admission.gate(Place::from(&function))
    }

    fn refusal(admission: &Admission, gate: &Arc<Gate>) -> ThrottleReason {
        match admission.admit(gate) {
            Err(InvokeError::TooManyRequests { reason }) => reason,
            other => panic!("not refused: {other:?}"),
        }
    }

    const ACCOUNT: ThrottleReason = ThrottleReason::ConcurrentInvocationLimitExceeded;
    const RESERVED: ThrottleReason =
        ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded;

    #[test]
    fn limit_counts_running_invocations_of_one_account_in_one_region() {
        let admission = admission(2);
        let f = gate(&admission, "f");
        let first = admission.admit(&f).unwrap();
        let _second = admission.admit(&gate(&admission, "g")).unwrap();
        assert_eq!(refusal(&admission, &f), ACCOUNT);
        let others = [
            ("111111111111", "eu-central-1"),
            ("000000000000", "us-east-1"),
        ];
        for (account, region) in others {
            let place = Place {
                arn: region,
                account,
                region,
            };
            assert!(admission.admit(&admission.gate(place)).is_ok());
        }
        drop(first);
        assert!(admission.admit(&f).is_ok());
    }

    #[test]
    fn reserved_places_are_for_one_function_alone() {
        let admission = admission(3);
        let (f, g) = (gate(&admission, "f"), gate(&admission, "g"));
        f.reserve(Some(2));
        let _other = admission.admit(&g).unwrap();
        assert_eq!(refusal(&admission, &g), ACCOUNT);
        let _both = (admission.admit(&f).unwrap(), admission.admit(&f).unwrap());
        assert_eq!(refusal(&admission, &f), RESERVED);
    }

    #[test]
    fn nothing_reserved_means_nothing_runs() {
        let admission = admission(3);
        let f = gate(&admission, "f");
        f.reserve(Some(0));
        assert_eq!(refusal(&admission, &f), RESERVED);
        f.reserve(None);
        assert!(admission.admit(&f).is_ok());
    }

    #[test]
    fn limits_that_change_count_for_those_who_run_already() {
        let admission = admission(10);
        let f = gate(&admission, "f");
        let running: Vec<_> = (0..4).map(|_| admission.admit(&f).unwrap()).collect();
        f.reserve(Some(2));
        assert_eq!(refusal(&admission, &f), RESERVED, "four run already");
        f.reserve(Some(5));
        let fifth = admission.admit(&f).unwrap();
        assert_eq!(refusal(&admission, &f), RESERVED);
        drop(running);
        drop(fifth);
        f.reserve(None);
        let all: Vec<_> = (0..10).map(|_| admission.admit(&f).unwrap()).collect();
        assert_eq!(refusal(&admission, &f), ACCOUNT);
        drop(all);
        assert_eq!((f.running(), f.account_running()), (0, 0));
    }

    #[test]
    fn reservation_that_is_taken_away_does_not_raise_the_limit_of_the_account() {
        let admission = admission(4);
        let (f, g) = (gate(&admission, "f"), gate(&admission, "g"));
        f.reserve(Some(3));
        let _running: Vec<_> = (0..3).map(|_| admission.admit(&f).unwrap()).collect();
        f.reserve(None);
        let _fourth = admission.admit(&g).unwrap();
        assert_eq!(refusal(&admission, &g), ACCOUNT);
    }

    #[test]
    fn forgotten_function_gives_back_what_was_reserved() {
        let admission = admission(4);
        gate(&admission, "f").reserve(Some(4));
        let g = gate(&admission, "g");
        assert_eq!(refusal(&admission, &g), ACCOUNT);
        admission.forget("f");
        assert!(admission.admit(&g).is_ok());
    }

    #[test]
    fn provisioned_environments_take_from_what_is_reserved_or_shared() {
        let admission = admission(5);
        let (f, g) = (gate(&admission, "f"), gate(&admission, "g"));
        f.count_provisioned(0, 3);
        let _shared = (admission.admit(&g).unwrap(), admission.admit(&g).unwrap());
        assert_eq!(refusal(&admission, &g), ACCOUNT);
        f.reserve(Some(3));
        assert_eq!(
            refusal(&admission, &f),
            RESERVED,
            "all three are provisioned"
        );
        f.count_provisioned(3, 2);
        let _on_demand = admission.admit(&f).unwrap();
        assert_eq!(refusal(&admission, &f), RESERVED);
    }

    #[test]
    fn requests_per_second_follow_the_concurrency() {
        let admission = Admission::new(&Config {
            account_concurrency: 3,
            requests_per_second_per_concurrency: 10,
            ..Config::default()
        });
        let (f, g) = (gate(&admission, "f"), gate(&admission, "g"));
        f.reserve(Some(1));
        let mut now = Duration::from_secs(5);
        let rate_of = |gate, now| match admission.admit_at(gate, now) {
            Ok(_) => None,
            Err(InvokeError::TooManyRequests { reason }) => Some(reason),
            Err(other) => panic!("{other}"),
        };
        for _ in 0..10 {
            assert_eq!(rate_of(&f, now), None);
        }
        assert_eq!(
            rate_of(&f, now),
            Some(ThrottleReason::ReservedFunctionInvocationRateLimitExceeded)
        );
        assert_eq!(f.running(), 0, "a refused request holds no place");
        for _ in 0..20 {
            assert_eq!(rate_of(&g, now), None);
        }
        assert_eq!(
            rate_of(&g, now),
            Some(ThrottleReason::FunctionInvocationRateLimitExceeded)
        );
        now += Duration::from_millis(100);
        assert_eq!(rate_of(&f, now), None);
    }
}
