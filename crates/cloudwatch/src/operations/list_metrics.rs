use std::ops::Bound;

use model::cloudwatch::{DimensionFilter, ListMetricsInput, ListMetricsOutput, Metric};
use protocol::Caller;

use super::token;
use crate::metric::MetricKey;
use crate::service::scope;
use crate::{CloudWatch, Error};

const PAGE: usize = 500;
const HOUR_S: i64 = 3_600;
/// Metrics without values for longer are not listed.
const LISTED_S: i64 = 14 * 24 * HOUR_S;
/// How exactly activity is known.
const SLACK_S: i64 = 1_800;

/// Linked accounts do not exist here: there is nothing to include.
pub async fn run(
    cloudwatch: &CloudWatch,
    caller: &Caller,
    input: ListMetricsInput,
) -> Result<ListMetricsOutput, Error> {
    if input.include_linked_accounts == Some(true) {
        return Err(Error::NotSupported(
            "firn does not link accounts for monitoring".to_owned(),
        ));
    }
    let start = match input
        .next_token
        .as_deref()
        .filter(|token| !token.is_empty())
    {
        Some(text) => Bound::Excluded(token::decode::<MetricKey>(text)?),
        None => Bound::Unbounded,
    };
    let max_age = if input.recently_active.is_some() {
        3 * HOUR_S
    } else {
        LISTED_S
    };
    let active_since = cloudwatch.clock().now().as_secs() - max_age - SLACK_S;
    let filters = input.dimensions.unwrap_or_default();
    let book = cloudwatch.book();
    let Some(metrics) = book.metrics(&scope(caller)) else {
        return Ok(output(Vec::new(), None));
    };
    let matching = metrics
        .range((start, Bound::Unbounded))
        .filter(|(_, metric)| metric.active.as_secs() >= active_since)
        .map(|(key, _)| key)
        .filter(|key| {
            let named = |wanted: &Option<String>, found: &str| {
                wanted.as_deref().is_none_or(|wanted| wanted == found)
            };
            named(&input.namespace, &key.namespace)
                && named(&input.metric_name, &key.name)
                && filters.iter().all(|filter| has_dimension(key, filter))
        });
    let mut found: Vec<&MetricKey> = matching.take(PAGE + 1).collect();
    let next = (found.len() > PAGE).then(|| found.truncate(PAGE));
    let next = match (next, found.last()) {
        (Some(()), Some(last)) => Some(token::encode(last)?),
        _ => None,
    };
    let metrics = found.into_iter().map(|key| Metric {
        namespace: Some(key.namespace.to_string()),
        metric_name: Some(key.name.to_string()),
        dimensions: Some(super::dimensions(key)),
    });
    Ok(output(metrics.collect(), next))
}

fn has_dimension(key: &MetricKey, filter: &DimensionFilter) -> bool {
    key.dimensions.iter().any(|(name, value)| {
        **name == *filter.name && (filter.value.as_deref()).is_none_or(|wanted| wanted == &**value)
    })
}

fn output(metrics: Vec<Metric>, next_token: Option<String>) -> ListMetricsOutput {
    ListMetricsOutput {
        metrics: Some(metrics),
        next_token,
        owning_accounts: None,
    }
}
