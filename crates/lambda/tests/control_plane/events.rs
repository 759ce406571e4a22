//! Asynchronous invocation: what is taken is run, tried again, told to destinations, and survives.
//! The clock stands still unless a test moves it, so hours pass in milliseconds.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Clock, Timestamp};
use lambda::Config;
use serde_json::{Value, json};

use crate::server::{Answer, Server, arn, path};

const START: i64 = 1_800_000_000;
const HOUR: Duration = Duration::from_secs(3600);

async fn server() -> Server {
    with(Config::default()).await
}

async fn with(config: Config) -> Server {
    let clock = Clock::manual(Timestamp::from_secs(START));
    let server = Server::with(config, clock).await;
    server.active("f").await;
    server
}

async fn send(server: &Server, name: &str, payload: &'static str) -> Answer {
    let invocations = format!("{}/invocations", path(name));
    let event = [("x-amz-invocation-type", "Event")];
    let body = Bytes::from_static(payload.as_bytes());
    server.request("POST", &invocations, &event, body).await
}

async fn configure(server: &Server, name: &str, config: Value) -> Answer {
    let path = path(name).replace("2015-03-31", "2019-09-25");
    let path = format!("{path}/event-invoke-config");
    server.json("PUT", &path, config).await
}

/// The payloads that reached a function, in order.
fn ran(server: &Server, name: &str) -> Vec<String> {
    let invoked = server.invoked.lock().unwrap();
    invoked
        .iter()
        .filter(|(function, _)| function.name == name)
        .map(|(_, invocation)| String::from_utf8_lossy(&invocation.payload).into_owned())
        .collect()
}

/// The one record that a function got as a destination.
fn record(server: &Server, name: &str) -> Value {
    let ran = ran(server, name);
    assert_eq!(ran.len(), 1, "{ran:?}");
    serde_json::from_str(&ran[0]).unwrap()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}")
}

async fn until_ran(server: &Server, name: &str, count: usize) {
    let what = format!("{name} ran {count} times");
    until(&what, || ran(server, name).len() >= count).await;
}

/// Lets time pass in steps until something has happened; gives the seconds since the start.
async fn pass(server: &Server, step: Duration, done: impl Fn() -> bool) -> i64 {
    for _ in 0..1_000 {
        for _ in 0..3 {
            if done() {
                return server.clock.now().as_secs() - START;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.clock.advance(step);
    }
    panic!("nothing happened")
}

#[tokio::test]
async fn an_event_is_taken_and_run_under_the_id_that_its_sender_got() {
    let server = server().await;
    let answer = send(&server, "f", r#"{"n": 1}"#).await;
    assert_eq!((answer.status, answer.bytes.len()), (202, 0), "{answer:?}");
    until_ran(&server, "f", 1).await;
    let (_, invocation) = server.invoked.lock().unwrap()[0].clone();
    assert_eq!(invocation.request_id, "request-1");
    assert_eq!(&invocation.payload[..], br#"{"n": 1}"#);
    assert_eq!(invocation.invoked_arn, arn("f"));
    until("done", || server.lambda().events().waiting() == 0).await;

    let empty = send(&server, "f", "").await;
    assert_eq!(empty.status, 202);
    until_ran(&server, "f", 2).await;
    assert_eq!(ran(&server, "f")[1], "{}");
}

#[tokio::test]
async fn the_old_way_to_invoke_asynchronously_works() {
    let server = server().await;
    let old = "/2014-11-13/functions/f/invoke-async";
    let body = Bytes::from_static(b"[1]");
    let answer = server.request("POST", old, &[], body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    until_ran(&server, "f", 1).await;
    assert_eq!(ran(&server, "f"), ["[1]"]);
    let body = Bytes::from_static(b"{");
    let answer = server.request("POST", old, &[], body).await;
    assert_eq!(answer.error(400).0, "InvalidRequestContentException");
}

#[tokio::test]
async fn what_cannot_run_is_not_taken() {
    let server = server().await;
    let missing = send(&server, "nobody", "{}").await.error(404);
    assert_eq!(missing.0, "ResourceNotFoundException");
    assert_eq!(send(&server, "f:7", "{}").await.status, 404);
    let bad = send(&server, "f", "{").await.error(400);
    assert_eq!(bad.0, "InvalidRequestContentException");
    let large = Bytes::from(format!("\"{}\"", "x".repeat(1 << 20)));
    let event = [("x-amz-invocation-type", "Event")];
    let invocations = format!("{}/invocations", path("f"));
    let answer = server.request("POST", &invocations, &event, large).await;
    assert_eq!(
        answer.error(413),
        (
            "RequestTooLargeException".to_owned(),
            "1048578 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
                .to_owned()
        )
    );
    assert_eq!(server.lambda().events().waiting(), 0);
}

#[tokio::test]
async fn a_failing_function_is_tried_three_times_and_its_destination_told() {
    let server = server().await;
    server.active("sink").await;
    let destination = json!({"DestinationConfig": {"OnFailure": {"Destination": arn("sink")}}});
    configure(&server, "f", destination).await.ok();
    send(&server, "f", r#""fail""#).await;
    until_ran(&server, "f", 1).await;
    let second = Duration::from_secs(1);
    let ran_times = |count| {
        let server = &server;
        move || ran(server, "f").len() == count
    };
    assert_eq!(pass(&server, second, ran_times(2)).await, 60);
    assert_eq!(pass(&server, second, ran_times(3)).await, 180);
    until_ran(&server, "sink", 1).await;
    let record = record(&server, "sink");
    assert_eq!(
        record["requestContext"],
        json!({
            "requestId": "request-1",
            "functionArn": arn("f:$LATEST"),
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        })
    );
    assert_eq!(record["requestPayload"], "fail");
    let response = json!({
        "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled",
    });
    assert_eq!(record["responseContext"], response);
    assert_eq!(record["responsePayload"], "fail");
    let ids: Vec<_> = server
        .invoked
        .lock()
        .unwrap()
        .iter()
        .filter(|(function, _)| function.name == "f")
        .map(|(_, invocation)| invocation.request_id.clone())
        .collect();
    assert_eq!(ids, ["request-1"; 3]);
    until("done", || server.lambda().events().waiting() == 0).await;
}

#[tokio::test]
async fn success_is_told_to_its_destination_and_each_qualifier_has_its_own() {
    let server = server().await;
    server.active("sink").await;
    server.publish("f").await;
    let destination = json!({"DestinationConfig": {"OnSuccess": {"Destination": arn("sink")}}});
    configure(&server, "f:1", destination).await.ok();
    send(&server, "f", "1").await;
    send(&server, "f:1", "2").await;
    until_ran(&server, "sink", 1).await;
    until("done", || server.lambda().events().waiting() == 0).await;
    let record = record(&server, "sink");
    assert_eq!(record["requestContext"]["condition"], "Success");
    assert_eq!(record["requestContext"]["functionArn"], arn("f:1"));
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 1);
    assert_eq!(record["responseContext"]["executedVersion"], "1");
    assert_eq!(record["responseContext"].get("functionError"), None);
    assert_eq!(record["responsePayload"], 2);
}

#[tokio::test]
async fn a_throttled_event_is_tried_for_six_hours() {
    let server = server().await;
    server.active("sink").await;
    let destination = json!({"DestinationConfig": {"OnFailure": {"Destination": arn("sink")}}});
    configure(&server, "f", destination).await.ok();
    send(&server, "f", r#""throttle""#).await;
    until_ran(&server, "f", 1).await;
    let step = Duration::from_secs(60);
    let gave_up = pass(&server, step, || !ran(&server, "sink").is_empty()).await;
    assert!((21_000..=21_600).contains(&gave_up), "{gave_up}");
    let tries = ran(&server, "f").len();
    assert!((70..=85).contains(&tries), "{tries}");
    let record = record(&server, "sink");
    assert_eq!(record["requestContext"]["condition"], "EventAgeExceeded");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 0);
    assert_eq!(record["responseContext"], json!({"statusCode": 429}));
    assert_eq!(record.get("responsePayload"), None);
}

#[tokio::test]
async fn events_survive_a_restart_and_go_on_where_they_were() {
    let mut server = server().await;
    send(&server, "f", r#""fail""#).await;
    until_ran(&server, "f", 1).await;
    send(&server, "f", r#""throttle""#).await;
    until_ran(&server, "f", 2).await;
    until("both wait", || server.lambda().events().waiting() == 2).await;
    server.restart().await;
    // What was throttled is tried at once; what had failed still has to wait.
    until_ran(&server, "f", 3).await;
    assert_eq!(ran(&server, "f")[2], r#""throttle""#);
    let failed = |server: &Server| {
        let ran = ran(server, "f");
        ran.iter().filter(|payload| *payload == r#""fail""#).count()
    };
    let second = Duration::from_secs(1);
    assert_eq!(pass(&server, second, || failed(&server) == 2).await, 60);
    assert_eq!(pass(&server, second, || failed(&server) == 3).await, 180);
    until("one waits", || server.lambda().events().waiting() == 1).await;
    server.restart().await;
    until("one is left", || server.lambda().events().waiting() == 1).await;
    assert_eq!(failed(&server), 3);
}

#[tokio::test]
async fn events_of_a_function_run_in_order_of_arrival() {
    let mut config = Config::default();
    config.events.max_running_per_function = 1;
    let server = with(config).await;
    let payloads: Vec<&'static str> = (0..300)
        .map(|n| -> &'static str { Box::leak(n.to_string().into_boxed_str()) })
        .collect();
    for payload in &payloads {
        assert_eq!(send(&server, "f", payload).await.status, 202);
    }
    until_ran(&server, "f", payloads.len()).await;
    assert_eq!(ran(&server, "f"), payloads);
    until("done", || server.lambda().events().waiting() == 0).await;
}

#[tokio::test]
async fn age_and_retries_are_as_configured() {
    let server = server().await;
    server.active("sink").await;
    let config = json!({
        "MaximumEventAgeInSeconds": 60,
        "DestinationConfig": {"OnFailure": {"Destination": arn("sink")}},
    });
    configure(&server, "f", config).await.ok();
    send(&server, "f", r#""fail""#).await;
    // The next try would be too late, so there is none.
    until_ran(&server, "sink", 1).await;
    let context = &record(&server, "sink")["requestContext"];
    assert_eq!(context["condition"], "EventAgeExceeded");
    assert_eq!(context["approximateInvokeCount"], 1);
    assert_eq!(ran(&server, "f").len(), 1);
}

#[tokio::test]
async fn configurations_go_with_their_version_alias_and_function() {
    let server = server().await;
    server.publish("f").await;
    let alias = json!({"Name": "live", "FunctionVersion": "1"});
    let aliases = format!("{}/aliases", path("f"));
    server.json("POST", &aliases, alias).await.with_status(201);
    for name in ["f", "f:1", "f:live"] {
        let answer = configure(&server, name, json!({"MaximumRetryAttempts": 1})).await;
        assert!(answer.ok()["LastModified"].is_number());
    }
    let list =
        format!("{}/event-invoke-config/list", path("f")).replace("2015-03-31", "2019-09-25");
    let names = |value: Value| -> Vec<String> {
        let configs = value["FunctionEventInvokeConfigs"].as_array().unwrap();
        let name = |config: &Value| {
            let arn = config["FunctionArn"].as_str().unwrap();
            arn.rsplit(':').next().unwrap().to_owned()
        };
        configs.iter().map(name).collect()
    };
    let all = names(server.get(&list).await.ok());
    assert_eq!(all, ["$LATEST", "1", "live"]);
    let page = server.get(&format!("{list}?MaxItems=2")).await.ok();
    let marker = page["NextMarker"].as_str().unwrap().to_owned();
    assert_eq!(names(page), ["$LATEST", "1"]);
    let rest = server.get(&format!("{list}?Marker={marker}")).await.ok();
    assert_eq!(names(rest), ["live"]);

    let alias = format!("{aliases}/live");
    server.json("DELETE", &alias, Value::Null).await;
    let version = format!("{}?Qualifier=1", path("f"));
    server.json("DELETE", &version, Value::Null).await;
    assert_eq!(names(server.get(&list).await.ok()), ["$LATEST"]);
    server.json("DELETE", &path("f"), Value::Null).await;
    server.active("f").await;
    assert!(names(server.get(&list).await.ok()).is_empty());
}

#[tokio::test]
async fn a_target_that_nothing_can_deliver_to_is_refused_when_it_is_configured() {
    let server = server().await;
    let queue = "arn:aws:sqs:us-east-1:111111111111:q";
    let on = |which: &str, arn: &str| json!({"DestinationConfig": {which: {"Destination": arn}}});
    let (code, message) = configure(&server, "f", on("OnFailure", queue))
        .await
        .error(501);
    assert_eq!(code, "NotImplementedException");
    assert!(message.contains("[upstream]"), "{message}");
    let dead_letters = json!({"DeadLetterConfig": {"TargetArn": queue}});
    let answer = server.configure("f", dead_letters.clone()).await;
    assert_eq!(answer.error(501).0, "NotImplementedException");
    let created = server.create("g", dead_letters).await;
    assert_eq!(created.error(501).0, "NotImplementedException");
    let foreign = arn("g").replace("111111111111", "222222222222");
    let foreign = configure(&server, "f", on("OnFailure", &foreign)).await;
    assert!(foreign.error(400).1.ends_with(" is invalid."));
    let bucket = configure(&server, "f", on("OnSuccess", "arn:aws:s3:::b")).await;
    assert!(bucket.error(400).1.ends_with(
        "(onSuccess=OnSuccess(destination=arn:aws:s3:::b), onFailure=null) is invalid."
    ));
}

#[tokio::test]
async fn an_event_of_a_deleted_function_is_dropped() {
    let server = server().await;
    send(&server, "f", r#""throttle""#).await;
    until_ran(&server, "f", 1).await;
    server.json("DELETE", &path("f"), Value::Null).await;
    let second = Duration::from_secs(1);
    pass(&server, second, || server.lambda().events().waiting() == 0).await;
    assert_eq!(ran(&server, "f").len(), 1);
}

#[tokio::test]
async fn a_loop_ends_after_sixteen_rounds() {
    let server = server().await;
    server.active("sink").await;
    let destination = json!({"DestinationConfig": {"OnFailure": {"Destination": arn("sink")}}});
    configure(&server, "f", destination).await.ok();
    let invocations = format!("{}/invocations", path("f"));
    let mut trace = String::new();
    for round in 0..16 {
        let header = [("x-amzn-trace-id", trace.as_str())];
        let headers = if round == 0 { &[][..] } else { &header };
        let answer = server
            .request("POST", &invocations, headers, Bytes::new())
            .await;
        assert_eq!(answer.status, 200, "round {round}: {answer:?}");
        let (_, invocation) = server.invoked.lock().unwrap()[round].clone();
        trace = invocation.trace_header.unwrap();
    }
    let header = [("x-amzn-trace-id", trace.as_str())];
    let answer = server
        .request("POST", &invocations, &header, Bytes::new())
        .await;
    assert_eq!(answer.error(400).0, "RecursiveInvocationException");
    let event = [("x-amz-invocation-type", "Event"), header[0]];
    let answer = server
        .request("POST", &invocations, &event, Bytes::new())
        .await;
    assert_eq!(answer.status, 202);
    until_ran(&server, "sink", 1).await;
    let record = record(&server, "sink");
    assert_eq!(record["requestContext"]["condition"], "RecursiveInvocation");
    assert_eq!(ran(&server, "f").len(), 16);

    let configuration = "/2024-08-31/functions/f/recursion-config";
    let got = server.get(configuration).await.ok();
    assert_eq!(got, json!({"RecursiveLoop": "Terminate"}));
    let allow = json!({"RecursiveLoop": "Allow"});
    server.json("PUT", configuration, allow.clone()).await.ok();
    assert_eq!(server.get(configuration).await.ok(), allow);
    let answer = server
        .request("POST", &invocations, &header, Bytes::new())
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn destinations_that_lead_in_a_circle_come_to_an_end() {
    let server = server().await;
    // A record holds the payload and the answer, so with answers it would double in each round.
    let quiet = json!({"Environment": {"Variables": {"QUIET": "1"}}});
    server.configure("f", quiet.clone()).await.ok();
    server.create("g", quiet).await.with_status(201);
    server.settled("f").await;
    server.settled("g").await;
    for (from, to) in [("f", "g"), ("g", "f")] {
        let destination = json!({"DestinationConfig": {"OnSuccess": {"Destination": arn(to)}}});
        configure(&server, from, destination).await.ok();
    }
    send(&server, "f", "{}").await;
    until_ran(&server, "g", 16).await;
    until("over", || server.lambda().events().waiting() == 0).await;
    let rounds = (ran(&server, "f").len(), ran(&server, "g").len());
    assert!(rounds.0 <= 17 && rounds.1 <= 17, "{rounds:?}");
}

/// Answers one request after the other with these statuses, and gives what it got.
fn recorder(statuses: &'static [u16]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        for status in statuses {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut text, mut buffer) = (String::new(), [0; 4096]);
            loop {
                let read = stream.read(&mut buffer).unwrap();
                text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().unwrap());
                if body.len() == length {
                    break;
                }
            }
            let answer = "content-length: 2\r\nconnection: close\r\n\r\n{}";
            write!(stream, "HTTP/1.1 {status} x\r\n{answer}").unwrap();
            sender.send(text).unwrap();
        }
    });
    (endpoint, received)
}

#[tokio::test]
async fn dead_letters_reach_an_upstream_even_if_it_is_away_at_first() {
    let (endpoint, received) = recorder(&[503, 200]);
    let config = Config {
        upstream: upstream::Config {
            services: [("sqs".to_owned(), endpoint.clone())].into(),
            ..upstream::Config::default()
        },
        ..Config::default()
    };
    let mut server = with(config).await;
    let queue = "arn:aws:sqs:us-east-1:111111111111:dlq";
    let dead_letters = json!({"DeadLetterConfig": {"TargetArn": queue}});
    server.configure("f", dead_letters).await.ok();
    server.settled("f").await;
    configure(&server, "f", json!({"MaximumRetryAttempts": 0}))
        .await
        .ok();
    send(&server, "f", r#""fail""#).await;
    let next = |received: mpsc::Receiver<String>| async {
        tokio::task::spawn_blocking(move || {
            let text = received.recv_timeout(Duration::from_secs(10)).unwrap();
            (text, received)
        })
        .await
        .unwrap()
    };
    let (first, received) = next(received).await;
    // The delivery outlives the server.
    server.restart().await;
    let (second, _) = next(received).await;
    let body = |text: &str| -> Value {
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    assert!(
        second.contains("AWS4-HMAC-SHA256 Credential=111111111111/"),
        "{second}"
    );
    assert!(second.contains("/us-east-1/sqs/aws4_request"), "{second}");
    assert_eq!(body(&first), body(&second));
    let message = body(&second);
    assert_eq!(message["QueueUrl"], format!("{endpoint}/111111111111/dlq"));
    assert_eq!(message["MessageBody"], r#""fail""#);
    assert_eq!(
        message["MessageAttributes"]["ErrorCode"]["StringValue"],
        "200"
    );
    assert_eq!(
        message["MessageAttributes"]["RequestID"]["StringValue"],
        "request-1"
    );
}

#[tokio::test]
async fn a_crowd_of_old_events_is_given_up_although_nothing_can_run() {
    let server = server().await;
    for _ in 0..200 {
        send(&server, "f", r#""throttle""#).await;
    }
    until_ran(&server, "f", 1).await;
    server.clock.advance(6 * HOUR);
    until("all are given up", || {
        server.lambda().events().waiting() == 0
    })
    .await;
}
