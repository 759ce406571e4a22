//! The operations as a client sees them, on a store in a temporary directory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use clock::{Clock, Timestamp};
use logs::Logs;
use model::Operation;
use model::logs::operation::*;
use model::logs::*;
use protocol::{ApiError, Caller, Principal, Router};
use store::Store;

const NOW_MS: i64 = 1_795_304_870_000;
const GROUP: &str = "/aws/lambda/f";

struct Server {
    router: Router,
    logs: Arc<Logs>,
    clock: Clock,
    caller: Caller,
    _dir: tempfile::TempDir,
}

impl Server {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_millis(NOW_MS));
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let logs = Logs::open(store, clock.clone()).unwrap();
        let router = Router::builder().service(logs.clone()).build();
        Self {
            router,
            logs,
            clock,
            caller: caller("000000000000", "us-east-1"),
            _dir: dir,
        }
    }

    async fn with_stream(stream: &str) -> Self {
        let server = Self::open();
        server.ok::<CreateLogGroup>(group_input()).await;
        server.create_stream(stream).await;
        server
    }

    async fn create_stream(&self, stream: &str) {
        let input = CreateLogStreamInput {
            log_group_name: GROUP.into(),
            log_stream_name: stream.into(),
        };
        self.ok::<CreateLogStream>(input).await;
    }

    async fn call<O: Operation>(&self, input: O::Input) -> Result<O::Output, ApiError> {
        self.router.call::<O>(&self.caller, input).await
    }

    async fn ok<O: Operation>(&self, input: O::Input) -> O::Output {
        self.call::<O>(input).await.unwrap()
    }

    async fn err<O: Operation>(&self, input: O::Input) -> (&'static str, String) {
        match self.call::<O>(input).await {
            Ok(_) => panic!("{} succeeded", O::NAME),
            Err(err) => (err.shape(Some(&SERVICE)).code, err.message().to_owned()),
        }
    }

    async fn put(&self, stream: &str, events: &[(i64, &str)]) -> PutLogEventsOutput {
        self.ok::<PutLogEvents>(put_input(stream, events)).await
    }

    fn ingest(&self, stream: &str, events: &[(i64, &str)]) {
        let events = events
            .iter()
            .map(|(at, message)| (Timestamp::from_millis(NOW_MS + at), (*message).to_owned()));
        self.logs
            .ingest("000000000000", "us-east-1", GROUP, stream, events.collect());
    }

    async fn get(&self, input: GetLogEventsInput) -> (Vec<String>, String, String) {
        let output = self.ok::<GetLogEvents>(input).await;
        let messages = output
            .events
            .unwrap()
            .into_iter()
            .map(|event| event.message.unwrap());
        let (forward, backward) = (output.next_forward_token, output.next_backward_token);
        (messages.collect(), forward.unwrap(), backward.unwrap())
    }

    async fn filter(&self, input: FilterLogEventsInput) -> (Vec<String>, Option<String>) {
        let output = self.ok::<FilterLogEvents>(input).await;
        let messages = output
            .events
            .unwrap()
            .into_iter()
            .map(|event| event.message.unwrap());
        (messages.collect(), output.next_token)
    }
}

fn caller(account: &str, region: &str) -> Caller {
    let account: model::AccountId = account.parse().unwrap();
    let region: model::Region = region.parse().unwrap();
    let principal = Principal::root(account, &region);
    Caller {
        account,
        region,
        principal,
        access_key: None,
        request_id: "test".into(),
    }
}

fn group_input() -> CreateLogGroupInput {
    CreateLogGroupInput {
        log_group_name: GROUP.into(),
        ..Default::default()
    }
}

fn put_input(stream: &str, events: &[(i64, &str)]) -> PutLogEventsInput {
    let event = |(at, message): &(i64, &str)| InputLogEvent {
        timestamp: NOW_MS + at,
        message: (*message).to_owned(),
    };
    PutLogEventsInput {
        log_group_name: GROUP.into(),
        log_stream_name: stream.into(),
        log_events: events.iter().map(event).collect(),
        ..Default::default()
    }
}

fn get_input(stream: &str) -> GetLogEventsInput {
    GetLogEventsInput {
        log_group_name: Some(GROUP.into()),
        log_stream_name: stream.into(),
        ..Default::default()
    }
}

fn filter_input() -> FilterLogEventsInput {
    FilterLogEventsInput {
        log_group_name: Some(GROUP.into()),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_group_is_described_as_aws_does() {
    let server = Server::open();
    server.ok::<CreateLogGroup>(group_input()).await;
    assert_eq!(
        server.err::<CreateLogGroup>(group_input()).await,
        (
            "ResourceAlreadyExistsException",
            "The specified log group already exists".into()
        )
    );
    let found = server
        .ok::<DescribeLogGroups>(DescribeLogGroupsInput::default())
        .await;
    let arn = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f";
    let expected = LogGroup {
        arn: Some(format!("{arn}:*")),
        creation_time: Some(NOW_MS),
        deletion_protection_enabled: Some(false),
        log_group_arn: Some(arn.into()),
        log_group_class: Some(LogGroupClass::from("STANDARD")),
        log_group_name: Some(GROUP.into()),
        metric_filter_count: Some(0),
        stored_bytes: Some(0),
        ..Default::default()
    };
    assert_eq!(found.log_groups.unwrap(), [expected]);
    assert_eq!(found.next_token, None);
}

#[tokio::test]
async fn groups_are_listed_by_name_in_pages_and_by_prefix() {
    let server = Server::open();
    for name in ["b/2", "a", "b/1", "c", "b/3"] {
        let input = CreateLogGroupInput {
            log_group_name: name.into(),
            ..Default::default()
        };
        server.ok::<CreateLogGroup>(input).await;
    }
    let mut names = Vec::new();
    let mut next_token = None;
    loop {
        let input = DescribeLogGroupsInput {
            limit: Some(2),
            next_token,
            ..Default::default()
        };
        let page = server.ok::<DescribeLogGroups>(input).await;
        names.extend(
            page.log_groups
                .unwrap()
                .into_iter()
                .map(|group| group.log_group_name.unwrap()),
        );
        next_token = page.next_token;
        if next_token.is_none() {
            break;
        }
    }
    assert_eq!(names, ["a", "b/1", "b/2", "b/3", "c"]);
    let by = |prefix: Option<&str>, pattern: Option<&str>| DescribeLogGroupsInput {
        log_group_name_prefix: prefix.map(str::to_owned),
        log_group_name_pattern: pattern.map(str::to_owned),
        ..Default::default()
    };
    let count = async |input| {
        server
            .ok::<DescribeLogGroups>(input)
            .await
            .log_groups
            .unwrap()
            .len()
    };
    assert_eq!(count(by(Some("b/"), None)).await, 3);
    assert_eq!(count(by(None, Some("/2"))).await, 1);
    let (code, _) = server
        .err::<DescribeLogGroups>(by(Some("b"), Some("b")))
        .await;
    assert_eq!(code, "InvalidParameterException");
    let token = DescribeLogGroupsInput {
        next_token: Some("invalid".into()),
        ..Default::default()
    };
    assert_eq!(
        server.err::<DescribeLogGroups>(token).await,
        (
            "InvalidParameterException",
            "The specified nextToken is invalid.".into()
        )
    );
}

#[tokio::test]
async fn accounts_and_regions_do_not_see_each_other() {
    let mut server = Server::with_stream("s").await;
    for other in [
        caller("000000000001", "us-east-1"),
        caller("000000000000", "eu-west-1"),
    ] {
        server.caller = other;
        let found = server
            .ok::<DescribeLogGroups>(DescribeLogGroupsInput::default())
            .await;
        assert_eq!(found.log_groups.unwrap(), []);
        let (code, _) = server.err::<GetLogEvents>(get_input("s")).await;
        assert_eq!(code, "ResourceNotFoundException");
    }
}

#[tokio::test]
async fn streams_are_described_as_aws_does() {
    let server = Server::with_stream("s").await;
    let duplicate = CreateLogStreamInput {
        log_group_name: GROUP.into(),
        log_stream_name: "s".into(),
    };
    assert_eq!(
        server.err::<CreateLogStream>(duplicate).await,
        (
            "ResourceAlreadyExistsException",
            "The specified log stream already exists".into()
        )
    );
    let arn = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f";
    let by = |name: Option<&str>, identifier: Option<&str>| DescribeLogStreamsInput {
        log_group_name: name.map(str::to_owned),
        log_group_identifier: identifier.map(str::to_owned),
        ..Default::default()
    };
    for input in [
        by(Some(GROUP), None),
        by(None, Some(GROUP)),
        by(None, Some(arn)),
    ] {
        let found = server.ok::<DescribeLogStreams>(input).await;
        let expected = LogStream {
            arn: Some(format!("{arn}:log-stream:s")),
            creation_time: Some(NOW_MS),
            log_stream_name: Some("s".into()),
            stored_bytes: Some(0),
            ..Default::default()
        };
        assert_eq!(found.log_streams.unwrap(), [expected]);
    }
    assert_eq!(
        server
            .err::<DescribeLogStreams>(by(Some(GROUP), Some(GROUP)))
            .await,
        (
            "ValidationException",
            "LogGroup name and LogGroup ARN are mutually exclusive parameters.".into()
        )
    );
    let delete = DeleteLogStreamInput {
        log_group_name: GROUP.into(),
        log_stream_name: "s".into(),
    };
    server.ok::<DeleteLogStream>(delete.clone()).await;
    let found = server.ok::<DescribeLogStreams>(by(Some(GROUP), None)).await;
    assert_eq!(found.log_streams.unwrap(), []);
    assert_eq!(
        server.err::<DeleteLogStream>(delete).await,
        (
            "ResourceNotFoundException",
            "The specified log stream does not exist.".into()
        )
    );
}

#[tokio::test]
async fn streams_are_listed_by_name_or_by_last_event_in_pages() {
    let server = Server::with_stream("a").await;
    server.put("a", &[(-1000, "x")]).await;
    for (stream, at) in [("b", -3000), ("c", -2000), ("d", -4000)] {
        server.create_stream(stream).await;
        server.put(stream, &[(at, "x")]).await;
    }
    let list = async |order: &str, descending| {
        let mut names = String::new();
        let mut next_token = None;
        loop {
            let input = DescribeLogStreamsInput {
                log_group_name: Some(GROUP.into()),
                order_by: Some(OrderBy::from(order)),
                descending: Some(descending),
                limit: Some(3),
                next_token,
                ..Default::default()
            };
            let page = server.ok::<DescribeLogStreams>(input).await;
            for stream in page.log_streams.unwrap() {
                assert!(stream.last_event_timestamp.is_some());
                names.push_str(&stream.log_stream_name.unwrap());
            }
            next_token = page.next_token;
            if next_token.is_none() {
                return names;
            }
        }
    };
    assert_eq!(list("LogStreamName", false).await, "abcd");
    assert_eq!(list("LogStreamName", true).await, "dcba");
    assert_eq!(list("LastEventTime", false).await, "dbca");
    assert_eq!(list("LastEventTime", true).await, "acbd");
    let both = DescribeLogStreamsInput {
        log_group_name: Some(GROUP.into()),
        order_by: Some(OrderBy::LastEventTime),
        log_stream_name_prefix: Some("a".into()),
        ..Default::default()
    };
    let (_, message) = server.err::<DescribeLogStreams>(both).await;
    assert_eq!(
        message,
        "Cannot order by LastEventTime with a logStreamNamePrefix."
    );
}

#[tokio::test]
async fn events_are_paged_in_both_directions_and_tokens_stay_at_the_ends() {
    let server = Server::with_stream("s").await;
    let messages: Vec<_> = (0..10).map(|n| n.to_string()).collect();
    let events: Vec<_> = messages
        .iter()
        .zip(0..)
        .map(|(message, n)| (n, message.as_str()))
        .collect();
    server.put("s", &events).await;
    let page = |token: Option<String>, from_head| GetLogEventsInput {
        next_token: token,
        limit: Some(4),
        start_from_head: Some(from_head),
        ..get_input("s")
    };
    let (first, forward, backward) = server.get(page(None, true)).await;
    assert_eq!(first, ["0", "1", "2", "3"]);
    assert!(forward.starts_with("f/") && backward.starts_with("b/"));
    assert_eq!(server.get(page(Some(backward), false)).await.0, [""; 0]);
    let (second, forward, back) = server.get(page(Some(forward), true)).await;
    assert_eq!(second, ["4", "5", "6", "7"]);
    assert_eq!(server.get(page(Some(back), true)).await.0, first);
    let (third, forward, _) = server.get(page(Some(forward), true)).await;
    assert_eq!(third, ["8", "9"]);
    let (end, same, back) = server.get(page(Some(forward.clone()), true)).await;
    assert_eq!((end.len(), &same), (0, &forward));
    assert_eq!(
        server.get(page(Some(back), true)).await.0,
        ["6", "7", "8", "9"]
    );
    // What arrives later is behind the last token.
    server.put("s", &[(20, "new")]).await;
    assert_eq!(server.get(page(Some(forward), true)).await.0, ["new"]);
    // Without a token and from the end: the latest, in the order of time.
    assert_eq!(
        server.get(page(None, false)).await.0,
        ["7", "8", "9", "new"]
    );
    let times = GetLogEventsInput {
        start_time: Some(NOW_MS + 2),
        end_time: Some(NOW_MS + 5),
        ..get_input("s")
    };
    assert_eq!(server.get(times).await.0, ["2", "3", "4"]);
    let invalid = GetLogEventsInput {
        next_token: Some("f/x".into()),
        ..get_input("s")
    };
    assert_eq!(
        server.err::<GetLogEvents>(invalid).await,
        (
            "InvalidParameterException",
            "The specified nextToken is invalid.".into()
        )
    );
}

#[tokio::test]
async fn an_empty_stream_has_tokens_that_lead_to_what_arrives_later() {
    let server = Server::with_stream("s").await;
    let (none, forward, _) = server.get(get_input("s")).await;
    assert_eq!(none, [""; 0]);
    server.put("s", &[(0, "x")]).await;
    let next = GetLogEventsInput {
        next_token: Some(forward),
        ..get_input("s")
    };
    assert_eq!(server.get(next).await.0, ["x"]);
}

#[tokio::test]
async fn events_that_come_late_are_read_in_the_order_of_time() {
    let server = Server::with_stream("s").await;
    server.put("s", &[(10, "10"), (30, "30")]).await;
    server.put("s", &[(5, "5"), (20, "20")]).await;
    server.put("s", &[(40, "40")]).await;
    let (all, ..) = server.get(get_input("s")).await;
    assert_eq!(all, ["5", "10", "20", "30", "40"]);
    let page = |token| GetLogEventsInput {
        next_token: token,
        limit: Some(2),
        start_from_head: Some(true),
        ..get_input("s")
    };
    let (_, forward, _) = server.get(page(None)).await;
    assert_eq!(server.get(page(Some(forward))).await.0, ["20", "30"]);
    let times = GetLogEventsInput {
        start_time: Some(NOW_MS + 20),
        ..get_input("s")
    };
    assert_eq!(server.get(times).await.0, ["20", "30", "40"]);
    assert_eq!(
        server.filter(filter_input()).await.0,
        ["5", "10", "20", "30", "40"]
    );
}

#[tokio::test]
async fn batches_are_checked_as_aws_does() {
    let server = Server::with_stream("s").await;
    let err = async |events: &[(i64, &str)]| {
        let (code, message) = server.err::<PutLogEvents>(put_input("s", events)).await;
        assert_eq!(code, "InvalidParameterException");
        message
    };
    assert_eq!(
        err(&[(0, "Message 0"), (-172_800_000, "Message 1")]).await,
        "Log events in a single PutLogEvents request must be in chronological order."
    );
    assert_eq!(
        err(&[(-86_400_001, "a"), (0, "b")]).await,
        "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
    );
    let half = "x".repeat(600_000);
    assert_eq!(
        err(&[(0, &half), (0, &half)]).await,
        "Upload too large: 1200052 bytes exceeds limit of 1048576"
    );
    let huge = "x".repeat(1_048_576);
    assert_eq!(
        err(&[(0, &huge)]).await,
        "Log event too large: 1048602 bytes exceeds limit of 1048576"
    );
    let elsewhere = put_input("none", &[(0, "x")]);
    assert_eq!(
        server.err::<PutLogEvents>(elsewhere).await,
        (
            "ResourceNotFoundException",
            "The specified log stream does not exist.".into()
        )
    );
}

#[tokio::test]
async fn events_too_old_or_too_new_are_rejected_and_the_others_kept() {
    let server = Server::with_stream("s").await;
    let hour = 3_600_000;
    let new = server
        .put("s", &[(0, "kept"), (hour, "kept"), (3 * hour, "new")])
        .await;
    let rejected = new.rejected_log_events_info.unwrap();
    assert_eq!(rejected.too_new_log_event_start_index, Some(2));
    assert_eq!(rejected.too_old_log_event_end_index, None);
    assert_eq!(new.next_sequence_token.unwrap().len(), 56);
    let old = server
        .put("s", &[(-15 * 24 * hour, "old"), (-14 * 24 * hour, "kept")])
        .await;
    assert_eq!(
        old.rejected_log_events_info
            .unwrap()
            .too_old_log_event_end_index,
        Some(1)
    );
    assert_eq!(server.get(get_input("s")).await.0, ["kept"; 3]);
    let policy = PutRetentionPolicyInput {
        log_group_name: GROUP.into(),
        retention_in_days: 1,
    };
    server.ok::<PutRetentionPolicy>(policy).await;
    let expired = server.put("s", &[(-30 * hour, "expired")]).await;
    assert_eq!(
        expired
            .rejected_log_events_info
            .unwrap()
            .expired_log_event_end_index,
        Some(1)
    );
}

#[tokio::test]
async fn a_search_merges_streams_by_time_and_pages_without_gaps() {
    let server = Server::with_stream("a").await;
    server.create_stream("b").await;
    server.create_stream("other").await;
    server
        .put("a", &[(1, "1 a x"), (3, "3 a"), (5, "5 a x"), (5, "5 a y")])
        .await;
    server
        .put("b", &[(2, "2 b x"), (3, "3 b"), (5, "5 b x")])
        .await;
    server.put("other", &[(4, "4 other x")]).await;
    let all = [
        "1 a x",
        "2 b x",
        "3 a",
        "3 b",
        "4 other x",
        "5 a x",
        "5 a y",
        "5 b x",
    ];
    assert_eq!(
        server.filter(filter_input()).await,
        (all.map(str::to_owned).to_vec(), None)
    );
    for limit in 1..5 {
        let mut found = Vec::new();
        let mut next_token = None;
        loop {
            let input = FilterLogEventsInput {
                limit: Some(limit),
                next_token,
                ..filter_input()
            };
            let (page, next) = server.filter(input).await;
            assert!(page.len() <= usize::try_from(limit).unwrap());
            found.extend(page);
            next_token = next;
            if next_token.is_none() {
                break;
            }
        }
        assert_eq!(found, all, "pages of {limit}");
    }
    let pattern = FilterLogEventsInput {
        filter_pattern: Some("x".into()),
        log_stream_names: Some(vec!["a".into(), "b".into()]),
        start_time: Some(NOW_MS + 2),
        end_time: Some(NOW_MS + 5),
        ..filter_input()
    };
    assert_eq!(server.filter(pattern).await.0, ["2 b x", "5 a x", "5 b x"]);
    let prefix = FilterLogEventsInput {
        log_stream_name_prefix: Some("o".into()),
        ..filter_input()
    };
    assert_eq!(server.filter(prefix).await.0, ["4 other x"]);
    let event = server
        .ok::<FilterLogEvents>(filter_input())
        .await
        .events
        .unwrap()
        .remove(0);
    assert_eq!(event.log_stream_name.as_deref(), Some("a"));
    assert_eq!(event.event_id.unwrap().len(), 56);
    let invalid = FilterLogEventsInput {
        filter_pattern: Some("{ $.".into()),
        ..filter_input()
    };
    let (code, message) = server.err::<FilterLogEvents>(invalid).await;
    assert_eq!(code, "InvalidParameterException");
    assert!(message.starts_with("Invalid filter pattern"), "{message}");
    let token = FilterLogEventsInput {
        next_token: Some("bad".into()),
        ..filter_input()
    };
    let (_, message) = server.err::<FilterLogEvents>(token).await;
    assert_eq!(message, "The specified nextToken is invalid.");
}

#[test]
fn a_limit_out_of_range_is_told_in_the_words_of_aws() {
    let (request, ()) = http::Request::post("/").body(()).unwrap().into_parts();
    let body = r#"{"logGroupName": "g", "limit": 10001}"#;
    let err = ApiError::from(FilterLogEvents::decode(&request, body.into()).unwrap_err());
    assert_eq!(err.shape(Some(&SERVICE)).code, "InvalidParameterException");
    assert_eq!(
        err.message(),
        "1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: \
         Member must have value less than or equal to 10000"
    );
}

#[tokio::test]
async fn ingested_events_are_readable_at_once_in_streams_made_for_them() {
    let server = Server::open();
    let mut tail = server.logs.subscribe("000000000000", "us-east-1", GROUP);
    server.ingest("s", &[(0, "START"), (1, "line\n")]);
    server.ingest("s", &[(1, "END")]);
    assert_eq!(
        server.get(get_input("s")).await.0,
        ["START", "line\n", "END"]
    );
    assert_eq!(
        server.filter(filter_input()).await.0,
        ["START", "line\n", "END"]
    );
    let batch = tail.recv().await.unwrap();
    assert_eq!((batch.stream.as_str(), batch.events.len()), ("s", 2));
    let duplicate = CreateLogStreamInput {
        log_group_name: GROUP.into(),
        log_stream_name: "s".into(),
    };
    let (code, _) = server.err::<CreateLogStream>(duplicate).await;
    assert_eq!(code, "ResourceAlreadyExistsException");
    let streams = DescribeLogStreamsInput {
        log_group_name: Some(GROUP.into()),
        ..Default::default()
    };
    let stream = server
        .ok::<DescribeLogStreams>(streams)
        .await
        .log_streams
        .unwrap()
        .remove(0);
    assert_eq!(stream.first_event_timestamp, Some(NOW_MS));
    assert_eq!(stream.last_event_timestamp, Some(NOW_MS + 1));
    assert_eq!(server.logs.dropped(), 0);
}

#[tokio::test]
async fn a_deleted_group_is_gone_and_a_new_one_of_its_name_is_empty() {
    let server = Server::with_stream("s").await;
    server.put("s", &[(0, "old")]).await;
    let delete = DeleteLogGroupInput {
        log_group_name: GROUP.into(),
    };
    server.ok::<DeleteLogGroup>(delete.clone()).await;
    let missing = (
        "ResourceNotFoundException",
        "The specified log group does not exist.".into(),
    );
    assert_eq!(server.err::<DeleteLogGroup>(delete).await, missing);
    assert_eq!(server.err::<GetLogEvents>(get_input("s")).await, missing);
    assert_eq!(
        server
            .err::<PutLogEvents>(put_input("s", &[(0, "x")]))
            .await,
        missing
    );
    assert_eq!(server.err::<FilterLogEvents>(filter_input()).await, missing);
    server.ingest("s", &[(0, "new")]);
    assert_eq!(server.get(get_input("s")).await.0, ["new"]);
}

#[tokio::test]
async fn expired_events_disappear_and_sizes_are_added_up() {
    let server = Server::with_stream("s").await;
    server.put("s", &[(-3000, "first"), (0, "second")]).await;
    let refused = PutRetentionPolicyInput {
        log_group_name: GROUP.into(),
        retention_in_days: 2,
    };
    let (code, message) = server.err::<PutRetentionPolicy>(refused).await;
    assert_eq!(code, "InvalidParameterException");
    assert!(
        message.contains("Value '2' at 'retentionInDays'"),
        "{message}"
    );
    let policy = PutRetentionPolicyInput {
        log_group_name: GROUP.into(),
        retention_in_days: 1,
    };
    server.ok::<PutRetentionPolicy>(policy).await;
    let group = async || {
        let found = server
            .ok::<DescribeLogGroups>(DescribeLogGroupsInput::default())
            .await;
        found.log_groups.unwrap().remove(0)
    };
    assert_eq!(group().await.retention_in_days, Some(1));
    // Readers do not see expired events, swept or not.
    server.clock.advance(Duration::from_secs(86_398));
    assert_eq!(server.get(get_input("s")).await.0, ["second"]);
    assert_eq!(server.filter(filter_input()).await.0, ["second"]);
    // The sweep is woken by the clock; it has the size when it is through.
    let expected = i64::try_from("second".len() + 26).unwrap();
    for _ in 0..1000 {
        if group().await.stored_bytes == Some(expected) {
            break;
        }
        server.clock.advance(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(group().await.stored_bytes, Some(expected));
    let lift = DeleteRetentionPolicyInput {
        log_group_name: GROUP.into(),
    };
    server.ok::<DeleteRetentionPolicy>(lift).await;
    assert_eq!(group().await.retention_in_days, None);
    assert_eq!(
        server.get(get_input("s")).await.0,
        ["second"],
        "the first has been swept"
    );
}

#[tokio::test]
async fn everything_is_there_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_millis(NOW_MS));
    let open = || {
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        Logs::open(store, clock.clone()).unwrap()
    };
    let caller = caller("000000000000", "us-east-1");
    {
        let logs = open();
        let router = Router::builder().service(logs.clone()).build();
        router
            .call::<CreateLogGroup>(&caller, group_input())
            .await
            .unwrap();
        for n in 0..100 {
            let event = (Timestamp::from_millis(NOW_MS + n), n.to_string());
            logs.ingest(caller.account, &caller.region, GROUP, "s", vec![event]);
        }
    }
    // The sweeper lets go of the store at its next turn.
    let store = loop {
        match Store::open(dir.path(), clock.clone()) {
            Ok(store) => break store,
            Err(store::Error::Locked { .. }) => tokio::task::yield_now().await,
            Err(err) => panic!("{err}"),
        }
    };
    let logs = Logs::open(store, clock.clone()).unwrap();
    let router = Router::builder().service(logs).build();
    let found = router
        .call::<GetLogEvents>(&caller, get_input("s"))
        .await
        .unwrap();
    let messages: Vec<_> = found
        .events
        .unwrap()
        .into_iter()
        .map(|event| event.message.unwrap())
        .collect();
    assert_eq!(
        messages,
        (0..100).map(|n| n.to_string()).collect::<Vec<_>>()
    );
}
