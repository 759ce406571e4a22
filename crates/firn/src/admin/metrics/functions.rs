//! The numbers of functions.

use std::collections::BTreeMap;

use invoker::FunctionCapacity;

use super::{Page, escaped};
use crate::measurements::{DURATION_BOUNDS_MS, FunctionName, Snapshot};

/// One counter of a function.
type Counter = (&'static str, &'static str, fn(&Snapshot) -> u64);

const COUNTERS: [Counter; 5] = [
    (
        "firn_lambda_invocations_total",
        "Invocations that ran, whether or not they failed.",
        |of| of.invocations,
    ),
    (
        "firn_lambda_errors_total",
        "Invocations that failed.",
        |of| of.errors,
    ),
    (
        "firn_lambda_throttles_total",
        "Invocations that were refused for lack of concurrency.",
        |of| of.throttles,
    ),
    (
        "firn_lambda_cold_starts_total",
        "Invocations whose environment started for them.",
        |of| of.cold_starts,
    ),
    (
        "firn_lambda_restores_total",
        "Invocations whose environment was restored from a snapshot for them.",
        |of| of.restores,
    ),
];

/// Functions whose capacity is shown; those that run come first.
const MAX_FUNCTIONS: usize = 1_000;

impl Page {
    pub(super) fn functions(
        &mut self,
        functions: &[(FunctionName, Snapshot)],
        capacity: &[FunctionCapacity],
    ) {
        let labelled: Vec<(String, &Snapshot)> = functions
            .iter()
            .map(|(name, numbers)| (labels(&name.account, &name.region, &name.function), numbers))
            .collect();
        for (name, help, value) in COUNTERS {
            self.head(name, "counter", help);
            for (labels, numbers) in &labelled {
                self.line(format_args!("{name}{{{labels}}} {}", value(numbers)));
            }
        }
        self.durations(&labelled);
        self.capacity(capacity);
    }

    fn durations(&mut self, functions: &[(String, &Snapshot)]) {
        let name = "firn_lambda_duration_seconds";
        self.head(name, "histogram", "How long invocations took.");
        for (labels, numbers) in functions {
            let mut seen = 0;
            for (bound, count) in DURATION_BOUNDS_MS.iter().zip(numbers.durations) {
                seen += count;
                let bound = bound / 1_000.0;
                self.line(format_args!(
                    "{name}_bucket{{{labels},le=\"{bound}\"}} {seen}"
                ));
            }
            // A duration is counted in the moment between two of these numbers, perhaps.
            let all = numbers.invocations.max(seen);
            self.line(format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {all}"));
            #[expect(clippy::cast_precision_loss, reason = "a sum for graphs")]
            let sum = numbers.duration_us as f64 / 1e6;
            self.line(format_args!("{name}_sum{{{labels}}} {sum}"));
            self.line(format_args!("{name}_count{{{labels}}} {all}"));
        }
    }

    fn capacity(&mut self, capacity: &[FunctionCapacity]) {
        let mut shown: Vec<&FunctionCapacity> = capacity.iter().collect();
        shown.sort_by(|a, b| b.running.cmp(&a.running).then_with(|| a.arn.cmp(&b.arn)));
        shown.truncate(MAX_FUNCTIONS);
        let name = "firn_lambda_concurrent_executions";
        self.head(name, "gauge", "Invocations that run now.");
        for function in &shown {
            let labels = labels_of_arn(&function.arn);
            self.line(format_args!("{name}{{{labels}}} {}", function.running));
        }
        let mut provisioned: BTreeMap<&str, Vec<(String, u32)>> = BTreeMap::new();
        for function in &shown {
            let labels = labels_of_arn(&function.arn);
            for (version, status) in &function.provisioned {
                let labels = format!("{labels},version=\"{}\"", escaped(version));
                for (name, value) in [
                    ("firn_lambda_provisioned_environments", status.allocated),
                    ("firn_lambda_provisioned_running", status.running),
                    ("firn_lambda_provisioned_wanted", status.wanted),
                ] {
                    provisioned
                        .entry(name)
                        .or_default()
                        .push((labels.clone(), value));
                }
            }
        }
        for (name, help) in [
            (
                "firn_lambda_provisioned_environments",
                "Provisioned environments that are ready.",
            ),
            (
                "firn_lambda_provisioned_running",
                "Provisioned environments that run an invocation now.",
            ),
            (
                "firn_lambda_provisioned_wanted",
                "Provisioned environments that were asked for.",
            ),
        ] {
            self.head(name, "gauge", help);
            for (labels, value) in provisioned.get(name).into_iter().flatten() {
                self.line(format_args!("{name}{{{labels}}} {value}"));
            }
        }
    }

    pub(super) fn lost(&mut self, values: u64) {
        let name = "firn_measurements_lost_total";
        let help = "Values that the metrics of AWS/Lambda lack, because there were too many names.";
        self.head(name, "counter", help);
        self.line(format_args!("{name} {values}"));
    }
}

fn labels(account: &str, region: &str, function: &str) -> String {
    format!(
        "account=\"{}\",region=\"{}\",function=\"{}\"",
        escaped(account),
        escaped(region),
        escaped(function)
    )
}

/// `arn:aws:lambda:REGION:ACCOUNT:function:NAME`
fn labels_of_arn(arn: &str) -> String {
    let part = |index: usize| arn.split(':').nth(index).unwrap_or_default();
    labels(part(4), part(3), part(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative() {
        let mut numbers = Snapshot {
            invocations: 4,
            errors: 1,
            duration_us: 1_500_000,
            ..Snapshot::default()
        };
        numbers.durations[0] = 1;
        numbers.durations[2] = 2;
        let name = FunctionName {
            account: "1".into(),
            region: "r".into(),
            function: "f".into(),
        };
        let mut page = Page::default();
        page.functions(&[(name, numbers)], &[]);
        let text = page.0;
        for line in [
            "# TYPE firn_lambda_invocations_total counter",
            "firn_lambda_errors_total{account=\"1\",region=\"r\",function=\"f\"} 1",
            "firn_lambda_duration_seconds_bucket{account=\"1\",region=\"r\",function=\"f\",le=\"0.001\"} 1",
            "firn_lambda_duration_seconds_bucket{account=\"1\",region=\"r\",function=\"f\",le=\"0.0025\"} 1",
            "firn_lambda_duration_seconds_bucket{account=\"1\",region=\"r\",function=\"f\",le=\"0.005\"} 3",
            "firn_lambda_duration_seconds_bucket{account=\"1\",region=\"r\",function=\"f\",le=\"+Inf\"} 4",
            "firn_lambda_duration_seconds_sum{account=\"1\",region=\"r\",function=\"f\"} 1.5",
            "firn_lambda_duration_seconds_count{account=\"1\",region=\"r\",function=\"f\"} 4",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} not in\n{text}"
            );
        }
        assert_eq!(
            labels_of_arn("arn:aws:lambda:eu-west-1:123456789012:function:hello"),
            labels("123456789012", "eu-west-1", "hello")
        );
    }
}
