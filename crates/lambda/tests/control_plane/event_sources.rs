//! Event source mappings: their life and their states.

use std::time::Duration;

use clock::{Clock, Timestamp};
use lambda::Config;
use serde_json::{Value, json};

use crate::server::{Answer, Server, arn};

const MAPPINGS: &str = "/2015-03-31/event-source-mappings";
const QUEUE: &str = "arn:aws:sqs:us-east-1:111111111111:queue";

async fn create(server: &Server, mapping: Value) -> Answer {
    server.json("POST", MAPPINGS, mapping).await
}

fn url(mapping: &Value) -> String {
    format!("{MAPPINGS}/{}", mapping["UUID"].as_str().unwrap())
}

async fn slow_server() -> Server {
    let config = Config {
        settle_delay_ms: 5_000,
        ..Config::default()
    };
    Server::with(config, Clock::manual(Timestamp::from_secs(1_700_000_000))).await
}

#[tokio::test]
async fn states_follow_the_clock() {
    let mut server = slow_server().await;
    server.create("f", json!({})).await.with_status(201);
    let mapping = create(
        &server,
        json!({"FunctionName": "f", "EventSourceArn": QUEUE}),
    )
    .await;
    let mapping = mapping.with_status(202);
    assert_eq!(
        mapping,
        json!({
            "UUID": mapping["UUID"],
            "BatchSize": 10,
            "MaximumBatchingWindowInSeconds": 0,
            "EventSourceArn": QUEUE,
            "FunctionArn": arn("f"),
            "LastModified": 1_700_000_000,
            "State": "Creating",
            "StateTransitionReason": "USER_INITIATED",
            "FunctionResponseTypes": [],
            "EventSourceMappingArn": format!(
                "arn:aws:lambda:us-east-1:111111111111:event-source-mapping:{}",
                mapping["UUID"].as_str().unwrap()
            ),
        })
    );
    let url = url(&mapping);
    let busy = server.json("PUT", &url, json!({"BatchSize": 1})).await;
    assert_eq!(
        busy.error(400),
        (
            "ResourceInUseException".into(),
            "Cannot update the event source mapping because it is in use.".into()
        )
    );
    server.clock.advance(Duration::from_secs(5));
    assert_eq!(server.get(&url).await.ok()["State"], "Enabled");
    server.restart().await;
    assert_eq!(server.get(&url).await.ok()["State"], "Enabled");
    let disabling = server.json("PUT", &url, json!({"Enabled": false})).await;
    assert_eq!(disabling.with_status(202)["State"], "Disabling");
    server.clock.advance(Duration::from_secs(5));
    assert_eq!(server.get(&url).await.ok()["State"], "Disabled");
    let deleting = server.json("DELETE", &url, Value::Null).await;
    assert_eq!(deleting.with_status(202)["State"], "Deleting");
    assert_eq!(server.get(&url).await.ok()["State"], "Deleting");
    // A deletion that a crash interrupts is taken up again.
    server.restart().await;
    server.clock.advance(Duration::from_secs(5));
    for _ in 0..5_000 {
        if server.get(&url).await.status == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the mapping is never gone");
}

#[tokio::test]
async fn mappings_are_listed_by_function_and_by_source() {
    let server = Server::start().await;
    server.active("f").await;
    server.publish("f").await;
    let other = "arn:aws:sqs:us-east-1:111111111111:other";
    for (name, source) in [("f", QUEUE), ("f", other), ("f:1", QUEUE)] {
        let mapping = json!({"FunctionName": name, "EventSourceArn": source});
        create(&server, mapping).await.with_status(202);
    }
    let count = |query: &'static str| {
        let server = &server;
        async move {
            let list = server.get(&format!("{MAPPINGS}{query}")).await.ok();
            list["EventSourceMappings"].as_array().unwrap().len()
        }
    };
    assert_eq!(count("").await, 3);
    assert_eq!(count("?FunctionName=f").await, 2);
    assert_eq!(count("?FunctionName=f:1").await, 1);
    assert_eq!(count("?FunctionName=gone").await, 0);
    assert_eq!(
        count("?EventSourceArn=arn:aws:sqs:us-east-1:111111111111:other").await,
        1
    );
    let first = server.get(&format!("{MAPPINGS}?MaxItems=2")).await.ok();
    let marker = first["NextMarker"].as_str().unwrap();
    let rest = server
        .get(&format!("{MAPPINGS}?Marker={marker}"))
        .await
        .ok();
    assert_eq!(rest["EventSourceMappings"].as_array().unwrap().len(), 1);
    assert_eq!(rest.get("NextMarker"), None);
}

#[tokio::test]
async fn mappings_have_tags() {
    let server = Server::start().await;
    server.active("f").await;
    let mapping = json!({"FunctionName": "f", "EventSourceArn": QUEUE, "Tags": {"a": "1"}});
    let mapping = create(&server, mapping).await.with_status(202);
    let tags = format!(
        "/2017-03-31/tags/{}",
        mapping["EventSourceMappingArn"].as_str().unwrap()
    );
    let added = server
        .json("POST", &tags, json!({"Tags": {"b": "2"}}))
        .await;
    assert_eq!(added.status, 204);
    let removed = server
        .json("DELETE", &format!("{tags}?tagKeys=a"), Value::Null)
        .await;
    assert_eq!(removed.status, 204);
    assert_eq!(server.get(&tags).await.ok(), json!({"Tags": {"b": "2"}}));
}

#[tokio::test]
async fn mappings_are_refused_as_recorded() {
    let server = Server::start().await;
    server.active("f").await;
    let taken = json!({"FunctionName": "f", "EventSourceArn": QUEUE});
    let first = create(&server, taken.clone()).await.with_status(202);
    let refusal = create(&server, taken).await.error(409);
    assert_eq!(
        refusal.1,
        format!(
            "An event source mapping with SQS arn (\" {QUEUE} \") and function (\" f \") already \
             exists. Please update or delete the existing mapping with UUID {}",
            first["UUID"].as_str().unwrap()
        )
    );
    for (mapping, message) in [
        (json!({"FunctionName": "f"}), "Unrecognized event source."),
        (
            json!({"FunctionName": "gone", "EventSourceArn": QUEUE}),
            "Function does not exist",
        ),
        (
            json!({"FunctionName": "f:live", "EventSourceArn": QUEUE}),
            "Function does not exist",
        ),
        (
            json!({
                "FunctionName": "f", "EventSourceArn": QUEUE,
                "FilterCriteria": {"Filters": [{"Pattern": "null"}]},
            }),
            "Invalid filter pattern definition.",
        ),
        (
            json!({"FunctionName": "f", "EventSourceArn": QUEUE, "BatchSize": 11}),
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is \
             greater than 10",
        ),
        (
            json!({"FunctionName": "f", "EventSourceArn": QUEUE, "ParallelizationFactor": 2}),
            "Unsupported ParallelizationFactor parameter for given event source mapping type.",
        ),
    ] {
        let (code, text) = create(&server, mapping.clone()).await.error(400);
        assert_eq!(code, "InvalidParameterValueException", "{mapping}");
        assert_eq!(text, message, "{mapping}");
    }
}
