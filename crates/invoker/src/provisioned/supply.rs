//! Changing what versions have, and telling it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{FunctionCapacity, ProvisionedStatus, Share, Stand};
use crate::admission::{Gate, Permit, Place};
use crate::environment::Environment;
use crate::invoker::Invoker;
use crate::placement::{Grant, Placed};
use crate::{Function, Invocation, Measurement, Metric};

impl Invoker {
    /// Says what a function has of its account's concurrency: all that it is to have, so that what
    /// is not named any more is given back. Takes effect at once for reserved concurrency;
    /// environments are made in the background, and what is too many ends when it is idle.
    pub fn set_capacity(
        &self,
        (arn, account, region): (&str, &str, &str),
        reserved: Option<u32>,
        shares: &[Share],
    ) {
        let gate = self.admission().gate(Place {
            arn,
            account,
            region,
        });
        gate.reserve(reserved);
        let former = gate.stands();
        let stands: Vec<_> = shares
            .iter()
            .filter(|share| share.wanted > 0)
            .map(|share| {
                let known = former.iter().find(|stand| stand.is_of(&share.function));
                let stand = known.map_or_else(
                    || Stand::new(Arc::clone(&share.function), &gate),
                    Arc::clone,
                );
                stand.want(share.wanted, share.counted);
                stand
            })
            .collect();
        let dropped: Vec<_> = former
            .into_iter()
            .filter(|stand| !stands.iter().any(|one| Arc::ptr_eq(one, stand)))
            .collect();
        // Those that are no longer wanted are given no invocation from here on.
        gate.set_stands(stands.clone());
        for stand in &dropped {
            stand.want(0, false);
        }
        for stand in stands.iter().chain(&dropped) {
            self.keep(stand);
        }
    }

    /// The function was deleted.
    pub fn forget_capacity(&self, arn: &str) {
        let gates = self.admission().gates();
        if let Some((_, gate)) = gates.into_iter().find(|(known, _)| known == arn) {
            for stand in gate.stands() {
                stand.want(0, false);
                self.keep(&stand);
            }
            gate.set_stands(Vec::new());
        }
        self.admission().forget(arn);
    }

    /// How far the provisioned environments of a version are, if it is to have any.
    pub fn provisioned(&self, function: &Function) -> Option<ProvisionedStatus> {
        let gate = self.admission().gate(Place::from(function));
        gate.stand(function).map(|stand| stand.status())
    }

    /// Waits until a version has all provisioned environments that it is to have. False if it is to
    /// have none, or the server shuts down.
    pub async fn provisioned_ready(&self, function: &Function) -> bool {
        let gate = self.admission().gate(Place::from(function));
        match gate.stand(function) {
            Some(stand) => stand.ready().await,
            None => false,
        }
    }

    /// What all functions use that were invoked or configured since the server started.
    pub fn capacity(&self) -> Vec<FunctionCapacity> {
        let of = |(arn, gate): (String, Arc<Gate>)| FunctionCapacity {
            arn,
            reserved: gate.reserved(),
            running: gate.running(),
            provisioned: gate
                .stands()
                .iter()
                .map(|stand| (stand.function.version.clone(), stand.status()))
                .collect(),
        };
        self.admission().gates().into_iter().map(of).collect()
    }

    /// A provisioned environment for an invocation, if one is free.
    pub(crate) async fn take_provisioned(
        self: &Arc<Self>,
        gate: &Arc<Gate>,
        stand: &Arc<Stand>,
    ) -> Option<(Box<Environment>, Permit)> {
        let environment =
            match self.with_placement(|placement| placement.request_kept(&stand.key))? {
                Placed::Environment(environment) => environment,
                Placed::Waiting(ticket, receiver) => {
                    match self.await_turn(&stand.key, ticket, receiver).await {
                        Some(Grant::Environment(environment)) => environment,
                        // Late, or gone: it spills over.
                        _ => return None,
                    }
                }
            };
        Some((environment, gate.take_provisioned(Arc::clone(stand))))
    }

    /// Brings the pool of a version to its size.
    fn keep(&self, stand: &Arc<Stand>) {
        let wanted = stand.status().wanted as usize;
        let ended = self.with_placement(|placement| placement.keep(stand, wanted));
        self.end_all(ended);
    }

    /// Has the placement look at its provisioned pools again at a later time.
    pub(crate) fn remind(&self, at: Instant) {
        let invoker = self.weak();
        // Not counted among the tasks that a shutdown waits for: it ends by itself then.
        tokio::spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            if let Some(invoker) = invoker.upgrade() {
                invoker.with_placement(crate::placement::Placement::attend);
            }
        });
    }

    /// Tells the numbers that change with an admission.
    pub(crate) fn measure_admission(
        &self,
        function: &Function,
        invocation: &Invocation,
        permit: &Permit,
        spilled: bool,
    ) {
        let now = self.clock().now();
        let gate = permit.gate();
        self.measure(&Measurement::of_function(
            &function.account,
            &function.region,
            &function.name,
            now,
            &[(Metric::ConcurrentExecutions, f64::from(gate.running()))],
        ));
        self.measure(&Measurement {
            function: None,
            ..Measurement::of_function(
                &function.account,
                &function.region,
                &function.name,
                now,
                &[
                    (
                        Metric::ConcurrentExecutions,
                        f64::from(gate.account_running()),
                    ),
                    (
                        Metric::UnreservedConcurrentExecutions,
                        f64::from(gate.account_shared()),
                    ),
                ],
            )
        });
        let arn = invocation.invoked_arn.as_str();
        if let Some(stand) = permit.stand() {
            let (running, all) = (stand.running.load(Ordering::Relaxed), stand.allocated());
            let values = [
                (Metric::ProvisionedConcurrencyInvocations, 1.0),
                (Metric::ProvisionedConcurrentExecutions, f64::from(running)),
                (
                    Metric::ProvisionedConcurrencyUtilization,
                    f64::from(running) / f64::from(all.max(1)),
                ),
            ];
            self.measure(&Measurement::of_invocation(function, arn, now, &values));
        } else if spilled {
            let values = [(Metric::ProvisionedConcurrencySpilloverInvocations, 1.0)];
            self.measure(&Measurement::of_invocation(function, arn, now, &values));
        }
    }
}

/// How long after so many failures in a row the next try is made. The first comes soon, because
/// what a function needs to start may be just about to be there; a function that cannot start costs
/// a start every five minutes.
pub(crate) fn pause_after(failures: u32) -> Duration {
    const FIRST: Duration = Duration::from_secs(5);
    const LONGEST: Duration = Duration::from_secs(300);
    FIRST
        .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
        .min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let seconds = |failures| pause_after(failures).as_secs();
        assert_eq!((seconds(1), seconds(2), seconds(3)), (5, 10, 20));
        assert_eq!((seconds(8), seconds(u32::MAX)), (300, 300));
    }
}
