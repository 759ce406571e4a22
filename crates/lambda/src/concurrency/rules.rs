//! What may be configured, in AWS's words where it may not.

use model::ErrorShape;
use model::lambda::error;
use protocol::ApiError;

use super::in_transit;
use crate::function::{Function, Target};
use crate::name::Qualifier;

/// Why concurrency cannot be configured so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "Specified ReservedConcurrentExecutions for function decreases account's \
         UnreservedConcurrentExecution below its minimum value of [{minimum}]."
    )]
    ReservedTooMuch { minimum: u32 },
    // The spaces are AWS's.
    #[error(
        " ReservedConcurrentExecutions  {reserved} should not be lower than function's total \
         provisioned concurrency [{provisioned}]."
    )]
    ReservedBelowProvisioned { reserved: u32, provisioned: u32 },
    #[error(
        "Requested Provisioned Concurrency should not be greater than the \
         reservedConcurrentExecution for function"
    )]
    ProvisionedAboveReserved,
    #[error(
        "Specified ConcurrentExecutions for function is greater than account's unreserved \
         concurrency [{unreserved}]."
    )]
    ProvisionedAboveUnreserved { unreserved: u32 },
    #[error(
        "Specified ConcurrentExecutions for function decreases account's \
         UnreservedConcurrentExecution below its minimum value of [{minimum}]."
    )]
    ProvisionedTooMuch { minimum: u32 },
    #[error("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")]
    Unpublished,
    #[error("The function resource provided must be an alias or a published version.")]
    NoVersionOrAlias,
    #[error("Alias with weights can not be used with Provisioned Concurrency")]
    WeightedAlias,
    #[error("Invalid alias configuration for Provisioned Concurrency")]
    WeightsWithNewVersion,
    #[error(
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned \
         version"
    )]
    VersionIsProvisioned,
    #[error("Version is pointed by a Provisioned Concurrency alias")]
    AliasIsProvisioned,
    #[error("No Provisioned Concurrency Config found for this function")]
    NotFound,
}

/// As `InvalidParameterValueException`, without a `Type`: so AWS answers here.
static UNTYPED: ErrorShape = ErrorShape {
    code: "InvalidParameterValueException",
    status: 400,
    fault: model::Fault::Client,
    query_code: None,
    message_key: "message",
    typed: false,
};

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let shape = match refusal {
            Refusal::ReservedTooMuch { .. }
            | Refusal::ReservedBelowProvisioned { .. }
            | Refusal::ProvisionedAboveUnreserved { .. }
            | Refusal::ProvisionedTooMuch { .. } => &UNTYPED,
            Refusal::ProvisionedAboveReserved
            | Refusal::Unpublished
            | Refusal::NoVersionOrAlias
            | Refusal::WeightedAlias
            | Refusal::WeightsWithNewVersion => &error::INVALID_PARAMETER_VALUE,
            Refusal::VersionIsProvisioned | Refusal::AliasIsProvisioned => {
                &error::RESOURCE_CONFLICT
            }
            Refusal::NotFound => &error::PROVISIONED_CONCURRENCY_CONFIG_NOT_FOUND,
        };
        Self::new(shape, refusal.to_string())
    }
}

/// What an account has, apart from the function that is being configured.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    pub limit: u32,
    /// So much stays for functions that have nothing of their own.
    pub minimum: u32,
    /// What other functions have for themselves.
    pub others: u32,
}

impl Account {
    /// What would be left for all others if one function had this much for itself.
    fn left(&self, own: u32) -> i64 {
        i64::from(self.limit) - i64::from(self.others) - i64::from(own)
    }
}

/// Whether a function may have this much reserved.
pub fn check_reserved(function: &Function, account: Account, reserved: u32) -> Result<(), Refusal> {
    let minimum = account.minimum;
    if account.left(reserved) < i64::from(minimum) {
        return Err(Refusal::ReservedTooMuch { minimum });
    }
    let provisioned = function.attached.concurrency.total_provisioned();
    if reserved < provisioned {
        return Err(Refusal::ReservedBelowProvisioned {
            reserved,
            provisioned,
        });
    }
    Ok(())
}

/// Whether a version or an alias, which exists, may have this much provisioned.
pub fn check_provisioned(
    function: &Function,
    account: Account,
    qualifier: &Qualifier,
    requested: u32,
) -> Result<(), Refusal> {
    let concurrency = &function.attached.concurrency;
    let own = concurrency.provisioned.get(&qualifier.to_string());
    let others = concurrency.total_provisioned() - own.map_or(0, |own| own.requested);
    let all = others.saturating_add(requested);
    let minimum = account.minimum;
    match concurrency.reserved {
        Some(reserved) if all > reserved => return Err(Refusal::ProvisionedAboveReserved),
        Some(_) => {}
        None if account.left(all) < 0 => {
            let unreserved = u32::try_from(account.left(others)).unwrap_or(0);
            return Err(Refusal::ProvisionedAboveUnreserved { unreserved });
        }
        None if account.left(all) < i64::from(minimum) => {
            return Err(Refusal::ProvisionedTooMuch { minimum });
        }
        None => {}
    }
    match qualifier {
        Qualifier::Latest => Err(Refusal::Unpublished),
        Qualifier::Version(number) => check_free_for_version(function, *number),
        Qualifier::Alias(name) => check_alias(function, name),
    }
}

fn check_alias(function: &Function, name: &str) -> Result<(), Refusal> {
    let Some(alias) = function.aliases.get(name) else {
        return Err(Refusal::NotFound);
    };
    if !alias.weights.is_empty() {
        return Err(Refusal::WeightedAlias);
    }
    match alias.target {
        Target::Version(number) => check_free_for_alias(function, name, number),
        Target::Latest => Err(Refusal::Unpublished),
    }
}

/// A version may have environments by itself or by one alias.
pub fn check_free_for_alias(function: &Function, name: &str, number: u64) -> Result<(), Refusal> {
    let provisioned = &function.attached.concurrency.provisioned;
    let by_itself = provisioned.contains_key(&number.to_string());
    if by_itself || by_alias(function, number, Some(name)) {
        return Err(Refusal::VersionIsProvisioned);
    }
    Ok(())
}

fn check_free_for_version(function: &Function, number: u64) -> Result<(), Refusal> {
    if by_alias(function, number, None) {
        return Err(Refusal::AliasIsProvisioned);
    }
    Ok(())
}

fn by_alias(function: &Function, number: u64, except: Option<&str>) -> bool {
    let provisioned = &function.attached.concurrency.provisioned;
    function.aliases.iter().any(|(name, alias)| {
        let leads_there =
            alias.target == Target::Version(number) || in_transit(function, name) == Some(number);
        leads_there && except != Some(name.as_str()) && provisioned.contains_key(name)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clock::Timestamp;

    use super::super::Provisioned;
    use super::*;
    use crate::function::Alias;
    use crate::function::tests::function;

    const ACCOUNT: Account = Account {
        limit: 1000,
        minimum: 100,
        others: 0,
    };

    fn published() -> Function {
        let mut function = function("f");
        for build in ["a", "b"] {
            function.latest_mut().build = build.into();
            function.publish(None, Timestamp::default());
        }
        for (name, target) in [("live", Target::Version(1)), ("head", Target::Latest)] {
            let alias = Alias {
                description: String::new(),
                target,
                weights: BTreeMap::new(),
                revision_id: String::new(),
            };
            function.aliases.insert(name.into(), alias);
        }
        function
    }

    fn provision(function: &mut Function, qualifier: &str, requested: u32) {
        let one = Provisioned {
            requested,
            modified: Timestamp::default(),
            moving: None,
        };
        let concurrency = &mut function.attached.concurrency;
        concurrency.provisioned.insert(qualifier.into(), one);
    }

    fn check(function: &Function, qualifier: &str, requested: u32) -> Result<(), Refusal> {
        check_provisioned(function, ACCOUNT, &Qualifier::from(qualifier), requested)
    }

    #[test]
    fn hundred_stay_unreserved() {
        let function = published();
        let too_much = Err(Refusal::ReservedTooMuch { minimum: 100 });
        assert_eq!(check_reserved(&function, ACCOUNT, 900), Ok(()));
        assert_eq!(check_reserved(&function, ACCOUNT, 901), too_much);
        let others = Account {
            others: 500,
            ..ACCOUNT
        };
        assert_eq!(check_reserved(&function, others, 400), Ok(()));
        assert_eq!(check_reserved(&function, others, 401), too_much);
        assert_eq!(check(&function, "1", 900), Ok(()));
        assert_eq!(
            check(&function, "1", 901),
            Err(Refusal::ProvisionedTooMuch { minimum: 100 })
        );
        assert_eq!(
            check(&function, "1", 1001),
            Err(Refusal::ProvisionedAboveUnreserved { unreserved: 1000 })
        );
    }

    #[test]
    fn provisioned_stays_within_reserved() {
        let mut function = published();
        function.attached.concurrency.reserved = Some(5);
        assert_eq!(check(&function, "1", 5), Ok(()));
        assert_eq!(
            check(&function, "1", 6),
            Err(Refusal::ProvisionedAboveReserved)
        );
        provision(&mut function, "1", 3);
        assert_eq!(
            check(&function, "2", 3),
            Err(Refusal::ProvisionedAboveReserved)
        );
        assert_eq!(
            check(&function, "1", 5),
            Ok(()),
            "its own number is replaced"
        );
        assert_eq!(
            check_reserved(&function, ACCOUNT, 2)
                .unwrap_err()
                .to_string(),
            " ReservedConcurrentExecutions  2 should not be lower than function's total \
             provisioned concurrency [3]."
        );
    }

    #[test]
    fn version_has_environments_by_itself_or_by_one_alias() {
        let mut function = published();
        provision(&mut function, "1", 1);
        assert_eq!(
            check(&function, "live", 1),
            Err(Refusal::VersionIsProvisioned)
        );
        let mut function = published();
        provision(&mut function, "live", 1);
        assert_eq!(check(&function, "1", 1), Err(Refusal::AliasIsProvisioned));
        assert_eq!(check(&function, "live", 2), Ok(()));
        let second = function.aliases["live"].clone();
        function.aliases.insert("second".into(), second);
        assert_eq!(
            check(&function, "second", 1),
            Err(Refusal::VersionIsProvisioned)
        );
    }

    #[test]
    fn only_published_versions_and_plain_aliases_are_provisioned() {
        let mut function = published();
        assert_eq!(check(&function, "$LATEST", 1), Err(Refusal::Unpublished));
        assert_eq!(check(&function, "head", 1), Err(Refusal::Unpublished));
        if let Some(alias) = function.aliases.get_mut("live") {
            alias.weights = BTreeMap::from([(2, 0.5)]);
        }
        assert_eq!(check(&function, "live", 1), Err(Refusal::WeightedAlias));
    }
}
