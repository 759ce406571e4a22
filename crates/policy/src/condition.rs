//! Conditions: `"Condition": {operator: {key: values}}`.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>

use std::net::IpAddr;

use serde_json::Value;

use crate::context::Context;
use crate::document::ParseError;
use crate::operand::{self, Network};
use crate::pattern::{Pattern, Syntax};

/// One operator applied to one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    lower_key: String,
    quantifier: Option<Quantifier>,
    if_exists: bool,
    comparison: Comparison,
    /// One of several values is enough; of a negated comparison, none may fit.
    values: Vec<Pattern>,
}

/// How a key with several values is held against the condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    AnyValue,
    AllValues,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Comparison {
    kind: Kind,
    negated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    StringEquals,
    StringEqualsIgnoreCase,
    StringLike,
    Arn,
    Numeric(Order),
    Date(Order),
    Bool,
    Binary,
    IpAddress,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equals,
    LessThan,
    LessThanEquals,
    GreaterThan,
    GreaterThanEquals,
}

impl Condition {
    pub fn parse_all(element: &Value, variables: bool) -> Result<Vec<Self>, ParseError> {
        let operators = element.as_object().ok_or(ParseError::Syntax)?;
        let mut conditions = Vec::new();
        for (operator, keys) in operators {
            for (key, values) in keys.as_object().ok_or(ParseError::Syntax)? {
                conditions.push(Self::parse(operator, key, values, variables)?);
            }
        }
        Ok(conditions)
    }

    fn parse(
        operator: &str,
        key: &str,
        values: &Value,
        variables: bool,
    ) -> Result<Self, ParseError> {
        let unknown = || ParseError::ConditionOperator(operator.to_owned());
        let (quantifier, name) = match operator.split_once(':') {
            None => (None, operator),
            Some(("ForAnyValue", name)) => (Some(Quantifier::AnyValue), name),
            Some(("ForAllValues", name)) => (Some(Quantifier::AllValues), name),
            Some(_) => return Err(unknown()),
        };
        let (name, if_exists) = match name.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let comparison = Comparison::parse(name).ok_or_else(unknown)?;
        // Null asks whether the key exists; it cannot depend on that.
        if comparison.kind == Kind::Null && if_exists {
            return Err(unknown());
        }
        let syntax = Syntax {
            wildcards: matches!(comparison.kind, Kind::StringLike | Kind::Arn),
            variables,
        };
        let values = scalars(values)?
            .iter()
            .map(|value| Pattern::parse(value, syntax).ok_or(ParseError::ConditionValue))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            lower_key: key.to_ascii_lowercase(),
            quantifier,
            if_exists,
            comparison,
            values,
        })
    }

    pub fn holds(&self, context: &Context) -> bool {
        let present = context.get(&self.lower_key);
        if self.comparison.kind == Kind::Null {
            return self.values.iter().any(|wanted| {
                let wanted = wanted.text(context).as_deref().and_then(operand::boolean);
                wanted == Some(present.is_none())
            });
        }
        let Some(values) = present else {
            return match self.quantifier {
                _ if self.if_exists => true,
                Some(Quantifier::AllValues) => true,
                Some(Quantifier::AnyValue) => false,
                // What is not there differs from everything.
                None => self.comparison.negated,
            };
        };
        let fits = |value: &String| self.fits(value, context);
        match self.quantifier {
            Some(Quantifier::AllValues) => values.iter().all(fits),
            Some(Quantifier::AnyValue) => values.iter().any(fits),
            None if self.comparison.negated => values.iter().all(fits),
            None => values.iter().any(fits),
        }
    }

    fn fits(&self, value: &str, context: &Context) -> bool {
        let kind = self.comparison.kind;
        let any = self
            .values
            .iter()
            .any(|wanted| kind.compare(value, wanted, context));
        any != self.comparison.negated
    }
}

impl Comparison {
    fn parse(name: &str) -> Option<Self> {
        let plain = |kind| Self {
            kind,
            negated: false,
        };
        let not = |kind| Self {
            kind,
            negated: true,
        };
        Some(match name {
            "StringEquals" => plain(Kind::StringEquals),
            "StringNotEquals" => not(Kind::StringEquals),
            "StringEqualsIgnoreCase" => plain(Kind::StringEqualsIgnoreCase),
            "StringNotEqualsIgnoreCase" => not(Kind::StringEqualsIgnoreCase),
            "StringLike" => plain(Kind::StringLike),
            "StringNotLike" => not(Kind::StringLike),
            // AWS lets both forms hold wildcards.
            "ArnEquals" | "ArnLike" => plain(Kind::Arn),
            "ArnNotEquals" | "ArnNotLike" => not(Kind::Arn),
            "Bool" => plain(Kind::Bool),
            "BinaryEquals" => plain(Kind::Binary),
            "IpAddress" => plain(Kind::IpAddress),
            "NotIpAddress" => not(Kind::IpAddress),
            "Null" => plain(Kind::Null),
            _ => {
                let (numeric, rest) = match name.strip_prefix("Numeric") {
                    Some(rest) => (true, rest),
                    None => (false, name.strip_prefix("Date")?),
                };
                let (negated, order) = match rest {
                    "NotEquals" => (true, Order::Equals),
                    _ => (false, Order::parse(rest)?),
                };
                let kind = if numeric {
                    Kind::Numeric(order)
                } else {
                    Kind::Date(order)
                };
                Self { kind, negated }
            }
        })
    }
}

impl Order {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "Equals" => Self::Equals,
            "LessThan" => Self::LessThan,
            "LessThanEquals" => Self::LessThanEquals,
            "GreaterThan" => Self::GreaterThan,
            "GreaterThanEquals" => Self::GreaterThanEquals,
            _ => return None,
        })
    }

    fn holds<T: PartialOrd>(self, value: &T, wanted: &T) -> bool {
        match self {
            Self::Equals => value == wanted,
            Self::LessThan => value < wanted,
            Self::LessThanEquals => value <= wanted,
            Self::GreaterThan => value > wanted,
            Self::GreaterThanEquals => value >= wanted,
        }
    }
}

impl Kind {
    /// A value of either side that is not of the kind compared fits nothing.
    fn compare(self, value: &str, wanted: &Pattern, context: &Context) -> bool {
        fn both<T>(
            value: &str,
            wanted: Option<String>,
            read: fn(&str) -> Option<T>,
        ) -> Option<(T, T)> {
            Some((read(value)?, read(&wanted?)?))
        }
        match self {
            Self::StringEquals | Self::StringLike | Self::Binary => wanted.matches(value, context),
            Self::StringEqualsIgnoreCase => wanted.matches_ignoring_case(value, context),
            Self::Arn => wanted
                .text(context)
                .is_some_and(|wanted| arn_fits(value, &wanted)),
            Self::Numeric(order) => both(value, wanted.text(context), operand::number)
                .is_some_and(|(value, wanted)| order.holds(&value, &wanted)),
            Self::Date(order) => both(value, wanted.text(context), operand::date)
                .is_some_and(|(value, wanted)| order.holds(&value, &wanted)),
            Self::Bool => both(value, wanted.text(context), operand::boolean)
                .is_some_and(|(value, wanted)| value == wanted),
            Self::IpAddress => {
                let network = wanted.text(context).as_deref().and_then(Network::parse);
                let address = value.parse::<IpAddr>().ok();
                network
                    .zip(address)
                    .is_some_and(|(network, address)| network.contains(address))
            }
            // Decided before values are compared.
            Self::Null => false,
        }
    }
}

/// Part by part: a wildcard does not reach over the first five colons.
fn arn_fits(value: &str, wanted: &str) -> bool {
    let syntax = Syntax {
        wildcards: true,
        variables: false,
    };
    if wanted == "*" {
        return true;
    }
    let Some((value, wanted)) = operand::arn_parts(value).zip(operand::arn_parts(wanted)) else {
        return false;
    };
    let nothing = Context::new();
    value.iter().zip(wanted).all(|(value, wanted)| {
        Pattern::parse(wanted, syntax).is_some_and(|wanted| wanted.matches(value, &nothing))
    })
}

/// A value or a list of them; numbers and booleans count as their text.
fn scalars(value: &Value) -> Result<Vec<String>, ParseError> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(ParseError::ConditionValue),
    };
    match value {
        Value::Array(values) => values.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(conditions: Value, context: &Context) -> bool {
        Condition::parse_all(&conditions, true)
            .unwrap()
            .iter()
            .all(|condition| condition.holds(context))
    }

    #[test]
    fn texts_are_compared_as_the_operator_says() {
        let context = Context::new().with("aws:UserAgent", "Curl/8");
        for (operator, value, expected) in [
            ("StringEquals", "Curl/8", true),
            ("StringEquals", "curl/8", false),
            ("StringEquals", "Curl/*", false),
            ("StringNotEquals", "Curl/8", false),
            ("StringEqualsIgnoreCase", "cURL/8", true),
            ("StringNotEqualsIgnoreCase", "cURL/8", false),
            ("StringLike", "Curl/*", true),
            ("StringNotLike", "Curl/*", false),
            ("BinaryEquals", "Curl/8", true),
        ] {
            let conditions = json!({operator: {"aws:useragent": value}});
            assert_eq!(holds(conditions, &context), expected, "{operator} {value}");
        }
        let several = |operator: &str| json!({operator: {"aws:UserAgent": ["Curl/8", "x"]}});
        assert!(holds(several("StringEquals"), &context));
        assert!(!holds(several("StringNotEquals"), &context));
    }

    #[test]
    fn wildcards_in_arns_stay_within_their_part() {
        let context = Context::new().with("aws:SourceArn", "arn:aws:s3:::bucket:x/y");
        for (value, expected) in [
            ("arn:aws:s3:::bucket:x/y", true),
            ("arn:aws:s3:*:*:bucket*", true),
            ("arn:aws:s3:::b?cket:*", true),
            ("arn:aws:*:bucket*", false),
            ("*", true),
            ("bucket", false),
        ] {
            for operator in ["ArnLike", "ArnEquals"] {
                let conditions = json!({operator: {"AWS:SourceArn": value}});
                assert_eq!(holds(conditions, &context), expected, "{value}");
            }
            let conditions = json!({"ArnNotLike": {"AWS:SourceArn": value}});
            assert_eq!(holds(conditions, &context), !expected, "{value}");
        }
    }

    #[test]
    fn numbers_dates_booleans_and_addresses_are_compared_by_value() {
        let context = Context::new()
            .with("n", "10")
            .with("aws:CurrentTime", "2020-06-01T12:00:00Z")
            .with("aws:SecureTransport", "true")
            .with("aws:SourceIp", "203.0.113.7");
        for (conditions, expected) in [
            (json!({"NumericLessThan": {"n": "10.5"}}), true),
            (json!({"NumericGreaterThanEquals": {"n": 10}}), true),
            (json!({"NumericEquals": {"n": "1e1"}}), true),
            (json!({"NumericNotEquals": {"n": "10"}}), false),
            (json!({"NumericLessThan": {"n": "many"}}), false),
            (
                json!({"DateGreaterThan": {"aws:CurrentTime": "2020-04-01T00:00:00Z"}}),
                true,
            ),
            (
                json!({"DateLessThan": {"aws:CurrentTime": "2020-06-01"}}),
                false,
            ),
            (json!({"Bool": {"aws:SecureTransport": true}}), true),
            (json!({"Bool": {"aws:SecureTransport": "False"}}), false),
            (
                json!({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "203.0.113.0/24"]}}),
                true,
            ),
            (
                json!({"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}),
                false,
            ),
        ] {
            assert_eq!(
                holds(conditions.clone(), &context),
                expected,
                "{conditions}"
            );
        }
    }

    #[test]
    fn a_key_that_the_request_lacks_fits_only_what_asks_for_its_absence() {
        let context = Context::new().with("there", "x");
        for (conditions, expected) in [
            (json!({"StringEquals": {"gone": "x"}}), false),
            (json!({"StringNotEquals": {"gone": "x"}}), true),
            (json!({"StringEqualsIfExists": {"gone": "x"}}), true),
            (json!({"StringEqualsIfExists": {"there": "y"}}), false),
            (json!({"Null": {"gone": "true", "there": "false"}}), true),
            (json!({"Null": {"there": "true"}}), false),
            (json!({"ForAllValues:StringEquals": {"gone": "x"}}), true),
            (json!({"ForAnyValue:StringEquals": {"gone": "x"}}), false),
        ] {
            assert_eq!(
                holds(conditions.clone(), &context),
                expected,
                "{conditions}"
            );
        }
    }

    #[test]
    fn sets_are_compared_value_by_value() {
        let context = Context::new().with_all("aws:TagKeys", ["a".into(), "b".into()]);
        for (conditions, expected) in [
            (
                json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b", "c"]}}),
                true,
            ),
            (
                json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}}),
                false,
            ),
            (
                json!({"ForAnyValue:StringEquals": {"aws:TagKeys": ["b", "z"]}}),
                true,
            ),
            (
                json!({"ForAnyValue:StringNotEquals": {"aws:TagKeys": ["a"]}}),
                true,
            ),
            (
                json!({"ForAllValues:StringNotEquals": {"aws:TagKeys": ["a"]}}),
                false,
            ),
        ] {
            assert_eq!(
                holds(conditions.clone(), &context),
                expected,
                "{conditions}"
            );
        }
    }

    #[test]
    fn values_may_hold_variables() {
        let context = Context::new()
            .with("aws:username", "alice")
            .with("aws:SourceArn", "arn:aws:sns:us-east-1:1:alice-topic");
        assert!(holds(
            json!({"ArnLike": {"aws:SourceArn": "arn:aws:sns:*:*:${aws:username}-*"}}),
            &context
        ));
        assert!(!holds(
            json!({"StringEquals": {"aws:username": "${aws:absent}"}}),
            &context
        ));
    }

    #[test]
    fn unknown_operators_and_values_are_refused() {
        for conditions in [
            json!({"StringAlmostEquals": {"k": "v"}}),
            json!({"NumericAbout": {"k": "v"}}),
            json!({"ForSomeValues:StringEquals": {"k": "v"}}),
            json!({"NullIfExists": {"k": "true"}}),
            json!({"StringEquals": "v"}),
            json!({"StringEquals": {"k": {}}}),
            json!({"StringLike": {"k": "${open"}}),
            json!([]),
        ] {
            assert!(
                Condition::parse_all(&conditions, true).is_err(),
                "{conditions}"
            );
        }
    }
}
