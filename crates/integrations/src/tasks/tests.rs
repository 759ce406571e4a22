//! Tasks against a server that answers what a test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asl::definition::Resource;
use clock::{Clock, Timestamp};
use protocol::RouterHandle;
use protocol::sigv4::Credentials;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::{Call, Config, Hooks, Integrations, Report, Update};

const JOB: &str = "arn:aws:states:::glue:startJobRun.sync";

pub fn call(resource: &str, input: Value) -> Call {
    Call {
        id: "execution/1/2".to_owned(),
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        machine_arn: "arn:aws:states:eu-west-1:123456789012:stateMachine:m".to_owned(),
        execution_arn: "arn:aws:states:eu-west-1:123456789012:execution:m:e".to_owned(),
        role_arn: "arn:aws:iam::000000000000:role/r".to_owned(),
        task_role_arn: None,
        resource: Resource::parse(resource).unwrap(),
        input: Arc::new(input),
        token: resource
            .ends_with("waitForTaskToken")
            .then(|| "token".to_owned()),
        timeout_seconds: None,
        trace_header: None,
    }
}

/// A request: its head in small letters, and its body.
type Received = (String, String);

/// Answers each request with the next text, the last one for ever, and passes on what it got.
async fn server(answers: &[&str]) -> (SocketAddr, mpsc::UnboundedReceiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    let answers = answers.iter().rev().map(|answer| (*answer).to_owned());
    let answers = Arc::new(Mutex::new(answers.collect::<Vec<String>>()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&answers), sender.clone()));
        }
    });
    (address, receiver)
}

async fn serve(
    mut stream: TcpStream,
    answers: Arc<Mutex<Vec<String>>>,
    sender: mpsc::UnboundedSender<Received>,
) {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let text = String::from_utf8(buffer[..head].to_vec()).unwrap();
        let text = text.to_ascii_lowercase();
        let length = text
            .split_once("content-length: ")
            .and_then(|(_, rest)| rest.split_once("\r\n")?.0.parse().ok())
            .unwrap_or(0);
        while buffer.len() < head + length {
            assert!(stream.read_buf(&mut buffer).await.unwrap() > 0);
        }
        let body = String::from_utf8(buffer[head..head + length].to_vec()).unwrap();
        buffer.drain(..head + length);
        let answer = {
            let mut answers = answers.lock().unwrap();
            let last = answers.last().cloned().unwrap();
            if answers.len() > 1 {
                answers.pop();
            }
            last
        };
        let _ = sender.send((text, body));
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn integrations(at: SocketAddr, upstream: &[&str], clock: &Clock) -> Arc<Integrations> {
    let hooks = Hooks {
        ended: Arc::new(|_| Box::pin(std::future::pending())),
        credentials: Arc::new(|context| {
            Ok(Credentials {
                access_key: format!("key-of-{}", context.account),
                secret_key: "secret".to_owned(),
                session_token: None,
            })
        }),
        serves: Arc::new(|name| name == "logs"),
    };
    let endpoint = format!("http://{at}");
    let upstream = upstream::Config {
        services: upstream
            .iter()
            .map(|name| ((*name).to_owned(), endpoint.clone()))
            .collect(),
        ..upstream::Config::default()
    };
    let router = RouterHandle::default();
    Integrations::open(
        Config::default(),
        upstream,
        router,
        at,
        hooks,
        clock.clone(),
    )
    .unwrap()
}

fn report() -> (Report, mpsc::UnboundedReceiver<Update>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let report: Report = Arc::new(move |update| {
        let _ = sender.send(update);
    });
    (report, receiver)
}

fn manual() -> Clock {
    Clock::manual(Timestamp::from_secs(1_700_000_000))
}

#[tokio::test]
async fn this_servers_own_services_are_behind_its_port_and_others_upstream() {
    let (address, mut received) = server(&["{}"]).await;
    let integrations = integrations(address, &["sqs"], &manual());
    for (resource, input, host, key, scope) in [
        (
            "arn:aws:states:::aws-sdk:cloudwatchlogs:describeLogGroups",
            json!({}),
            "host: logs.eu-west-1.amazonaws.com",
            "key-of-123456789012/",
            "/eu-west-1/logs/aws4_request",
        ),
        (
            "arn:aws:states:::sqs:sendMessage",
            json!({"QueueUrl": "q", "MessageBody": "m"}),
            &*format!("host: {address}"),
            "credential=123456789012/",
            "/eu-west-1/sqs/aws4_request",
        ),
    ] {
        let (report, mut updates) = report();
        integrations.run(call(resource, input), report).await;
        assert_eq!(updates.recv().await, Some(Update::Started));
        let end = updates.recv().await;
        assert!(matches!(end, Some(Update::Succeeded(_))), "{end:?}");
        let (head, _) = received.recv().await.unwrap();
        for part in [host, key, scope] {
            assert!(head.contains(part), "{part}: {head}");
        }
    }
}

#[tokio::test]
async fn a_service_that_is_nowhere_is_told_by_its_setting() {
    let (address, _received) = server(&["{}"]).await;
    let (report, mut updates) = report();
    let call = call("arn:aws:states:::sns:publish", json!({"Message": "m"}));
    integrations(address, &[], &manual())
        .run(call, report)
        .await;
    updates.recv().await;
    let Some(Update::Failed(failure)) = updates.recv().await else {
        panic!("it did not fail");
    };
    assert_eq!(failure.error.as_deref(), Some("SNS.SdkClientException"));
    assert!(failure.cause.unwrap().contains("set upstream.sns"));
}

#[tokio::test]
async fn a_job_is_looked_at_until_it_ends() {
    let running = r#"{"JobRun": {"Id": "r", "JobRunState": "RUNNING"}}"#;
    let done = r#"{"JobRun": {"Id": "r", "JobRunState": "SUCCEEDED", "StartedOn": 5}}"#;
    let answers = [r#"{"JobRunId": "r"}"#, running, done];
    let (address, mut received) = server(&answers).await;
    let clock = manual();
    let integrations = integrations(address, &["glue"], &clock);
    let (report, mut updates) = report();
    let task = tokio::spawn({
        let call = call(JOB, json!({"JobName": "j"}));
        async move { integrations.run(call, report).await }
    });
    assert_eq!(updates.recv().await, Some(Update::Started));
    assert!(matches!(updates.recv().await, Some(Update::Submitted(_))));
    for operation in ["awsglue.startjobrun", "awsglue.getjobrun"] {
        assert!(received.recv().await.unwrap().0.contains(operation));
    }
    // It sleeps as soon as it has read the answer, and only the clock wakes it.
    while !task.is_finished() {
        clock.advance(Duration::from_secs(5));
        tokio::task::yield_now().await;
    }
    let expected = json!({"Id": "r", "JobRunState": "SUCCEEDED", "StartedOn": 5000});
    assert_eq!(updates.recv().await, Some(Update::Succeeded(expected)));
    assert_eq!(
        received.recv().await.unwrap().1,
        r#"{"JobName":"j","RunId":"r"}"#
    );
}

#[tokio::test]
async fn a_job_that_nobody_waits_for_is_stopped_unless_the_server_ends() {
    for ending in [false, true] {
        let running = r#"{"JobRun": {"Id": "r", "JobRunState": "RUNNING"}}"#;
        let (address, mut received) = server(&[r#"{"JobRunId": "r"}"#, running]).await;
        let integrations = integrations(address, &["glue"], &manual());
        let (report, _updates) = report();
        let task = tokio::spawn({
            let (integrations, call) = (
                Arc::clone(&integrations),
                call(JOB, json!({"JobName": "j"})),
            );
            async move { integrations.run(call, report).await }
        });
        for _ in 0..2 {
            received.recv().await.unwrap();
        }
        if ending {
            integrations.shutdown();
        }
        task.abort();
        let _ = task.await;
        if ending {
            assert!(received.try_recv().is_err());
        } else {
            let (head, body) = received.recv().await.unwrap();
            assert!(head.contains("awsglue.batchstopjobrun"), "{head}");
            assert_eq!(body, r#"{"JobName":"j","JobRunIds":["r"]}"#);
        }
    }
}

#[tokio::test]
async fn after_a_restart_nothing_is_called_twice_that_must_not_be() {
    let done = r#"{"JobRun": {"Id": "r", "JobRunState": "SUCCEEDED"}}"#;
    let (address, mut received) = server(&[done]).await;
    let integrations = integrations(address, &["glue", "sqs"], &manual());
    // What was submitted is waited for.
    let (heard, mut updates) = report();
    let job = call(JOB, json!({"JobName": "j"}));
    let submitted = Some(json!({"JobRunId": "r"}));
    integrations.resume(job.clone(), submitted, heard).await;
    assert!(matches!(updates.recv().await, Some(Update::Succeeded(_))));
    assert!(
        received
            .recv()
            .await
            .unwrap()
            .0
            .contains("awsglue.getjobrun")
    );
    // Of a call that may have been made, nobody knows.
    let message = json!({"QueueUrl": "q", "MessageBody": "m"});
    for unknown in [
        job,
        call("arn:aws:states:::sqs:sendMessage", message.clone()),
    ] {
        let (heard, mut updates) = report();
        integrations.resume(unknown, None, heard).await;
        let Some(Update::Failed(failure)) = updates.recv().await else {
            panic!("it did not fail");
        };
        assert_eq!(failure.error.as_deref(), Some("States.TaskFailed"));
    }
    // A message that carried its token has arrived.
    let (heard, mut updates) = report();
    let waiting = call("arn:aws:states:::sqs:sendMessage.waitForTaskToken", message);
    integrations.resume(waiting, Some(json!({})), heard).await;
    assert_eq!(updates.recv().await, None);
    assert!(received.try_recv().is_err());
}
