//! The service as clients see it, in each of its protocols, on a clock of the test's own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Clock, Timestamp};
use cloudwatch::{Aggregate, CloudWatch, Config, Datum, MetricKey, Unit};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use model::cloudwatch::operation::{
    GetMetricData, GetMetricStatistics, ListMetrics, PutMetricData,
};
use model::cloudwatch::{
    Dimension, DimensionFilter, GetMetricDataInput, GetMetricStatisticsInput, ListMetricsInput,
    Metric, MetricDataQuery, MetricDatum, MetricStat, PutMetricDataInput, ScanBy, StatisticSet,
    StatusCode,
};
use model::{AccountId, Operation, OperationInput};
use protocol::{ApiError, Body, Caller, Principal, Router};
use store::Store;

/// A full hour, so that periods begin where tests expect it.
const START: i64 = 1_700_006_400;
const MINUTE: i64 = 60;

struct Server {
    directory: tempfile::TempDir,
    clock: Clock,
    config: Config,
    cloudwatch: Option<Arc<CloudWatch>>,
    router: Option<Router>,
}

impl Server {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let mut server = Self {
            directory: tempfile::tempdir().unwrap(),
            clock: Clock::manual(Timestamp::from_secs(START)),
            config,
            cloudwatch: None,
            router: None,
        };
        server.open();
        server
    }

    fn open(&mut self) {
        let store = Store::open(self.directory.path(), self.clock.clone()).unwrap();
        let cloudwatch = CloudWatch::open(&self.config, &store, self.clock.clone()).unwrap();
        self.router = Some(Router::builder().service(Arc::clone(&cloudwatch)).build());
        self.cloudwatch = Some(cloudwatch);
    }

    async fn restart(&mut self) {
        self.router = None;
        let former = self.cloudwatch.take().map(|former| Arc::downgrade(&former));
        // Its background work may be in the middle of something.
        while former
            .as_ref()
            .is_some_and(|former| former.strong_count() > 0)
        {
            tokio::task::yield_now().await;
        }
        self.open();
    }

    fn caller() -> Caller {
        let account = AccountId::DEVELOPMENT;
        let region = "eu-west-1".parse().unwrap();
        Caller {
            principal: Principal::root(account, &region),
            account,
            region,
            access_key: None,
            request_id: "the-request".into(),
        }
    }

    async fn call<I>(&self, input: I) -> Result<<I::Operation as Operation>::Output, ApiError>
    where
        I: OperationInput,
    {
        let router = self.router.as_ref().unwrap();
        router.call::<I::Operation>(&Self::caller(), input).await
    }

    async fn put(&self, data: Vec<MetricDatum>) -> Result<(), ApiError> {
        let input = PutMetricDataInput {
            namespace: "shop".into(),
            metric_data: Some(data),
            ..Default::default()
        };
        self.call(input).await.map(drop)
    }

    async fn series(&self, stat: &str, period: i32, from: i64, until: i64) -> Vec<(i64, f64)> {
        let output = self
            .call(GetMetricDataInput {
                metric_data_queries: vec![query("m1", "took", stat, period)],
                start_time: Timestamp::from_secs(from),
                end_time: Timestamp::from_secs(until),
                scan_by: Some(ScanBy::TimestampAscending),
                ..Default::default()
            })
            .await
            .unwrap();
        points(&output.metric_data_results.unwrap()[0])
    }

    async fn send(&self, request: Request<Bytes>) -> (u16, http::HeaderMap, Bytes) {
        let (parts, body) = request.into_parts();
        let router = self.router.as_ref().unwrap();
        let response: Response<Body> = match router.route(&parts, Some("monitoring")) {
            Ok(route) => match router.complete(route, &parts, &body) {
                Ok(route) => router.dispatch(&route, &parts, body, &Self::caller()).await,
                Err(error) => route.refuse(&error, "the-request"),
            },
            Err(error) => router.reject(&parts, &error, "the-request"),
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, body)
    }
}

fn points(result: &model::cloudwatch::MetricDataResult) -> Vec<(i64, f64)> {
    let times = result.timestamps.as_ref().unwrap().iter();
    let values = result.values.as_ref().unwrap().iter().copied();
    times.map(|at| at.as_secs()).zip(values).collect()
}

fn took(second: i64, value: f64) -> MetricDatum {
    MetricDatum {
        metric_name: "took".into(),
        timestamp: Some(Timestamp::from_secs(second)),
        value: Some(value),
        unit: Some("Milliseconds".into()),
        ..Default::default()
    }
}

fn query(id: &str, name: &str, stat: &str, period: i32) -> MetricDataQuery {
    MetricDataQuery {
        id: id.into(),
        metric_stat: Some(MetricStat {
            metric: Metric {
                namespace: Some("shop".into()),
                metric_name: Some(name.into()),
                dimensions: None,
            },
            period,
            stat: stat.into(),
            unit: None,
        }),
        ..Default::default()
    }
}

fn expression(id: &str, text: &str) -> MetricDataQuery {
    MetricDataQuery {
        id: id.into(),
        expression: Some(text.into()),
        ..Default::default()
    }
}

#[tokio::test]
async fn values_of_a_minute_are_one_data_point() {
    let server = Server::new();
    let data = [(0, 1.0), (10, 3.0), (59, 5.0), (60, 7.0)];
    let data = data.map(|(second, value)| took(START - 120 + second, value));
    server.put(data.to_vec()).await.unwrap();
    let output = server
        .call(GetMetricStatisticsInput {
            namespace: "shop".into(),
            metric_name: "took".into(),
            start_time: Timestamp::from_secs(START - 600),
            end_time: Timestamp::from_secs(START),
            period: 60,
            statistics: Some(
                ["Sum", "Average", "Minimum", "Maximum", "SampleCount"]
                    .map(Into::into)
                    .to_vec(),
            ),
            extended_statistics: Some(vec!["p50".into()]),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(output.label.as_deref(), Some("took"));
    let mut found = output.datapoints.unwrap();
    found.sort_by_key(|datapoint| datapoint.timestamp);
    assert_eq!(found.len(), 2);
    let first = &found[0];
    assert_eq!(first.timestamp, Some(Timestamp::from_secs(START - 120)));
    assert_eq!(first.sum, Some(9.0));
    assert_eq!(first.average, Some(3.0));
    assert_eq!((first.minimum, first.maximum), (Some(1.0), Some(5.0)));
    assert_eq!(first.sample_count, Some(3.0));
    assert_eq!(first.extended_statistics.as_ref().unwrap()["p50"], 3.0);
    assert_eq!(first.unit.as_ref().unwrap().as_str(), "Milliseconds");
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let mut server = Server::new();
    server
        .put(vec![took(START, 2.0), took(START, 4.0)])
        .await
        .unwrap();
    server.restart().await;
    server.put(vec![took(START + 1, 6.0)]).await.unwrap();
    server.restart().await;
    let found = server.series("Sum", 60, START, START + 60).await;
    assert_eq!(found, [(START, 12.0)]);
}

#[tokio::test]
async fn high_resolution_values_are_kept_by_the_second_for_three_hours() {
    let server = Server::new();
    let data = (0..30).map(|second| MetricDatum {
        storage_resolution: Some(1),
        ..took(START + second, 1.0)
    });
    server.put(data.collect()).await.unwrap();
    let tens = [(START, 10.0), (START + 10, 10.0), (START + 20, 10.0)];
    assert_eq!(server.series("Sum", 10, START, START + 60).await, tens);
    assert_eq!(
        server.series("Sum", 60, START, START + 60).await,
        [(START, 30.0)]
    );
    advance(&server, Duration::from_secs(4 * 3_600)).await;
    let minute = [(START, 30.0)];
    assert_eq!(server.series("Sum", 60, START, START + 60).await, minute);
    assert_eq!(server.series("Sum", 10, START, START + 60).await, minute);
}

#[tokio::test]
async fn a_year_of_values_is_rolled_up_and_then_gone() {
    let mut server = Server::new();
    let data = (0..10).map(|minute| took(START + minute * MINUTE, 2.0));
    server.put(data.collect()).await.unwrap();
    let days = |count: u64| Duration::from_secs(count * 86_400);
    let until = START + 3_600;

    advance(&server, days(16)).await;
    let fives = [(START, 10.0), (START + 300, 10.0)];
    assert_eq!(server.series("Sum", 300, START, until).await, fives);
    assert_eq!(server.series("Sum", 60, START, until).await, []);

    server.restart().await;
    advance(&server, days(50)).await;
    assert_eq!(server.series("Sum", 300, START, until).await, []);
    assert_eq!(
        server.series("Sum", 3_600, START, until).await,
        [(START, 20.0)]
    );
    assert_eq!(
        server.series("p50", 3_600, START, until).await,
        [(START, 2.0)]
    );

    advance(&server, days(400)).await;
    assert_eq!(server.series("Sum", 3_600, START, until).await, []);
}

/// Lets time pass, with what happens in it.
async fn advance(server: &Server, by: Duration) {
    server.clock.advance(by);
    let cloudwatch = server.cloudwatch.as_ref().unwrap();
    cloudwatch.roll_up().await.unwrap();
}

#[tokio::test]
async fn expressions_join_metrics_and_each_other() {
    let server = Server::new();
    let named = |name: &str, second, value| MetricDatum {
        metric_name: name.into(),
        ..took(second, value)
    };
    let data = vec![
        named("errors", START, 1.0),
        named("calls", START, 4.0),
        named("calls", START + 60, 6.0),
    ];
    server.put(data).await.unwrap();
    let mut errors = query("m1", "errors", "Sum", 60);
    errors.return_data = Some(false);
    let mut input = GetMetricDataInput {
        metric_data_queries: vec![
            expression("e2", "e1 * 100"),
            errors,
            query("m2", "calls", "Sum", 60),
            expression("e1", "FILL(m1, 0) / m2"),
        ],
        start_time: Timestamp::from_secs(START),
        end_time: Timestamp::from_secs(START + 120),
        ..Default::default()
    };
    let output = server.call(input.clone()).await.unwrap();
    let results = output.metric_data_results.unwrap();
    let ids: Vec<&str> = results
        .iter()
        .map(|result| result.id.as_deref().unwrap())
        .collect();
    assert_eq!(ids, ["e2", "m2", "e1"]);
    // Latest first, unless asked otherwise.
    assert_eq!(points(&results[0]), [(START + 60, 0.0), (START, 25.0)]);
    assert_eq!(points(&results[2]), [(START + 60, 0.0), (START, 0.25)]);

    for (text, part) in [
        ("e1", "cannot be resolved"),
        ("nothing + 1", "The id nothing cannot be resolved"),
        ("m2 +", "Unexpected end"),
        ("SUM(m2)", "must return a time series"),
    ] {
        input.metric_data_queries[3] = expression("e1", text);
        let error = server.call(input.clone()).await.unwrap_err();
        assert!(error.message().contains(part), "{}", error.message());
        assert!(error.message().starts_with("Error in expression"));
    }
    input.metric_data_queries[3] = expression("e1", "SEARCH('x', 'Sum')");
    let error = server.call(input).await.unwrap_err();
    assert_eq!(error.shape(None).code, "NotImplementedException");
}

#[tokio::test]
async fn pages_together_are_the_whole() {
    let server = Server::new();
    let data = (0..10).map(|minute| took(START - 600 + minute * MINUTE, minute as f64));
    server.put(data.collect()).await.unwrap();
    let mut input = GetMetricDataInput {
        metric_data_queries: vec![
            query("m1", "took", "Sum", 60),
            query("m2", "took", "SampleCount", 60),
        ],
        start_time: Timestamp::from_secs(START - 600),
        end_time: Timestamp::from_secs(START),
        max_datapoints: Some(7),
        scan_by: Some(ScanBy::TimestampAscending),
        ..Default::default()
    };
    let (mut sums, mut counts, mut pages) = (Vec::new(), Vec::new(), 0);
    loop {
        let output = server.call(input.clone()).await.unwrap();
        let results = output.metric_data_results.unwrap();
        sums.extend(points(&results[0]));
        counts.extend(points(&results[1]));
        pages += 1;
        let complete = |index: usize| results[index].status_code == Some(StatusCode::Complete);
        assert_eq!(complete(0) && complete(1), output.next_token.is_none());
        input.next_token = output.next_token;
        if input.next_token.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(sums.len(), 10);
    assert_eq!(sums[9], (START - 60, 9.0));
    assert_eq!(
        counts,
        (0..10)
            .map(|minute| (START - 600 + minute * MINUTE, 1.0))
            .collect::<Vec<_>>()
    );
    input.next_token = Some("nonsense".into());
    let error = server.call(input).await.unwrap_err();
    assert_eq!(error.shape(None).code, "InvalidNextToken");
}

#[tokio::test]
async fn metrics_are_listed_by_name_and_dimension() {
    let server = Server::new();
    let data = (0..600).map(|index| MetricDatum {
        metric_name: format!("metric-{}", index % 2),
        dimensions: Some(vec![
            Dimension {
                name: "b".into(),
                value: format!("{index:03}"),
            },
            Dimension {
                name: "a".into(),
                value: "x".into(),
            },
        ]),
        ..took(START, 1.0)
    });
    server.put(data.collect()).await.unwrap();
    server.put(vec![took(START, 1.0)]).await.unwrap();
    let mut input = ListMetricsInput::default();
    let first = server.call(input.clone()).await.unwrap();
    assert_eq!(first.metrics.as_ref().unwrap().len(), 500);
    input.next_token = first.next_token;
    let second = server.call(input).await.unwrap();
    assert_eq!(second.metrics.unwrap().len(), 101);
    assert_eq!(second.next_token, None);

    let filtered = ListMetricsInput {
        metric_name: Some("metric-1".into()),
        dimensions: Some(vec![
            DimensionFilter {
                name: "a".into(),
                value: None,
            },
            DimensionFilter {
                name: "b".into(),
                value: Some("003".into()),
            },
        ]),
        ..Default::default()
    };
    let found = server.call(filtered).await.unwrap().metrics.unwrap();
    assert_eq!(found.len(), 1);
    let names: Vec<_> = found[0]
        .dimensions
        .as_ref()
        .unwrap()
        .iter()
        .map(|d| d.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);

    // Long after the last value only those with newer ones are left.
    server.clock.advance(Duration::from_secs(5 * 3_600));
    let now = server.clock.now().as_secs();
    server.put(vec![took(now, 1.0)]).await.unwrap();
    let recent = ListMetricsInput {
        recently_active: Some("PT3H".into()),
        ..Default::default()
    };
    let found = server.call(recent).await.unwrap().metrics.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].metric_name.as_deref(), Some("took"));
}

#[tokio::test]
async fn wrong_values_are_refused_in_awss_words() {
    let server = Server::new();
    let refused = |datum: MetricDatum| async {
        let error = server.put(vec![datum]).await.unwrap_err();
        (
            error.shape(None).query_code.unwrap_or_default(),
            error.message().to_owned(),
        )
    };
    for (datum, code, part) in [
        (
            took(START, f64::NAN),
            "InvalidParameterValue",
            "The value NaN for parameter MetricData.member.1.Value is invalid.",
        ),
        (
            took(START - 15 * 86_400, 1.0),
            "InvalidParameterValue",
            "two weeks in the past",
        ),
        (
            took(START + 3 * 3_600, 1.0),
            "InvalidParameterValue",
            "two hours in the future",
        ),
        (
            MetricDatum {
                values: Some(vec![1.0]),
                ..took(START, 1.0)
            },
            "InvalidParameterCombination",
            "The parameters MetricData.member.1.Value and MetricData.member.1.Values are mutually exclusive and you have specified both.",
        ),
        (
            MetricDatum {
                value: None,
                ..took(START, 1.0)
            },
            "MissingParameter",
            "MetricData.member.1.Value",
        ),
        (
            MetricDatum {
                value: None,
                values: Some(vec![1.0, 2.0]),
                counts: Some(vec![1.0]),
                ..took(START, 1.0)
            },
            "InvalidParameterValue",
            "same size",
        ),
        (
            MetricDatum {
                value: None,
                statistic_values: Some(StatisticSet {
                    sample_count: 0.0,
                    ..Default::default()
                }),
                ..took(START, 1.0)
            },
            "InvalidParameterValue",
            "StatisticValues",
        ),
    ] {
        let (found, message) = refused(datum).await;
        assert_eq!(found, code, "{message}");
        assert!(message.contains(part), "{message}");
    }
    let reserved = PutMetricDataInput {
        namespace: "AWS/Lambda".into(),
        metric_data: Some(vec![took(START, 1.0)]),
        ..Default::default()
    };
    assert!(server.call(reserved).await.is_err());
    let all: Vec<MetricDatum> = (0..1_001).map(|_| took(START, 1.0)).collect();
    assert!(server.put(all).await.is_err());
    assert_eq!(
        server.series("SampleCount", 60, START, START + 60).await,
        []
    );
}

#[tokio::test]
async fn an_account_has_room_for_so_many_metrics() {
    let server = Server::with(Config { max_metrics: 3 });
    let named = |index: usize| MetricDatum {
        metric_name: format!("m{index}"),
        ..took(START, 1.0)
    };
    server.put((0..3).map(named).collect()).await.unwrap();
    let error = server.put(vec![named(0), named(3)]).await.unwrap_err();
    assert_eq!(error.shape(None).code, "ThrottlingException");
    // All of it or nothing; and what is known goes on.
    server.put((0..3).map(named).collect()).await.unwrap();
    let cloudwatch = server.cloudwatch.as_ref().unwrap();
    let datum = |name: &str| Datum {
        metric: MetricKey::new("shop", name, Vec::new()),
        unit: Unit::MILLISECONDS,
        at: Timestamp::from_secs(START),
        high_resolution: false,
        values: Aggregate::of(5.0),
    };
    let caller = Server::caller();
    cloudwatch.ingest(
        caller.account,
        &caller.region,
        vec![datum("m1"), datum("new")],
    );
    assert_eq!(cloudwatch.dropped(), 1);
}

#[tokio::test]
async fn one_operation_speaks_three_protocols() {
    let server = Server::new();
    let put = PutMetricDataInput {
        namespace: "shop".into(),
        metric_data: Some(vec![took(START, 1.5)]),
        ..Default::default()
    };
    let (status, headers, _) = server
        .send(PutMetricData::encode_input(&put).map(Bytes::from))
        .await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "application/x-amz-json-1.0");

    let form = format!(
        "Action=PutMetricData&Version=2010-08-01&Namespace=shop&MetricData.member.1.MetricName=took\
         &MetricData.member.1.Value=2.5&MetricData.member.1.Timestamp={}\
         &MetricData.member.1.Unit=Milliseconds&MetricData.member.1.Dimensions=",
        "2023-11-15T00%3A00%3A01Z"
    );
    let query = |form: &str| {
        Request::post("/")
            .header(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            )
            .body(Bytes::copy_from_slice(form.as_bytes()))
            .unwrap()
    };
    let (status, headers, body) = server.send(query(&form)).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(
        (status, headers["content-type"].to_str().unwrap()),
        (200, "text/xml"),
        "{text}"
    );
    assert_eq!(
        text,
        "<PutMetricDataResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\">\
         <ResponseMetadata><RequestId>the-request</RequestId></ResponseMetadata>\
         </PutMetricDataResponse>"
    );

    // {"Namespace": "shop", "MetricData": [{"MetricName": "took", "Value": 4.0, "Timestamp": 1(START)}]}
    let mut cbor = vec![0xbf, 0x69];
    cbor.extend_from_slice(
        b"Namespace\x64shop\x6aMetricData\x81\xa4\x6aMetricName\x64took\x65Value\xfb",
    );
    cbor.extend_from_slice(&4.0_f64.to_be_bytes());
    cbor.extend_from_slice(b"\x64Unit\x6cMilliseconds\x69Timestamp\xc1\x1a");
    cbor.extend_from_slice(&u32::try_from(START).unwrap().to_be_bytes());
    cbor.push(0xff);
    let rpc = |operation: &str, body: Vec<u8>| {
        Request::post(format!(
            "/service/GraniteServiceVersion20100801/operation/{operation}"
        ))
        .header("smithy-protocol", "rpc-v2-cbor")
        .header("content-type", "application/cbor")
        .body(Bytes::from(body))
        .unwrap()
    };
    let (status, headers, body) = server.send(rpc("PutMetricData", cbor)).await;
    assert_eq!(
        (status, headers["smithy-protocol"].to_str().unwrap()),
        (200, "rpc-v2-cbor")
    );
    assert!(body.is_empty());
    assert_eq!(
        server.series("Sum", 60, START, START + 60).await,
        [(START, 8.0)]
    );

    let list = "Action=ListMetrics&Version=2010-08-01&Namespace=shop";
    let (_, _, body) = server.send(query(list)).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(
        text.contains("<ListMetricsResult><Metrics><member><Namespace>shop</Namespace><MetricName>took</MetricName><Dimensions></Dimensions></member></Metrics></ListMetricsResult>"),
        "{text}"
    );
    let (_, headers, body) = server.send(rpc("ListMetrics", Vec::new())).await;
    assert_eq!(headers["content-type"], "application/cbor");
    assert_eq!(&body[..9], b"\xbf\x67Metrics");

    let statistics = "Action=GetMetricStatistics&Version=2010-08-01&Namespace=shop&MetricName=took\
        &StartTime=2023-11-15T00:00:00Z&EndTime=2023-11-15T00:01:00Z&Period=60&Statistics.member.1=Sum";
    let (_, _, body) = server.send(query(statistics)).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(
        text.contains("<Timestamp>2023-11-15T00:00:00Z</Timestamp><Sum>8.0</Sum>"),
        "{text}"
    );
}

#[tokio::test]
async fn errors_are_written_in_the_protocol_of_the_request() {
    let server = Server::new();
    let query = |form: &'static str| {
        Request::post("/")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from_static(form.as_bytes()))
            .unwrap()
    };
    for (form, status, code) in [
        (
            "Action=PutMetricData&Version=2010-08-01&Namespace=AWS/x&MetricData.member.1.MetricName=a",
            400,
            "InvalidParameterValue",
        ),
        (
            "Action=PutMetricData&Version=2010-08-01",
            400,
            "ValidationError",
        ),
        ("Action=Nothing&Version=2010-08-01", 400, "InvalidAction"),
        ("Version=2010-08-01", 400, "MissingAction"),
        (
            "Action=PutDashboard&Version=2010-08-01",
            501,
            "NotImplementedException",
        ),
    ] {
        let (found, headers, body) = server.send(query(form)).await;
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(found, status, "{text}");
        assert_eq!(headers["content-type"], "text/xml");
        let kind = if status == 400 { "Sender" } else { "Receiver" };
        let start = format!(
            "<ErrorResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\"><Error>\
             <Type>{kind}</Type><Code>{code}</Code><Message>"
        );
        assert!(text.starts_with(&start), "{text}");
        assert!(
            text.ends_with("</Message></Error><RequestId>the-request</RequestId></ErrorResponse>"),
            "{text}"
        );
    }

    let request = Request::post("/service/GraniteServiceVersion20100801/operation/PutMetricData")
        .header("smithy-protocol", "rpc-v2-cbor")
        .body(Bytes::from_static(b"\xa1\x69Namespace\x64shop"))
        .unwrap();
    let (status, headers, body) = server.send(request).await;
    assert_eq!(status, 400);
    assert_eq!(headers["x-amzn-query-error"], "MissingParameter;Sender");
    assert_eq!(headers["content-type"], "application/cbor");
    let text = String::from_utf8_lossy(&body);
    assert!(
        text.contains("com.amazonaws.cloudwatch#MissingRequiredParameterException"),
        "{text}"
    );

    let (status, _, _) = server
        .send(
            Request::post("/service/Nothing/operation/X")
                .header("smithy-protocol", "rpc-v2-cbor")
                .body(Bytes::new())
                .unwrap(),
        )
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn every_operation_has_its_row() {
    let server = Server::new();
    assert_eq!(
        server.router.as_ref().unwrap().unserved(),
        Vec::<&str>::new()
    );
    // The types are those that the router leads to.
    let names = [
        GetMetricData::NAME,
        GetMetricStatistics::NAME,
        ListMetrics::NAME,
    ];
    assert_eq!(names.len(), 3);
}
