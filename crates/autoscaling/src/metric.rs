//! What a policy looks at: values by minute, as CloudWatch's GetMetricData answers them.

use std::collections::BTreeMap;

use clock::Timestamp;
use model::cloudwatch::operation::GetMetricData;
use model::cloudwatch::{
    Dimension, GetMetricDataInput, Metric as WireMetric, MetricDataQuery, MetricStat, ScanBy,
};
use protocol::{ApiError, Caller, RouterHandle};

use crate::policy::{LOW_MINUTES, Metric, Query};
use crate::target::TargetId;

const PERIOD: i32 = 60;

/// The values of the last complete minutes, by when each began in seconds since the epoch.
pub(crate) async fn values(
    router: &RouterHandle,
    caller: &Caller,
    id: &TargetId,
    metric: &Metric,
    now: Timestamp,
) -> Result<BTreeMap<i64, f64>, ApiError> {
    let minute = now.as_secs().div_euclid(60) * 60;
    let output = router
        .call::<GetMetricData>(
            caller,
            GetMetricDataInput {
                metric_data_queries: queries(id, metric),
                start_time: Timestamp::from_secs(minute - LOW_MINUTES * 60),
                end_time: Timestamp::from_secs(minute),
                scan_by: Some(ScanBy::TimestampAscending),
                ..GetMetricDataInput::default()
            },
        )
        .await?;
    let mut values = BTreeMap::new();
    for result in output.metric_data_results.unwrap_or_default() {
        let times = result.timestamps.unwrap_or_default().into_iter();
        let times = times.map(Timestamp::as_secs);
        values.extend(times.zip(result.values.unwrap_or_default()));
    }
    Ok(values)
}

fn queries(id: &TargetId, metric: &Metric) -> Vec<MetricDataQuery> {
    match metric {
        Metric::Utilization { .. } => {
            let resource = format!("{}:{}", id.function, id.qualifier);
            let dimensions = [
                ("FunctionName".to_owned(), id.function.clone()),
                ("Resource".to_owned(), resource),
            ];
            vec![single(
                "AWS/Lambda",
                "ProvisionedConcurrencyUtilization",
                &dimensions,
                "Average",
                None,
            )]
        }
        Metric::Custom {
            namespace,
            name,
            dimensions,
            statistic,
            unit,
        } => vec![single(
            namespace,
            name,
            dimensions,
            statistic,
            unit.as_deref(),
        )],
        Metric::Math(queries) => queries.iter().map(of_math).collect(),
    }
}

fn single(
    namespace: &str,
    name: &str,
    dimensions: &[(String, String)],
    statistic: &str,
    unit: Option<&str>,
) -> MetricDataQuery {
    MetricDataQuery {
        id: "m".to_owned(),
        metric_stat: Some(MetricStat {
            metric: WireMetric {
                namespace: Some(namespace.to_owned()),
                metric_name: Some(name.to_owned()),
                dimensions: Some(wire(dimensions)),
            },
            period: PERIOD,
            stat: statistic.to_owned(),
            unit: unit.map(Into::into),
        }),
        ..MetricDataQuery::default()
    }
}

fn of_math(query: &Query) -> MetricDataQuery {
    MetricDataQuery {
        id: query.id.clone(),
        expression: query.expression.clone(),
        label: query.label.clone(),
        metric_stat: query.stat.as_ref().map(|stat| MetricStat {
            metric: WireMetric {
                namespace: stat.namespace.clone(),
                metric_name: stat.name.clone(),
                dimensions: stat.dimensions.as_deref().map(wire),
            },
            period: PERIOD,
            stat: stat.stat.clone(),
            unit: stat.unit.as_deref().map(Into::into),
        }),
        return_data: query.return_data,
        ..MetricDataQuery::default()
    }
}

fn wire(dimensions: &[(String, String)]) -> Vec<Dimension> {
    let dimension = |(name, value): &(String, String)| Dimension {
        name: name.clone(),
        value: value.clone(),
    };
    dimensions.iter().map(dimension).collect()
}
