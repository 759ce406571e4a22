//! The numbers that invocations leave behind, on their way to whoever keeps them.

use std::sync::Arc;

use clock::Timestamp;
use serde::Serialize;

use crate::Function;

/// Takes measurements. Called on the way of an invocation: it must neither block nor be slow.
pub type MetricsHook = Arc<dyn Fn(&Measurement<'_>) + Send + Sync>;

/// What was measured at one moment, of one function or of a whole account.
///
/// It borrows everything, so that measuring allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measurement<'a> {
    pub account: &'a str,
    pub region: &'a str,
    /// The function's name; `None` for numbers of the account.
    pub function: Option<&'a str>,
    /// What was invoked: the name, followed by `:` and the qualifier if the caller named one.
    pub resource: Option<&'a str>,
    /// The version that ran, if an alias was invoked.
    pub executed_version: Option<&'a str>,
    pub at: Timestamp,
    pub values: &'a [(Metric, f64)],
}

impl<'a> Measurement<'a> {
    /// A measurement of a function as it was invoked: `invoked_arn` has the qualifier, if the
    /// caller named one. An ARN that is none leaves the resource open.
    pub fn of_invocation(
        function: &'a Function,
        invoked_arn: &'a str,
        at: Timestamp,
        values: &'a [(Metric, f64)],
    ) -> Self {
        let resource = invoked_arn.split_once(":function:").map(|(_, rest)| rest);
        let qualifier = resource.and_then(|resource| resource.split_once(':'));
        let is_alias = qualifier.is_some_and(|(_, qualifier)| {
            qualifier != "$LATEST" && !qualifier.bytes().all(|byte| byte.is_ascii_digit())
        });
        Self {
            account: &function.account,
            region: &function.region,
            function: Some(&function.name),
            resource,
            executed_version: is_alias.then_some(function.version.as_str()),
            at,
            values,
        }
    }

    /// A measurement of a function as a whole.
    pub fn of_function(
        account: &'a str,
        region: &'a str,
        function: &'a str,
        at: Timestamp,
        values: &'a [(Metric, f64)],
    ) -> Self {
        Self {
            account,
            region,
            function: Some(function),
            resource: None,
            executed_version: None,
            at,
            values,
        }
    }
}

macro_rules! metrics {
    ($($(#[$meta:meta])* $name:ident: $unit:ident,)*) => {
        /// What can be measured. The names are those that AWS publishes in `AWS/Lambda`, and a few
        /// that it only has in logs.
        ///
        /// See <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html>.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub enum Metric {
            $($(#[$meta])* $name,)*
        }

        impl Metric {
            /// All of them, in the order of their values as numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// AWS's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The unit of its values.
            pub const fn unit(self) -> Unit {
                match self {
                    $(Self::$name => Unit::$unit,)*
                }
            }
        }
    };
}

/// Units of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    Count,
    Milliseconds,
    /// A share of one.
    None,
}

impl Unit {
    /// AWS's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Milliseconds => "Milliseconds",
            Self::None => "None",
        }
    }
}

metrics! {
    Invocations: Count,
    /// 0 for an invocation that succeeded, so that the average is the error rate.
    Errors: Count,
    /// 0 for an invocation that was admitted.
    Throttles: Count,
    Duration: Milliseconds,
    PostRuntimeExtensionsDuration: Milliseconds,
    /// Not published by AWS as a metric: only in REPORT lines.
    InitDuration: Milliseconds,
    /// Not published by AWS as a metric: only in REPORT lines.
    RestoreDuration: Milliseconds,
    ConcurrentExecutions: Count,
    UnreservedConcurrentExecutions: Count,
    ClaimedAccountConcurrency: Count,
    ProvisionedConcurrentExecutions: Count,
    ProvisionedConcurrencyInvocations: Count,
    ProvisionedConcurrencySpilloverInvocations: Count,
    ProvisionedConcurrencyUtilization: None,
    AsyncEventsReceived: Count,
    AsyncEventAge: Milliseconds,
    AsyncEventsDropped: Count,
    DeadLetterErrors: Count,
    DestinationDeliveryFailures: Count,
    RecursiveInvocationsDropped: Count,
    IteratorAge: Milliseconds,
    OffsetLag: Count,
    UrlRequestCount: Count,
    Url4xxCount: Count,
    Url5xxCount: Count,
    UrlRequestLatency: Milliseconds,
    SignatureValidationErrors: Count,
}

impl Metric {
    /// False for what AWS has in logs only.
    pub const fn is_published(self) -> bool {
        !matches!(self, Self::InitDuration | Self::RestoreDuration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:hello";

    fn invoked(arn: &str) -> (Option<String>, Option<String>) {
        let function = Function {
            version: "7".into(),
            ..testing::function()
        };
        let measured = Measurement::of_invocation(&function, arn, Timestamp::default(), &[]);
        (
            measured.resource.map(str::to_owned),
            measured.executed_version.map(str::to_owned),
        )
    }

    #[test]
    fn only_an_alias_leads_to_an_executed_version() {
        let resource = |text: &str| Some(text.to_owned());
        assert_eq!(invoked(ARN), (resource("hello"), None));
        assert_eq!(invoked(&format!("{ARN}:7")), (resource("hello:7"), None));
        assert_eq!(
            invoked(&format!("{ARN}:$LATEST")),
            (resource("hello:$LATEST"), None)
        );
        assert_eq!(
            invoked(&format!("{ARN}:live")),
            (resource("hello:live"), Some("7".to_owned()))
        );
        assert_eq!(invoked(""), (None, None));
    }
}
