use clock::Timestamp;
use model::cloudwatch::{MetricDatum, PutMetricDataInput, PutMetricDataOutput};
use protocol::Caller;

use crate::metric::{Datum, Unit};
use crate::service::scope;
use crate::{Aggregate, CloudWatch, Error};

const MAX_DATA: usize = 1_000;
const MAX_VALUES: usize = 150;
const TWO_WEEKS_S: i64 = 14 * 24 * 3_600;
const TWO_HOURS_S: i64 = 2 * 3_600;

/// The entities of a request are not kept; their metrics are.
pub async fn run(
    cloudwatch: &CloudWatch,
    caller: &Caller,
    input: PutMetricDataInput,
) -> Result<PutMetricDataOutput, Error> {
    let namespace = &input.namespace;
    if namespace.starts_with("AWS/") {
        return Err(Error::InvalidValue(format!(
            "The value {namespace} for parameter Namespace is invalid."
        )));
    }
    let mut data = input.metric_data.unwrap_or_default();
    for entity in input.entity_metric_data.unwrap_or_default() {
        data.extend(entity.metric_data.unwrap_or_default());
    }
    if data.is_empty() {
        return Err(Error::Missing("MetricData".to_owned()));
    }
    if data.len() > MAX_DATA {
        return Err(Error::InvalidValue(format!(
            "The collection MetricData must not have a size greater than {MAX_DATA}."
        )));
    }
    let now = cloudwatch.clock().now();
    let data: Result<Vec<Datum>, Error> = data
        .iter()
        .enumerate()
        .map(|(index, datum)| {
            let at = At(index + 1);
            read(namespace, datum, at, now)
        })
        .collect();
    cloudwatch.put(&scope(caller), data?).await?;
    Ok(PutMetricDataOutput {})
}

/// A place in the request, counted from one, as AWS's messages do.
#[derive(Clone, Copy)]
struct At(usize);

impl At {
    fn member(self, name: &str) -> String {
        format!("MetricData.member.{}.{name}", self.0)
    }
}

fn read(namespace: &str, datum: &MetricDatum, at: At, now: Timestamp) -> Result<Datum, Error> {
    let moment = datum.timestamp.unwrap_or(now);
    check_time(moment, at, now)?;
    let high_resolution = match datum.storage_resolution {
        None | Some(60) => false,
        Some(1) => true,
        Some(other) => {
            let name = at.member("StorageResolution");
            return Err(Error::InvalidValue(format!(
                "The value {other} for parameter {name} is invalid."
            )));
        }
    };
    let mut key = super::metric(namespace, &datum.metric_name, datum.dimensions.as_deref());
    for pair in key.dimensions.windows(2) {
        if pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1 {
            let name = at.member("Dimensions");
            return Err(Error::InvalidValue(format!(
                "The parameter {name} has the dimension {} more than once.",
                pair[0].0
            )));
        }
    }
    key.dimensions.dedup();
    Ok(Datum {
        metric: key,
        unit: super::unit(datum.unit.as_ref())?.unwrap_or(Unit::NONE),
        at: moment,
        high_resolution,
        values: values(datum, at)?,
    })
}

fn check_time(moment: Timestamp, at: At, now: Timestamp) -> Result<(), Error> {
    let ago = now.as_secs() - moment.as_secs();
    let limit = if ago > TWO_WEEKS_S {
        "two weeks in the past"
    } else if -ago > TWO_HOURS_S {
        "two hours in the future"
    } else {
        return Ok(());
    };
    let name = at.member("Timestamp");
    Err(Error::InvalidValue(format!(
        "The parameter {name} must specify a time no more than {limit}."
    )))
}

fn values(datum: &MetricDatum, at: At) -> Result<Aggregate, Error> {
    let given = [
        ("Value", datum.value.is_some()),
        ("StatisticValues", datum.statistic_values.is_some()),
        ("Values", datum.values.is_some()),
    ];
    let mut given = given
        .iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| at.member(name));
    let first = given.next();
    if let (Some(first), Some(second)) = (&first, given.next()) {
        return Err(Error::InvalidCombination(format!(
            "The parameters {first} and {second} are mutually exclusive and you have specified \
             both."
        )));
    }
    if datum.counts.is_some() && datum.values.is_none() {
        return Err(Error::InvalidCombination(format!(
            "The parameter {} needs {}.",
            at.member("Counts"),
            at.member("Values")
        )));
    }
    if let Some(value) = datum.value {
        return Ok(Aggregate::of(number(value, at, "Value")?));
    }
    if let Some(set) = &datum.statistic_values {
        let count = number(set.sample_count, at, "StatisticValues.SampleCount")?;
        let sum = number(set.sum, at, "StatisticValues.Sum")?;
        let minimum = number(set.minimum, at, "StatisticValues.Minimum")?;
        let maximum = number(set.maximum, at, "StatisticValues.Maximum")?;
        if count <= 0.0 || minimum > maximum {
            return Err(Error::InvalidValue(format!(
                "The values of parameter {} are invalid.",
                at.member("StatisticValues")
            )));
        }
        return Ok(Aggregate::of_statistics(count, sum, minimum, maximum));
    }
    let Some(values) = &datum.values else {
        return Err(Error::Missing(at.member("Value")));
    };
    weighted(values, datum.counts.as_deref(), at)
}

fn weighted(values: &[f64], counts: Option<&[f64]>, at: At) -> Result<Aggregate, Error> {
    if values.is_empty() || values.len() > MAX_VALUES {
        return Err(Error::InvalidValue(format!(
            "The collection {} must have a size of 1 to {MAX_VALUES}.",
            at.member("Values")
        )));
    }
    if counts.is_some_and(|counts| counts.len() != values.len()) {
        return Err(Error::InvalidValue(format!(
            "The parameters {} and {} must be of the same size.",
            at.member("Values"),
            at.member("Counts")
        )));
    }
    let mut aggregate = Aggregate::new();
    for (index, value) in values.iter().enumerate() {
        let count = counts.map_or(1.0, |counts| counts[index]);
        let count = number(count, at, "Counts")?;
        if count < 0.0 {
            return Err(invalid(count, at, "Counts"));
        }
        let value = number(*value, at, "Values")?;
        if count > 0.0 {
            aggregate.add(value, count);
        }
    }
    Ok(aggregate)
}

/// AWS takes numbers between -2^360 and 2^360.
fn number(value: f64, at: At, name: &str) -> Result<f64, Error> {
    if value.is_finite() && value.abs() <= 2_f64.powi(360) {
        Ok(value)
    } else {
        Err(invalid(value, at, name))
    }
}

fn invalid(value: f64, at: At, name: &str) -> Error {
    let name = at.member(name);
    Error::InvalidValue(format!(
        "The value {value} for parameter {name} is invalid."
    ))
}
