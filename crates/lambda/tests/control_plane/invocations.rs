use std::collections::HashMap;

use base64::Engine as _;
use bytes::Bytes;
use clock::{Clock, Timestamp};
use lambda::Config;
use serde_json::json;

use crate::server::{Server, arn, path};

#[tokio::test]
async fn the_payload_goes_to_the_function_and_back() {
    let server = Server::start().await;
    server.active("f").await;
    let answer = server.invoke("f", r#"{"key": [1, 2]}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(&answer.bytes[..], br#"{"key": [1, 2]}"#);
    assert_eq!(answer.header("x-amz-executed-version"), Some("$LATEST"));
    assert_eq!(answer.header("x-amz-function-error"), None);
    assert_eq!(answer.header("x-amz-log-result"), None);

    assert_eq!(
        &server.invoke("f", "").await.bytes[..],
        b"{}",
        "no payload counts as {{}}"
    );
    let failed = server.invoke("f", r#""fail""#).await;
    assert_eq!(
        (failed.status, failed.header("x-amz-function-error")),
        (200, Some("Unhandled"))
    );

    let invoked = server.invoked.lock().unwrap();
    let (function, invocation) = &invoked[0];
    assert!(function.code_dir.join("handler.py").is_file());
    assert_eq!(invocation.request_id, "request-1");
    assert_eq!(invocation.invoked_arn, arn("f"));
}

#[tokio::test]
async fn log_tail_and_client_context_travel_in_headers() {
    let server = Server::start().await;
    server.active("f").await;
    let context = base64::engine::general_purpose::STANDARD.encode(r#"{"custom":{"foo":"bar"}}"#);
    let invocations = format!("{}/invocations", path("f"));
    let headers = [
        ("x-amz-log-type", "Tail"),
        ("x-amz-client-context", context.as_str()),
    ];
    let answer = server
        .request("POST", &invocations, &headers, Bytes::new())
        .await;
    assert_eq!(
        answer.header("x-amz-log-result"),
        Some("RU5EIFJlcXVlc3RJZDogMQo=")
    );
    let seen = server.invoked.lock().unwrap()[0].1.client_context.clone();
    assert_eq!(seen.as_deref(), Some(r#"{"custom":{"foo":"bar"}}"#));

    let headers = [("x-amz-client-context", "%%%")];
    let answer = server
        .request("POST", &invocations, &headers, Bytes::new())
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn dry_runs_run_nothing() {
    let server = Server::start().await;
    server.active("f").await;
    let invocations = format!("{}/invocations", path("f"));
    let dry = [("x-amz-invocation-type", "DryRun")];
    let answer = server
        .request("POST", &invocations, &dry, Bytes::new())
        .await;
    assert_eq!((answer.status, answer.bytes.len()), (204, 0));
    assert!(server.invoked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn invocations_are_refused_with_aws_reasons() {
    let server = Server::start().await;
    server.active("f").await;
    let error = server.invoke("f", "not json").await.error(400);
    assert_eq!(error.0, "InvalidRequestContentException");
    assert!(
        error
            .1
            .starts_with("Could not parse request body into json: Could not parse payload")
    );
    let error = server.invoke("f:nobody", "{}").await.error(404);
    assert_eq!(error.1, format!("Function not found: {}", arn("f:nobody")));
    let throttled = server.invoke("f", r#""throttle""#).await;
    assert_eq!(
        throttled.error(429),
        ("TooManyRequestsException".into(), "Rate Exceeded.".into())
    );
    assert_eq!(
        throttled.value()["Reason"],
        "ConcurrentInvocationLimitExceeded"
    );
    assert_eq!(throttled.value()["Type"], "User");
}

#[tokio::test]
async fn a_function_that_is_not_active_does_not_run() {
    let config = Config {
        settle_delay_ms: 1_000,
        inactive_after_s: 3_600,
        ..Config::default()
    };
    let clock = Clock::manual(Timestamp::from_secs(1_700_000_000));
    let server = Server::with(config, clock).await;
    let second = std::time::Duration::from_secs(1);
    server.create("f", json!({})).await.with_status(201);
    let pending = server.invoke("f", "{}").await.error(409);
    assert_eq!(
        pending,
        (
            "ResourceConflictException".into(),
            "The operation cannot be performed at this time. The function is currently in the \
             following state: Pending"
                .into()
        )
    );
    server.clock.advance(second);
    server.settled("f").await;
    assert_eq!(server.invoke("f", "{}").await.status, 200);

    server.clock.advance(3_600 * second);
    let idle = server
        .get(&format!("{}/configuration", path("f")))
        .await
        .ok();
    assert_eq!(
        (&idle["State"], &idle["StateReasonCode"]),
        (&json!("Inactive"), &json!("Idle"))
    );
    assert_eq!(server.invoke("f", "{}").await.status, 409);
    server.clock.advance(second);
    while server.settled("f").await["State"] != "Active" {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.invoke("f", "{}").await.status, 200);
}

#[tokio::test]
async fn an_alias_splits_invocations_by_its_weights() {
    let server = Server::start().await;
    server.active("f").await;
    server.publish("f").await;
    server
        .configure("f", json!({"Description": "second"}))
        .await
        .ok();
    server.settled("f").await;
    server.publish("f").await;
    let alias = json!({
        "Name": "live",
        "FunctionVersion": "1",
        "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.5}},
    });
    server
        .json("POST", &format!("{}/aliases", path("f")), alias)
        .await
        .with_status(201);
    let mut served: HashMap<String, u32> = HashMap::new();
    for _ in 0..400 {
        let answer = server.invoke("f:live", "{}").await;
        let version = answer.header("x-amz-executed-version").unwrap().to_owned();
        *served.entry(version).or_default() += 1;
    }
    // Seven standard deviations around 200.
    assert!(
        (130..=270).contains(&served["1"]) && served.len() == 2,
        "{served:?}"
    );
    assert_eq!(
        server.invoked.lock().unwrap()[0].1.invoked_arn,
        arn("f:live")
    );
}
