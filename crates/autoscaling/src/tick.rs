//! What happens each minute.

use std::sync::{Arc, Weak};
use std::time::Duration;

use clock::{Clock, Timestamp};
use protocol::{ApiError, Caller};
use uuid::Uuid;

use crate::activity::{Activity, NotScaled, Status};
use crate::policy::{Wish, agreed, cooled_down, granted};
use crate::service::Autoscaling;
use crate::target::{Limits, Target, TargetId};
use crate::{Error, capacity, metric};

/// How long after a full minute the metrics of the one before are surely there.
const SETTLING: Duration = Duration::from_secs(3);

/// Ticks right after each full minute, until the service is gone.
pub(crate) async fn run(service: Weak<Autoscaling>, clock: Clock) {
    loop {
        let now = clock.now();
        let minute = Timestamp::from_secs((now.as_secs().div_euclid(60) + 1) * 60);
        clock.sleep_until(minute + SETTLING).await;
        let Some(service) = service.upgrade() else {
            return;
        };
        service.tick().await;
    }
}

impl Autoscaling {
    /// Runs the scheduled actions that are due and lets the policies of all targets decide, as of
    /// now. It is called once a minute.
    pub async fn tick(&self) {
        for target in self.targets() {
            if let Err(err) = self.tend(&target.id).await {
                let cause: &dyn std::error::Error = &err;
                tracing::warn!(target = %target.id, error = cause, "cannot scale");
            }
        }
    }

    async fn tend(&self, id: &TargetId) -> Result<(), Error> {
        self.run_schedules(id).await?;
        let Some(target) = self.target(id) else {
            return Ok(());
        };
        if target.policies.is_empty() && !target.adjusting {
            return Ok(());
        }
        let caller = id.caller(&target.role_arn)?;
        let current = match capacity::current(self.router(), &caller, id).await {
            Ok(current) => current,
            Err(source) => {
                let action = "read the capacity";
                return Err(Error::Peer { action, source });
            }
        };
        if self.bring_within_limits(&target, &caller, current).await? {
            return Ok(());
        }
        self.follow_policies(&target, &caller, current).await
    }

    /// Moves the limits of a target as its schedules say.
    async fn run_schedules(&self, id: &TargetId) -> Result<(), Error> {
        let now = self.clock().now();
        let ran = self
            .change(id, |target| {
                let Some(target) = target else {
                    return Ok((None, Vec::new()));
                };
                let mut target = target.clone();
                let mut ran = Vec::new();
                let mut due: Vec<(Timestamp, String)> = target
                    .actions
                    .iter()
                    .filter_map(|(name, action)| Some((action.next?, name.clone())))
                    .filter(|(next, _)| *next <= now)
                    .collect();
                // Of several that are due, the latest is to have the last word.
                due.sort();
                for (_, name) in due {
                    let Some(action) = target.actions.get_mut(&name) else {
                        continue;
                    };
                    action.next = action.next_after(now);
                    if target.suspended.schedules {
                        continue;
                    }
                    let limits = moved(target.limits, action.min, action.max);
                    target.limits = limits;
                    target.adjusting = true;
                    ran.push((name, limits));
                }
                Ok((Some(target), ran))
            })
            .await?;
        for (name, limits) in ran {
            let Limits { min, max } = limits;
            let what = format!("min capacity to {min} and max capacity to {max}");
            self.record(Activity {
                id: Uuid::new_v4(),
                target: id.clone(),
                description: format!("Setting {what}"),
                cause: format!("scheduled action name {name} was triggered"),
                start: now,
                end: now,
                status: Status::Successful,
                message: format!("Successfully set {what}"),
                not_scaled: None,
            })
            .await?;
        }
        Ok(())
    }

    /// True if the capacity had to be changed. It is tried again each minute until it works.
    async fn bring_within_limits(
        &self,
        target: &Arc<Target>,
        caller: &Caller,
        current: u32,
    ) -> Result<bool, Error> {
        let Limits { min, max } = target.limits;
        let wanted = target.limits.clamp(current);
        let permitted = if wanted > current {
            !target.suspended.scale_out
        } else {
            !target.suspended.scale_in
        };
        if wanted == current || !permitted {
            if target.adjusting {
                self.adjusted(&target.id).await?;
            }
            return Ok(false);
        }
        let cause = if wanted > current {
            format!("minimum capacity was set to {min}")
        } else {
            format!("maximum capacity was set to {max}")
        };
        if self.scale(target, caller, (current, wanted), cause).await? {
            self.adjusted(&target.id).await?;
        }
        Ok(true)
    }

    async fn adjusted(&self, id: &TargetId) -> Result<(), Error> {
        self.change(id, |target| {
            let mut target = target.cloned();
            if let Some(target) = &mut target {
                target.adjusting = false;
            }
            Ok((target, ()))
        })
        .await
    }

    async fn follow_policies(
        &self,
        target: &Arc<Target>,
        caller: &Caller,
        current: u32,
    ) -> Result<(), Error> {
        let now = self.clock().now();
        let mut wishes = Vec::new();
        for (name, policy) in &target.policies {
            let values = metric::values(
                self.router(),
                caller,
                &target.id,
                &policy.tracking.metric,
                now,
            );
            match values.await {
                Ok(values) => {
                    let wish = policy.tracking.wish(&values, now, current);
                    wishes.push((name, permitted(target, wish)));
                }
                Err(source) => {
                    // A metric that cannot be read must not keep capacity from being added.
                    tracing::warn!(policy = name, error = %source, "cannot read a policy's metric");
                    wishes.push((name, Wish::Stay));
                }
            }
        }
        let wish = agreed(&wishes.iter().map(|(_, wish)| *wish).collect::<Vec<_>>());
        let wanted = granted(wish, target.limits, current);
        let asking = wishes
            .iter()
            .find(|(_, each)| *each == wish)
            .map(|(name, _)| *name);
        if let Some(name) = asking {
            self.note_limit(target, name, wish, (current, wanted))
                .await?;
        }
        let (Some(name), true) = (asking, wanted != current) else {
            return Ok(());
        };
        if !cooled_down(target, wish, now) {
            return Ok(());
        }
        let alarm = alarm_names(&target.id, &target.policies[name].alarms);
        let alarm = &alarm[usize::from(matches!(wish, Wish::In(_)))];
        let cause = format!("monitor alarm {alarm} in state ALARM triggered policy {name}");
        if self.scale(target, caller, (current, wanted), cause).await? {
            self.change(&target.id, |target| {
                let mut target = target.cloned();
                if let Some(target) = &mut target {
                    match wish {
                        Wish::Out(_) => target.scaled_out = Some(now),
                        Wish::In(_) => target.scaled_in = Some(now),
                        Wish::Stay => {}
                    }
                }
                Ok((target, ()))
            })
            .await?;
        }
        Ok(())
    }

    /// Records once that a limit keeps a policy from what it wants.
    async fn note_limit(
        &self,
        target: &Arc<Target>,
        name: &str,
        wish: Wish,
        (current, wanted): (u32, u32),
    ) -> Result<(), Error> {
        let Limits { min, max } = target.limits;
        let (code, limit) = match wish {
            Wish::Out(_) => ("AlreadyAtMaxCapacity", max),
            Wish::In(_) => ("AlreadyAtMinCapacity", min),
            Wish::Stay => ("", 0),
        };
        let at_limit = wish != Wish::Stay && wanted == current;
        let noted = self
            .change(&target.id, |target| {
                let mut target = target.cloned();
                let policy = target
                    .as_mut()
                    .and_then(|target| target.policies.get_mut(name));
                let noted = policy.is_some_and(|policy| {
                    let first = at_limit && !policy.at_limit;
                    policy.at_limit = at_limit;
                    first
                });
                Ok((target, noted))
            })
            .await?;
        if !noted {
            return Ok(());
        }
        let now = self.clock().now();
        let message = format!("The capacity is at the limit of {limit} already.");
        self.record(Activity {
            id: Uuid::new_v4(),
            target: target.id.clone(),
            description: "Attempting to scale due to alarm triggered".to_owned(),
            cause: format!("policy {name} was triggered"),
            start: now,
            end: now,
            status: Status::Unfulfilled,
            message,
            not_scaled: Some(NotScaled {
                code: code.to_owned(),
                limit,
                current,
            }),
        })
        .await
    }

    /// Changes the capacity and records that. True if it was changed.
    async fn scale(
        &self,
        target: &Arc<Target>,
        caller: &Caller,
        (current, wanted): (u32, u32),
        cause: String,
    ) -> Result<bool, Error> {
        let start = self.clock().now();
        let done: Result<(), ApiError> =
            capacity::set(self.router(), caller, &target.id, wanted).await;
        let (status, message) = match &done {
            Ok(()) => (
                Status::Successful,
                format!(
                    "Successfully set provisioned concurrency to {wanted}. Change successfully \
                     fulfilled by lambda."
                ),
            ),
            Err(err) => (
                Status::Failed,
                format!(
                    "Failed to set provisioned concurrency to {wanted}. Reason: {}",
                    err.message()
                ),
            ),
        };
        tracing::info!(target = %target.id, current, wanted, ?status, "scaled");
        self.record(Activity {
            id: Uuid::new_v4(),
            target: target.id.clone(),
            description: format!("Setting desired capacity to {wanted}."),
            cause,
            start,
            end: self.clock().now(),
            status,
            message,
            not_scaled: None,
        })
        .await?;
        Ok(done.is_ok())
    }
}

/// A scheduled action moves one limit or both; one that it does not name gives way.
fn moved(limits: Limits, min: Option<u32>, max: Option<u32>) -> Limits {
    let mut moved = Limits {
        min: min.unwrap_or(limits.min),
        max: max.unwrap_or(limits.max),
    };
    if min.is_none() {
        moved.min = moved.min.min(moved.max);
    }
    moved.max = moved.max.max(moved.min);
    moved
}

fn permitted(target: &Target, wish: Wish) -> Wish {
    match wish {
        Wish::Out(_) if target.suspended.scale_out => Wish::Stay,
        Wish::In(_) if target.suspended.scale_in => Wish::Stay,
        wish => wish,
    }
}

/// The names that AWS gives to the alarms of a policy: first the high one.
pub(crate) fn alarm_names(id: &TargetId, alarms: &[Uuid; 2]) -> [String; 2] {
    let name =
        |kind: &str, uuid: &Uuid| format!("TargetTracking-{}-{kind}-{uuid}", id.resource_id());
    [name("AlarmHigh", &alarms[0]), name("AlarmLow", &alarms[1])]
}
