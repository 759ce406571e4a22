use std::collections::{BTreeMap, BTreeSet};

use clock::Timestamp;
use model::cloudwatch::{
    GetMetricDataInput, GetMetricDataOutput, MetricDataQuery, MetricDataResult, MetricStat, ScanBy,
    StatusCode,
};
use protocol::Caller;
use serde::{Deserialize, Serialize};

use super::token;
use crate::book::Book;
use crate::expression::{Expression, ExpressionError, Inputs, Series, Value};
use crate::query::{Stat, Window, periods};
use crate::service::scope;
use crate::{Aggregate, CloudWatch, Error};

const MAX_DATAPOINTS: usize = 100_800;
/// Periods of one query; more could not be answered in any number of pages that a client reads.
const MAX_PERIODS: i64 = 1_000_000;

/// The id, the label and the data points of a query's result.
type Answered = (String, String, Vec<(i64, f64)>);

/// How many data points of the request were answered before.
#[derive(Serialize, Deserialize)]
struct Place {
    answered: usize,
}

pub async fn run(
    cloudwatch: &CloudWatch,
    caller: &Caller,
    input: GetMetricDataInput,
) -> Result<GetMetricDataOutput, Error> {
    let place: Place = match input
        .next_token
        .as_deref()
        .filter(|token| !token.is_empty())
    {
        Some(text) => token::decode(text)?,
        None => Place { answered: 0 },
    };
    let limit = match input.max_datapoints {
        None => MAX_DATAPOINTS,
        Some(max) => usize::try_from(max)
            .ok()
            .filter(|max| (1..=MAX_DATAPOINTS).contains(max))
            .ok_or_else(|| {
                Error::Validation(format!(
                    "The parameter MaxDatapoints must be between 1 and {MAX_DATAPOINTS}."
                ))
            })?,
    };
    let queries = &input.metric_data_queries;
    check(queries)?;
    let mut run = Run {
        input: &input,
        now: cloudwatch.clock().now(),
        values: BTreeMap::new(),
        windows: BTreeMap::new(),
    };
    {
        let book = cloudwatch.book();
        run.read_metrics(&book, &scope(caller))?;
    }
    run.evaluate()?;
    let descending = !matches!(input.scan_by, Some(ScanBy::TimestampAscending));
    let results = run.results(descending);
    page(results, place.answered, limit)
}

fn check(queries: &[MetricDataQuery]) -> Result<(), Error> {
    if queries.is_empty() {
        return Err(Error::Validation(
            "The parameter MetricDataQueries must not be empty.".to_owned(),
        ));
    }
    let mut ids = BTreeSet::new();
    for query in queries {
        let id = &query.id;
        let valid = id.starts_with(|c: char| c.is_ascii_lowercase())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !valid {
            return Err(Error::Validation(format!(
                "The value {id} for parameter Id is not matching the expected pattern \
                 ^[a-z][a-zA-Z0-9_]*$."
            )));
        }
        if !ids.insert(id) {
            return Err(Error::Validation(
                "The values for parameter Id in MetricDataQueries are not unique.".to_owned(),
            ));
        }
        if query.metric_stat.is_some() == query.expression.is_some() {
            return Err(Error::Validation(format!(
                "Either MetricStat or Expression must be specified for the query {id}, not both."
            )));
        }
        if query.account_id.is_some() {
            return Err(Error::NotSupported(
                "firn does not link accounts for monitoring".to_owned(),
            ));
        }
    }
    Ok(())
}

/// A request while it is answered.
struct Run<'a> {
    input: &'a GetMetricDataInput,
    now: Timestamp,
    values: BTreeMap<String, Value>,
    windows: BTreeMap<String, Window>,
}

impl Run<'_> {
    fn read_metrics(&mut self, book: &Book, scope: &str) -> Result<(), Error> {
        for query in &self.input.metric_data_queries {
            let Some(wanted) = &query.metric_stat else {
                continue;
            };
            let window = Window::new(
                self.input.start_time,
                self.input.end_time,
                wanted.period,
                self.now,
            )?;
            if window.len() > MAX_PERIODS {
                return Err(Error::Validation(
                    "The time range has too many periods.".to_owned(),
                ));
            }
            let series = read(book, scope, wanted, window)?;
            self.values.insert(query.id.clone(), Value::Series(series));
            self.windows.insert(query.id.clone(), window);
        }
        Ok(())
    }

    /// Computes expressions in the order in which they need each other.
    fn evaluate(&mut self) -> Result<(), Error> {
        let queries = &self.input.metric_data_queries;
        let metrics: Vec<(String, String)> = queries
            .iter()
            .filter(|query| query.metric_stat.is_some())
            .map(|query| (query.id.clone(), label(query)))
            .collect();
        let mut waiting = Vec::new();
        for query in queries {
            if let Some(text) = &query.expression {
                waiting.push((
                    query,
                    Expression::parse(text).map_err(|err| failed(query, err))?,
                ));
            }
        }
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut later = Vec::new();
            for (query, expression) in waiting {
                let ready = |id: &&str| self.values.contains_key(*id);
                if expression.ids().iter().all(ready) {
                    self.compute(query, &expression, &metrics)?;
                } else {
                    later.push((query, expression));
                }
            }
            waiting = later;
            // Nothing went forward: an id is unknown, or expressions need each other.
            if waiting.len() == before {
                return Err(self.unresolved(&waiting));
            }
        }
        Ok(())
    }

    /// Blames an expression with an id that nothing has, or the first of a ring.
    fn unresolved(&self, waiting: &[(&MetricDataQuery, Expression)]) -> Error {
        let known = |id: &str| self.values.contains_key(id);
        let waits = |id: &str| waiting.iter().any(|(query, _)| query.id == id);
        let mut unresolved = waiting.iter().flat_map(|(query, expression)| {
            let ids = expression.ids().into_iter();
            ids.filter(|id| !known(id)).map(move |id| (*query, id))
        });
        let first = unresolved.clone().next();
        match unresolved.find(|(_, id)| !waits(id)).or(first) {
            Some((query, id)) => {
                let text = format!("The id {id} cannot be resolved");
                failed(query, ExpressionError::Invalid(text))
            }
            None => Error::Validation("Expressions cannot be resolved.".to_owned()),
        }
    }

    fn compute(
        &mut self,
        query: &MetricDataQuery,
        expression: &Expression,
        metrics: &[(String, String)],
    ) -> Result<(), Error> {
        let of_all = metrics.iter().map(|(id, _)| id.as_str());
        let ids = expression.ids();
        let used: Vec<&str> = if expression.uses_all_metrics() {
            ids.iter().copied().chain(of_all).collect()
        } else {
            ids
        };
        let mut windows = used.iter().filter_map(|id| self.windows.get(*id)).copied();
        let window = match windows.next() {
            Some(first) => {
                if windows.any(|window| window.period != first.period) {
                    return Err(Error::NotSupported(format!(
                        "firn does not compute expressions of metrics with different periods yet \
                         ('{}')",
                        query.id
                    )));
                }
                first
            }
            None => Window::new(
                self.input.start_time,
                self.input.end_time,
                query.period.unwrap_or(60),
                self.now,
            )?,
        };
        let times: Vec<i64> = (0..window.len().min(MAX_PERIODS))
            .map(|index| window.start + index * window.period)
            .collect();
        let value = expression
            .evaluate(&Inputs {
                values: &self.values,
                metrics,
                times: &times,
                period: window.period,
            })
            .map_err(|err| failed(query, err))?;
        if matches!(value, Value::Scalar(_)) && query.return_data != Some(false) {
            let text = "The expression must return a time series".to_owned();
            return Err(failed(query, ExpressionError::Invalid(text)));
        }
        self.values.insert(query.id.clone(), value);
        self.windows.insert(query.id.clone(), window);
        Ok(())
    }

    /// The answers in the order of the request, each with its data points.
    fn results(mut self, descending: bool) -> Vec<Answered> {
        let mut results = Vec::new();
        for query in &self.input.metric_data_queries {
            if query.return_data == Some(false) {
                continue;
            }
            let mut push = |label: String, series: Series| {
                let mut points: Vec<(i64, f64)> = series.into_iter().collect();
                if descending {
                    points.reverse();
                }
                results.push((query.id.clone(), label, points));
            };
            match self.values.remove(&query.id) {
                Some(Value::Series(series)) => push(label(query), series),
                Some(Value::Array(all)) => {
                    for (of_metric, series) in all {
                        let own = query.label.as_deref();
                        push(own.map_or(of_metric, |own| own.to_owned()), series);
                    }
                }
                // Scalars were refused.
                Some(Value::Scalar(_)) | None => {}
            }
        }
        results
    }
}

fn read(book: &Book, scope: &str, wanted: &MetricStat, window: Window) -> Result<Series, Error> {
    let stat = Stat::parse(&wanted.stat)?;
    let unit = super::unit(wanted.unit.as_ref())?;
    let metric = &wanted.metric;
    let (Some(namespace), Some(name)) = (&metric.namespace, &metric.metric_name) else {
        return Err(Error::Validation(
            "The parameters Namespace and MetricName of a Metric are required.".to_owned(),
        ));
    };
    let key = super::metric(namespace, name, metric.dimensions.as_deref());
    let Some(found) = book.find(scope, &key) else {
        return Ok(Series::new());
    };
    let mut by_time: BTreeMap<i64, Aggregate> = BTreeMap::new();
    for ((start, found), values) in periods(book, found.id, window)? {
        if unit.is_none_or(|unit| unit == found) {
            by_time.entry(start).or_default().merge(&values);
        }
    }
    let points = by_time
        .into_iter()
        .filter_map(|(start, values)| Some((start, stat.of(&values)?)));
    Ok(points.collect())
}

fn label(query: &MetricDataQuery) -> String {
    let of_metric = || query.metric_stat.as_ref()?.metric.metric_name.clone();
    let label = query.label.clone();
    label.or_else(of_metric).unwrap_or_else(|| query.id.clone())
}

fn failed(query: &MetricDataQuery, err: ExpressionError) -> Error {
    match err {
        ExpressionError::Invalid(text) => {
            Error::Validation(format!("Error in expression '{}': {text}", query.id))
        }
        ExpressionError::NotSupported(_) => {
            Error::NotSupported(format!("Error in expression '{}': {err}", query.id))
        }
    }
}

/// The data points from number `skipped` on, at most `limit` of them. Every query is in every
/// answer, so that clients can tell which have nothing more.
fn page(
    results: Vec<Answered>,
    mut skipped: usize,
    limit: usize,
) -> Result<GetMetricDataOutput, Error> {
    let answered_before = skipped;
    let (mut room, mut left) = (limit, false);
    let mut shown = Vec::new();
    for (id, label, points) in results {
        let skip = skipped.min(points.len());
        skipped -= skip;
        let take = (points.len() - skip).min(room);
        room -= take;
        let partial = skip + take < points.len();
        left |= partial;
        let (times, values) = points[skip..skip + take]
            .iter()
            .copied()
            .unzip::<i64, f64, Vec<_>, Vec<_>>();
        shown.push(MetricDataResult {
            id: Some(id),
            label: Some(label),
            timestamps: Some(times.into_iter().map(Timestamp::from_secs).collect()),
            values: Some(values),
            status_code: Some(if partial {
                StatusCode::PartialData
            } else {
                StatusCode::Complete
            }),
            messages: None,
        });
    }
    let next = Place {
        answered: answered_before + (limit - room),
    };
    Ok(GetMetricDataOutput {
        metric_data_results: Some(shown),
        next_token: left.then(|| token::encode(&next)).transpose()?,
        messages: Some(Vec::new()),
    })
}
