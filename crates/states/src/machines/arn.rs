//! The ARNs of state machines, their versions and their aliases.

use model::stepfunctions::error;
use protocol::Caller;

use super::Kind;
use crate::Error;

/// What an ARN of a state machine names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineArn {
    /// The ARN of the machine itself.
    pub machine: String,
    /// The label of a distributed map, behind a slash.
    pub label: Option<String>,
    pub qualifier: Option<Qualifier>,
    /// The part behind `#`: the mocks to use.
    pub test_case: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Qualifier {
    Version(u64),
    Alias(String),
}

impl MachineArn {
    /// Reads what a client gave where it has to name a state machine, a version or an alias.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (arn, test_case) = match text.split_once('#') {
            Some((arn, test_case)) => (arn, Some(test_case.to_owned())),
            None => (text, None),
        };
        let rest = resource(arn, &["stateMachine"])?;
        let (name, qualifier) = match rest.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier)),
            None => (rest, None),
        };
        let machine_end = arn.len() - rest.len() + name.find('/').unwrap_or(name.len());
        let (name, label) = match name.split_once('/') {
            Some((name, label)) => (name, Some(label)),
            None => (name, None),
        };
        let plain = |part: &str| !part.is_empty() && !part.contains([':', '/', '#']);
        let well_formed = is_name(name)
            && label.is_none_or(plain)
            && qualifier.is_none_or(plain)
            && test_case.as_deref().is_none_or(plain);
        if !well_formed {
            return Err(invalid(&format!("Invalid ARN format: {text}")));
        }
        Ok(Self {
            machine: arn[..machine_end].to_owned(),
            label: label.map(str::to_owned),
            qualifier: qualifier.map(Qualifier::of),
            test_case,
        })
    }
}

impl Qualifier {
    fn of(text: &str) -> Self {
        // An alias cannot have the name of a number, so that none is mistaken for a version.
        match text.parse() {
            Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) => Self::Version(number),
            _ => Self::Alias(text.to_owned()),
        }
    }
}

/// What stands behind the type of resource in an ARN of this service, which has to be one of
/// `types`.
pub fn resource<'a>(arn: &'a str, types: &[&str]) -> Result<&'a str, Error> {
    let mut parts = arn.splitn(7, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (scheme, partition, service, region, account, kind) =
        (next(), next(), next(), next(), next(), next());
    if scheme != "arn" || !partition.starts_with("aws") {
        return Err(invalid(&format!("Invalid ARN prefix: {arn}")));
    }
    if service != "states" {
        return Err(invalid(&format!("Invalid service in ARN: {service}")));
    }
    if region.is_empty() || account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid(&format!("Invalid ARN format: {arn}")));
    }
    if !types.contains(&kind) {
        let text = format!("Resource type not valid in this context: {kind}");
        return Err(invalid(&text));
    }
    parts
        .next()
        .ok_or_else(|| invalid(&format!("Invalid ARN format: {arn}")))
}

/// Whether a resource of the caller's account and region can have this ARN.
pub fn belongs_to(arn: &str, caller: &Caller) -> bool {
    let mut parts = arn.split(':').skip(3);
    parts.next() == Some(caller.region.as_str()) && parts.next() == Some(caller.account.as_str())
}

/// The ARN of a resource of the caller.
pub fn of(caller: &Caller, kind: &str, name: &str) -> String {
    let (region, account) = (&caller.region, caller.account);
    let partition = region.partition();
    format!("arn:{partition}:states:{region}:{account}:{kind}:{name}")
}

/// The ARN of a machine's execution. That of an express one has the execution's name and its run as
/// `name`, with a colon between.
pub fn of_execution(machine: &str, kind: Kind, name: &str) -> String {
    let kind = match kind {
        Kind::Standard => ":execution:",
        Kind::Express => ":express:",
    };
    let mut arn = machine.replacen(":stateMachine:", kind, 1);
    arn.push(':');
    arn.push_str(name);
    arn
}

/// The machine that the ARN of a standard execution names.
pub fn machine_of(execution: &str) -> String {
    let machine = execution
        .rsplit_once(':')
        .map_or(execution, |(machine, _)| machine);
    machine.replacen(":execution:", ":stateMachine:", 1)
}

/// Whether state machines, executions and activities can have this name.
///
/// See <https://docs.aws.amazon.com/step-functions/latest/apireference/API_CreateActivity.html>.
pub fn is_name(name: &str) -> bool {
    const REFUSED: &str = " <>{}[]?*\"#%\\^|~`$&,;:/";
    let refused = |c: char| c.is_whitespace() || c.is_control() || REFUSED.contains(c);
    !name.is_empty() && name.chars().count() <= 80 && !name.contains(refused)
}

/// What [`is_name`] does not let through.
pub fn check_name(name: &str) -> Result<(), Error> {
    match is_name(name) {
        true => Ok(()),
        false => {
            let text = format!("Invalid Name: '{name}'");
            Err(Error::refused(&error::INVALID_NAME, text))
        }
    }
}

pub fn invalid(why: &str) -> Error {
    Error::refused(&error::INVALID_ARN, format!("Invalid Arn: '{why}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "arn:aws:states:eu-west-1:123456789012:stateMachine:m.1";

    fn refused(text: &str) -> String {
        MachineArn::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn qualifiers_and_test_cases_are_told_apart() {
        let plain = MachineArn {
            machine: MACHINE.to_owned(),
            label: None,
            qualifier: None,
            test_case: None,
        };
        assert_eq!(MachineArn::parse(MACHINE).unwrap(), plain);
        let version = MachineArn::parse(&format!("{MACHINE}:12")).unwrap();
        assert_eq!(version.machine, MACHINE);
        assert_eq!(version.qualifier, Some(Qualifier::Version(12)));
        let alias = MachineArn::parse(&format!("{MACHINE}:live-1#Happy")).unwrap();
        assert_eq!(alias.machine, MACHINE);
        assert_eq!(alias.qualifier, Some(Qualifier::Alias("live-1".to_owned())));
        assert_eq!(alias.test_case.as_deref(), Some("Happy"));
        let map = MachineArn::parse(&format!("{MACHINE}/label")).unwrap();
        assert_eq!(
            (map.machine.as_str(), map.label.as_deref()),
            (MACHINE, Some("label"))
        );
    }

    #[test]
    fn what_is_no_arn_of_a_machine_is_refused_in_awss_words() {
        assert_eq!(
            refused("machine"),
            "Invalid Arn: 'Invalid ARN prefix: machine'"
        );
        assert_eq!(
            refused("arn:aws:states:eu-west-1:123456789012:activity:a"),
            "Invalid Arn: 'Resource type not valid in this context: activity'"
        );
        for text in [
            "",
            "arn",
            "arn:aws:states:::stateMachine:m",
            "arn:aws:lambda",
        ] {
            assert!(refused(text).starts_with("Invalid Arn: '"), "{text}");
        }
        for suffix in [":", ":a:b", "/", "/a/b", "#", "#a#b", " b"] {
            refused(&format!("{MACHINE}{suffix}"));
        }
    }

    #[test]
    fn executions_are_named_after_their_machines() {
        let standard = of_execution(MACHINE, Kind::Standard, "e");
        assert_eq!(
            standard,
            "arn:aws:states:eu-west-1:123456789012:execution:m.1:e"
        );
        assert_eq!(
            of_execution(MACHINE, Kind::Express, "e:r"),
            "arn:aws:states:eu-west-1:123456789012:express:m.1:e:r"
        );
        for machine in [MACHINE, &format!("{MACHINE}/label")] {
            let standard = of_execution(machine, Kind::Standard, "e");
            assert_eq!(machine_of(&standard), machine);
        }
    }

    #[test]
    fn names_are_checked_by_their_characters() {
        for name in ["a", "state.machine_1-b", "grüße", &"x".repeat(80)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a b", "a\tb", "a\u{85}b", "a/b", "a$", &"x".repeat(81)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
