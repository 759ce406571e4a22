//! The operations, one file each.

mod get_metric_data;
mod get_metric_statistics;
mod list_metrics;
mod put_metric_data;
mod token;

use std::sync::Arc;

use model::cloudwatch::{Dimension, StandardUnit};
use protocol::operations;

use crate::metric::{MetricKey, Unit};
use crate::{CloudWatch, Error};

operations! { CloudWatch:
    "GetMetricData" => get_metric_data::run,
    "GetMetricStatistics" => get_metric_statistics::run,
    "ListMetrics" => list_metrics::run,
    "PutMetricData" => put_metric_data::run,
}

/// The metric that a request names. Dimensions without any are the same as none.
fn metric(namespace: &str, name: &str, dimensions: Option<&[Dimension]>) -> MetricKey {
    let pair = |dimension: &Dimension| -> (Arc<str>, Arc<str>) {
        (
            dimension.name.as_str().into(),
            dimension.value.as_str().into(),
        )
    };
    let dimensions = dimensions.unwrap_or_default().iter().map(pair).collect();
    MetricKey::new(namespace, name, dimensions)
}

fn dimensions(key: &MetricKey) -> Vec<Dimension> {
    let dimension = |(name, value): &(Arc<str>, Arc<str>)| Dimension {
        name: name.to_string(),
        value: value.to_string(),
    };
    key.dimensions.iter().map(dimension).collect()
}

/// The constraint checks have refused units that there are not.
fn unit(unit: Option<&StandardUnit>) -> Result<Option<Unit>, Error> {
    unit.map(|unit| {
        Unit::named(unit.as_str()).ok_or_else(|| {
            Error::InvalidValue(format!("The value {unit} for parameter Unit is invalid."))
        })
    })
    .transpose()
}
