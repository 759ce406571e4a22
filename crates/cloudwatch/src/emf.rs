//! Metrics in log lines: CloudWatch's embedded metric format.
//!
//! A line is one JSON object whose member `_aws` says which of the other members are metrics, and
//! which are their dimensions. What breaks the format is passed over without a word, as AWS does,
//! and as little of the rest as possible with it.
//!
//! See <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.

use std::sync::Arc;

use clock::Timestamp;
use memchr::memmem;
use serde_json::{Map, Value};

use crate::Aggregate;
use crate::metric::{Datum, MetricKey, Unit};

const MAX_DIMENSIONS: usize = 30;
const MAX_METRICS: usize = 100;
const MAX_VALUES: usize = 100;
const MAX_DIRECTIVES: usize = 100;
/// Sets of dimensions of one directive. AWS bounds them by the size of the line only.
const MAX_SETS: usize = 100;
const MAX_NAME_BYTES: usize = 1_024;
const TWO_WEEKS_S: i64 = 14 * 24 * 3_600;
const TWO_HOURS_S: i64 = 2 * 3_600;

/// Whether a line is worth a closer look. Cheap enough for every line.
pub fn may_have_metrics(line: &[u8]) -> bool {
    line.trim_ascii_start().first() == Some(&b'{')
        && memmem::find(line, b"\"_aws\"").is_some()
        && memmem::find(line, b"\"CloudWatchMetrics\"").is_some()
}

/// The metrics in a line; none in most.
pub fn find(line: &[u8], now: Timestamp) -> Vec<Datum> {
    if !may_have_metrics(line) {
        return Vec::new();
    }
    let Ok(Value::Object(root)) = serde_json::from_slice::<Value>(line) else {
        return Vec::new();
    };
    read(&root, now).unwrap_or_default()
}

fn read(root: &Map<String, Value>, now: Timestamp) -> Option<Vec<Datum>> {
    let aws = root.get("_aws")?.as_object()?;
    let at = Timestamp::from_millis(aws.get("Timestamp")?.as_i64()?);
    let age = now.as_secs().saturating_sub(at.as_secs());
    if !(-TWO_HOURS_S..=TWO_WEEKS_S).contains(&age) {
        return None;
    }
    let directives = aws.get("CloudWatchMetrics")?.as_array()?;
    let mut data = Vec::new();
    for directive in directives.iter().take(MAX_DIRECTIVES) {
        // One directive that is wrong does not spoil the others.
        let _ = read_directive(root, directive, at, &mut data);
    }
    Some(data)
}

fn read_directive(
    root: &Map<String, Value>,
    directive: &Value,
    at: Timestamp,
    data: &mut Vec<Datum>,
) -> Option<()> {
    let namespace = name(directive.get("Namespace")?)?;
    if namespace.starts_with("AWS/") {
        return None;
    }
    let sets = directive.get("Dimensions")?.as_array()?;
    let sets: Vec<Vec<(Arc<str>, Arc<str>)>> = sets
        .iter()
        .take(MAX_SETS)
        .filter_map(|set| dimensions(root, set))
        .collect();
    let metrics = directive.get("Metrics")?.as_array()?;
    for metric in metrics.iter().take(MAX_METRICS) {
        let Some(metric) = read_metric(root, metric) else {
            continue;
        };
        for set in &sets {
            data.push(Datum {
                metric: MetricKey::new(Arc::clone(&namespace), metric.name.clone(), set.clone()),
                unit: metric.unit,
                at,
                high_resolution: metric.high_resolution,
                values: metric.values.clone(),
            });
        }
    }
    Some(())
}

/// A set is valid if all its members are texts of the root.
fn dimensions(root: &Map<String, Value>, set: &Value) -> Option<Vec<(Arc<str>, Arc<str>)>> {
    let names = set.as_array()?;
    if names.len() > MAX_DIMENSIONS {
        return None;
    }
    names
        .iter()
        .map(|key| {
            let value = name(root.get(key.as_str()?)?)?;
            Some((name(key)?, value))
        })
        .collect()
}

struct Metric {
    name: Arc<str>,
    unit: Unit,
    high_resolution: bool,
    values: Aggregate,
}

fn read_metric(root: &Map<String, Value>, metric: &Value) -> Option<Metric> {
    let named = name(metric.get("Name")?)?;
    let unit = match metric.get("Unit") {
        None => Unit::NONE,
        Some(unit) => Unit::named(unit.as_str()?)?,
    };
    let high_resolution = match metric.get("StorageResolution") {
        None => false,
        Some(resolution) => match resolution.as_i64()? {
            1 => true,
            60 => false,
            _ => return None,
        },
    };
    let values = values(root.get(&*named)?)?;
    Some(Metric {
        name: named,
        unit,
        high_resolution,
        values,
    })
}

fn values(target: &Value) -> Option<Aggregate> {
    let mut aggregate = Aggregate::new();
    match target {
        Value::Number(number) => aggregate.add(number.as_f64()?, 1.0),
        Value::Array(numbers) if (1..=MAX_VALUES).contains(&numbers.len()) => {
            for number in numbers {
                aggregate.add(number.as_f64()?, 1.0);
            }
        }
        _ => return None,
    }
    let fits = aggregate.sum.is_finite()
        && aggregate.minimum.abs().max(aggregate.maximum.abs()) <= 2_f64.powi(360);
    fits.then_some(aggregate)
}

/// A text that can be a name or a dimension's value.
fn name(value: &Value) -> Option<Arc<str>> {
    let text = value.as_str()?;
    (!text.trim().is_empty() && text.len() <= MAX_NAME_BYTES).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn found(line: &Value) -> Vec<Datum> {
        find(line.to_string().as_bytes(), Timestamp::from_millis(NOW_MS))
    }

    fn line(aws: Value, mut members: Value) -> Value {
        members["_aws"] = aws;
        members
    }

    fn aws(dimensions: Value, metrics: Value) -> Value {
        json!({
            "Timestamp": NOW_MS - 5_000,
            "CloudWatchMetrics": [
                {"Namespace": "shop", "Dimensions": dimensions, "Metrics": metrics},
            ],
        })
    }

    #[test]
    fn each_set_of_dimensions_makes_a_metric() {
        let data = found(&line(
            aws(
                json!([["service"], ["service", "stage"], []]),
                json!([{"Name": "took", "Unit": "Milliseconds"}, {"Name": "orders", "StorageResolution": 1}]),
            ),
            json!({"service": "cart", "stage": "prod", "took": [1, 2.5], "orders": 3, "more": "x"}),
        ));
        assert_eq!(data.len(), 6);
        assert_eq!(&*data[0].metric.namespace, "shop");
        assert_eq!(&*data[0].metric.name, "took");
        assert_eq!(
            data[0].metric.dimensions,
            [("service".into(), "cart".into())]
        );
        assert_eq!(data[1].metric.dimensions.len(), 2);
        assert!(data[2].metric.dimensions.is_empty());
        assert_eq!(data[0].unit, Unit::MILLISECONDS);
        assert_eq!((data[0].values.count, data[0].values.sum), (2.0, 3.5));
        assert_eq!(data[0].at, Timestamp::from_millis(NOW_MS - 5_000));
        assert!(!data[0].high_resolution && data[3].high_resolution);
        assert_eq!(data[3].unit, Unit::NONE);
    }

    #[test]
    fn what_breaks_the_format_is_passed_over() {
        let members = json!({"d": "x", "n": 1, "text": "t", "many": vec![1; 101]});
        let good = json!([{"Name": "n"}]);
        for (dimensions, metrics) in [
            (json!([["missing"]]), good.clone()),
            (json!([["n"]]), good.clone()),
            (json!([vec!["d"; 31]]), good.clone()),
            (json!("d"), good.clone()),
            (json!([["d"]]), json!([{"Name": "text"}])),
            (json!([["d"]]), json!([{"Name": "missing"}])),
            (json!([["d"]]), json!([{"Name": "many"}])),
            (json!([["d"]]), json!([{"Name": "n", "Unit": "Pounds"}])),
            (
                json!([["d"]]),
                json!([{"Name": "n", "StorageResolution": 5}]),
            ),
            (json!([["d"]]), json!({"Name": "n"})),
        ] {
            let line = line(aws(dimensions, metrics), members.clone());
            assert_eq!(found(&line), [], "{line}");
        }
        // The rest of such a line counts.
        let mixed = line(
            aws(
                json!([["missing"], ["d"]]),
                json!([{"Name": "text"}, {"Name": "n"}]),
            ),
            members,
        );
        assert_eq!(found(&mixed).len(), 1);
    }

    #[test]
    fn times_far_away_do_not_count() {
        let at = |ms: i64| {
            let mut aws = aws(json!([[]]), json!([{"Name": "n"}]));
            aws["Timestamp"] = json!(ms);
            found(&line(aws, json!({"n": 1}))).len()
        };
        assert_eq!(at(NOW_MS), 1);
        assert_eq!(at(NOW_MS + 3 * 3_600_000), 0);
        assert_eq!(at(NOW_MS - 15 * 24 * 3_600_000), 0);
        assert_eq!(at(i64::MIN), 0);
        assert_eq!(at(i64::MAX), 0);
    }

    #[test]
    fn other_lines_are_not_even_parsed() {
        for line in [
            "",
            "hello",
            "{\"a\":1}",
            "[\"_aws\", \"CloudWatchMetrics\"]",
        ] {
            assert!(!may_have_metrics(line.as_bytes()), "{line}");
        }
        assert!(may_have_metrics(b" {\"_aws\":{\"CloudWatchMetrics\":[]}}"));
    }
}
