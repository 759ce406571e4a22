//! How far provisioned environments are, as answers tell it.

use clock::Timestamp;
use invoker::ProvisionedStatus;
use model::lambda::ProvisionedConcurrencyStatusEnum as Status;

use super::Provisioned;
use super::shares::leads_to;
use crate::Lambda;
use crate::function::Function;

/// What `GetProvisionedConcurrencyConfig` tells of one configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    pub requested: i32,
    pub allocated: i32,
    pub status: Status,
    pub reason: Option<String>,
    pub modified: String,
}

impl Progress {
    pub fn of(
        lambda: &Lambda,
        function: &Function,
        qualifier: &str,
        provisioned: &Provisioned,
    ) -> Self {
        let parts = leads_to(function, qualifier, provisioned.requested);
        let parts = parts.into_iter().map(|(number, wanted)| {
            let version = function.versions.get(&number);
            let status = version.and_then(|version| {
                let runnable = lambda.runnable(function, version);
                lambda.workers.provisioned(&runnable)
            });
            (wanted, status)
        });
        Self::summed(provisioned, parts)
    }

    fn summed(
        provisioned: &Provisioned,
        parts: impl Iterator<Item = (u32, Option<ProvisionedStatus>)>,
    ) -> Self {
        let (mut allocated, mut complete, mut failure) = (0, true, None);
        for (wanted, status) in parts {
            // Not yet taken up by the workers: nothing is there.
            let status = status.unwrap_or_default();
            let present = status.allocated.min(wanted);
            allocated += present;
            complete &= present >= wanted;
            failure = failure.or(status.failure);
        }
        // An alias whose new version has all its environments still leads to the old one until it has
        // been moved, and takes no other number.
        let arrived = provisioned.moving.is_none_or(|moving| moving.arrived);
        let (status, reason) = match failure {
            _ if complete && arrived => (Status::Ready, None),
            Some(reason) if !complete => (Status::Failed, Some(reason.to_string())),
            _ => (Status::InProgress, None),
        };
        Self {
            requested: to_i32(provisioned.requested),
            // Rounding up gives the versions of an alias with weights one more than was asked for.
            allocated: to_i32(allocated.min(provisioned.requested)),
            status,
            reason,
            modified: moment(provisioned.modified),
        }
    }

    /// Before anything was done.
    pub fn begun(&self) -> Self {
        Self {
            status: Status::InProgress,
            reason: None,
            ..self.clone()
        }
    }
}

fn to_i32(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// `2019-12-31T20:28:49+0000`: to the second, unlike the other moments of this service.
fn moment(at: Timestamp) -> String {
    let mut text = at.to_string();
    text.truncate("2019-12-31T20:28:49".len());
    text.push_str("+0000");
    text
}

#[cfg(test)]
mod tests {
    use super::super::Moving;
    use super::*;

    fn summed(parts: &[(u32, u32, Option<&str>)]) -> (i32, Status, Option<String>) {
        summed_on_the_way(None, parts)
    }

    fn summed_on_the_way(
        moving: Option<Moving>,
        parts: &[(u32, u32, Option<&str>)],
    ) -> (i32, Status, Option<String>) {
        let provisioned = Provisioned {
            requested: 10,
            modified: Timestamp::from_secs(1_577_824_129),
            moving,
        };
        let parts = parts.iter().map(|(wanted, allocated, failure)| {
            let status = ProvisionedStatus {
                wanted: *wanted,
                allocated: *allocated,
                failure: failure.map(Into::into),
                ..ProvisionedStatus::default()
            };
            (*wanted, Some(status))
        });
        let progress = Progress::summed(&provisioned, parts);
        assert_eq!(progress.modified, "2019-12-31T20:28:49+0000");
        (progress.allocated, progress.status, progress.reason)
    }

    #[test]
    fn ready_when_all_are_there() {
        assert_eq!(summed(&[(10, 0, None)]), (0, Status::InProgress, None));
        assert_eq!(summed(&[(10, 9, None)]), (9, Status::InProgress, None));
        assert_eq!(summed(&[(10, 10, Some("x"))]), (10, Status::Ready, None));
        assert_eq!(summed(&[(10, 20, None)]), (10, Status::Ready, None));
    }

    #[test]
    fn an_alias_is_ready_once_it_leads_to_its_new_version() {
        let moving = |arrived| Some(Moving { from: 1, arrived });
        let there = [(10, 10, Some("before"))];
        let begun = (10, Status::InProgress, None);
        assert_eq!(summed_on_the_way(moving(false), &there), begun);
        let ready = (10, Status::Ready, None);
        assert_eq!(summed_on_the_way(moving(true), &there), ready);
        let failed = summed_on_the_way(moving(false), &[(10, 0, Some("x"))]);
        assert_eq!(failed, (0, Status::Failed, Some("x".into())));
    }

    #[test]
    fn all_versions_of_an_alias_have_to_be_ready() {
        assert_eq!(
            summed(&[(3, 3, None), (8, 8, None)]),
            (10, Status::Ready, None)
        );
        let missing = summed(&[(3, 1, Some("x")), (8, 8, None)]);
        assert_eq!(missing, (9, Status::Failed, Some("x".into())));
    }
}
