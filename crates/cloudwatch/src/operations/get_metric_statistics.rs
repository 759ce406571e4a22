use std::collections::BTreeMap;

use clock::Timestamp;
use model::cloudwatch::{Datapoint, GetMetricStatisticsInput, GetMetricStatisticsOutput};
use protocol::Caller;

use crate::metric::Unit;
use crate::query::{Plain, Stat, Window, periods};
use crate::service::scope;
use crate::{Aggregate, CloudWatch, Error};

const MAX_DATAPOINTS: i64 = 1_440;

pub async fn run(
    cloudwatch: &CloudWatch,
    caller: &Caller,
    input: GetMetricStatisticsInput,
) -> Result<GetMetricStatisticsOutput, Error> {
    let wanted = Wanted::read(&input)?;
    let now = cloudwatch.clock().now();
    let window = Window::new(input.start_time, input.end_time, input.period, now)?;
    if window.len() > MAX_DATAPOINTS {
        return Err(Error::InvalidCombination(format!(
            "You have requested up to {} datapoints, which exceeds the limit of {}. You may \
             reduce the datapoints requested by increasing Period, or decreasing the time range.",
            grouped(window.len()),
            grouped(MAX_DATAPOINTS),
        )));
    }
    let key = super::metric(
        &input.namespace,
        &input.metric_name,
        input.dimensions.as_deref(),
    );
    let unit = super::unit(input.unit.as_ref())?;
    let mut datapoints = Vec::new();
    {
        let book = cloudwatch.book();
        if let Some(metric) = book.find(&scope(caller), &key) {
            for ((start, found), values) in periods(&book, metric.id, window)? {
                if unit.is_none_or(|unit| unit == found) {
                    datapoints.push(wanted.datapoint(start, found, &values));
                }
            }
        }
    }
    Ok(GetMetricStatisticsOutput {
        label: Some(input.metric_name),
        datapoints: Some(datapoints),
    })
}

/// What is asked for of each period.
struct Wanted {
    plain: Vec<Plain>,
    percentiles: Vec<(String, Stat)>,
}

impl Wanted {
    fn read(input: &GetMetricStatisticsInput) -> Result<Self, Error> {
        let plain: Vec<Plain> = input
            .statistics
            .iter()
            .flatten()
            .filter_map(|name| Plain::named(name.as_str()))
            .collect();
        let percentiles = input
            .extended_statistics
            .iter()
            .flatten()
            .map(|text| match Stat::parse(text)? {
                stat @ Stat::Percentile(_) => Ok((text.clone(), stat)),
                Stat::Plain(_) => Err(Error::InvalidValue(format!(
                    "The value {text} for parameter ExtendedStatistics is not supported."
                ))),
            })
            .collect::<Result<Vec<_>, Error>>()?;
        if plain.is_empty() && percentiles.is_empty() {
            return Err(Error::InvalidCombination(
                "At least one of the parameters Statistics and ExtendedStatistics must be \
                 specified."
                    .to_owned(),
            ));
        }
        Ok(Self { plain, percentiles })
    }

    fn datapoint(&self, start: i64, unit: Unit, values: &Aggregate) -> Datapoint {
        let plain = |plain: Plain| self.plain.contains(&plain).then(|| plain.of(values));
        let percentiles: BTreeMap<String, f64> = self
            .percentiles
            .iter()
            .filter_map(|(name, stat)| Some((name.clone(), stat.of(values)?)))
            .collect();
        Datapoint {
            timestamp: Some(Timestamp::from_secs(start)),
            sample_count: plain(Plain::SampleCount),
            average: plain(Plain::Average),
            sum: plain(Plain::Sum),
            minimum: plain(Plain::Minimum),
            maximum: plain(Plain::Maximum),
            unit: Some(unit.into()),
            extended_statistics: (!percentiles.is_empty()).then_some(percentiles),
        }
    }
}

/// `1441` as `1,441`.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_as_in_awss_message() {
        for (number, text) in [(7, "7"), (1_441, "1,441"), (1_000_000, "1,000,000")] {
            assert_eq!(grouped(number), text);
        }
    }
}
