//! Reserved and provisioned concurrency: what may be configured, what the workers are told, and how
//! an alias moves.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Server, path, zip_base64};

async fn put_reserved(server: &Server, name: &str, reserved: i64) -> crate::server::Answer {
    let path = format!("/2017-10-31/functions/{name}/concurrency");
    let body = json!({"ReservedConcurrentExecutions": reserved});
    server.json("PUT", &path, body).await
}

fn provisioned_path(name: &str, qualifier: &str) -> String {
    format!("/2019-09-30/functions/{name}/provisioned-concurrency?Qualifier={qualifier}")
}

async fn provision(server: &Server, name: &str, qualifier: &str, count: i64) -> Value {
    let body = json!({"ProvisionedConcurrentExecutions": count});
    server
        .json("PUT", &provisioned_path(name, qualifier), body)
        .await
        .with_status(202)
}

async fn progress(server: &Server, name: &str, qualifier: &str) -> Value {
    server
        .get(&provisioned_path(name, qualifier))
        .await
        .with_status(200)
}

/// The status of the answer.
async fn delete(server: &Server, path: &str) -> u16 {
    server.json("DELETE", path, Value::Null).await.status
}

async fn invoked_version(server: &Server) -> String {
    let path = path("f/invocations?Qualifier=live");
    let invoked = server.json("POST", &path, json!(1)).await;
    let version = &invoked.headers["x-amz-executed-version"];
    version.to_str().unwrap().to_owned()
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..5_000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}")
}

async fn until_given(server: &Server, name: &str, expected: &str) {
    let given = || server.capacity.lock().unwrap().given(name);
    until(
        &format!("{name} has {expected}, not {}", given()),
        async || given() == expected,
    )
    .await;
}

/// A function with two versions of different code, and an alias of the first.
async fn published(server: &Server, name: &str) {
    server.create(name, json!({})).await.with_status(201);
    server.settled(name).await;
    server.publish(name).await;
    let code = json!({"ZipFile": zip_base64(b"second")});
    server
        .json("PUT", &path(&format!("{name}/code")), code)
        .await
        .with_status(200);
    server.settled(name).await;
    server.publish(name).await;
    let alias = json!({"Name": "live", "FunctionVersion": "1"});
    server
        .json("POST", &path(&format!("{name}/aliases")), alias)
        .await
        .with_status(201);
}

async fn alias(server: &Server, name: &str) -> Value {
    server
        .get(&path(&format!("{name}/aliases/live")))
        .await
        .with_status(200)
}

async fn move_alias(server: &Server, name: &str, version: &str) -> Value {
    let body = json!({"FunctionVersion": version});
    server
        .json("PUT", &path(&format!("{name}/aliases/live")), body)
        .await
        .with_status(200)
}

#[tokio::test]
async fn what_is_reserved_is_told_to_the_workers_at_once_and_again_after_a_restart() {
    let mut server = Server::start().await;
    server.create("f", json!({})).await.with_status(201);
    server.settled("f").await;
    let answer = put_reserved(&server, "f", 7).await.with_status(200);
    assert_eq!(answer, json!({"ReservedConcurrentExecutions": 7}));
    let given = |server: &Server| server.capacity.lock().unwrap().given("f");
    assert_eq!(given(&server), "reserved 7");
    server.capacity.lock().unwrap().clear();
    server.restart().await;
    assert_eq!(given(&server), "reserved 7");
    let path = "/2017-10-31/functions/f/concurrency";
    let deleted = server.json("DELETE", path, Value::Null).await;
    assert_eq!(deleted.status, 204);
    assert_eq!(given(&server), "");
    put_reserved(&server, "f", 0).await.with_status(200);
    assert!(delete(&server, &crate::server::path("f")).await < 300);
    assert_eq!(given(&server), "forgotten");
}

#[tokio::test]
async fn two_functions_cannot_reserve_the_same_places_at_once() {
    let server = Server::start().await;
    let names: Vec<String> = (0..8).map(|n| format!("f{n}")).collect();
    for name in &names {
        server.create(name, json!({})).await.with_status(201);
        server.settled(name).await;
    }
    let puts = names.iter().map(|name| put_reserved(&server, name, 300));
    let answers = futures_util::future::join_all(puts).await;
    let accepted = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(accepted, 3, "900 of 1000 can be reserved");
}

#[tokio::test]
async fn provisioned_environments_are_asked_for_and_their_progress_is_told() {
    let mut server = Server::start().await;
    published(&server, "f").await;
    let put = provision(&server, "f", "1", 3).await;
    assert_eq!(put["Status"], "IN_PROGRESS");
    assert_eq!(put["AllocatedProvisionedConcurrentExecutions"], 0);
    until_given(&server, "f", "1: 3").await;
    assert_eq!(progress(&server, "f", "1").await["Status"], "IN_PROGRESS");
    server.capacity.lock().unwrap().allocate("f", "1", 2);
    let some = progress(&server, "f", "1").await;
    assert_eq!(
        (
            &some["Status"],
            &some["AvailableProvisionedConcurrentExecutions"]
        ),
        (&json!("IN_PROGRESS"), &json!(2))
    );
    server.capacity.lock().unwrap().fail("f", "1", "REASON");
    let failed = progress(&server, "f", "1").await;
    assert_eq!(
        (&failed["Status"], &failed["StatusReason"]),
        (&json!("FAILED"), &json!("REASON"))
    );
    server.capacity.lock().unwrap().allocate("f", "1", 3);
    let ready = progress(&server, "f", "1").await;
    assert_eq!(
        (&ready["Status"], ready.get("StatusReason")),
        (&json!("READY"), None)
    );
    server.capacity.lock().unwrap().clear();
    server.restart().await;
    until_given(&server, "f", "1: 3").await;
    assert_eq!(delete(&server, &provisioned_path("f", "1")).await, 204);
    assert_eq!(server.capacity.lock().unwrap().given("f"), "");
}

#[tokio::test]
async fn alias_moves_when_its_new_version_is_ready() {
    let server = Server::start().await;
    published(&server, "f").await;
    provision(&server, "f", "live", 2).await;
    until_given(&server, "f", "1: 2").await;
    server.capacity.lock().unwrap().allocate("f", "1", 2);
    let updated = move_alias(&server, "f", "2").await;
    assert_eq!(updated["FunctionVersion"], "2");
    until_given(&server, "f", "1: 2, 2: 2 uncounted").await;
    let moving = alias(&server, "f").await;
    assert_eq!(
        moving["RoutingConfig"],
        json!({"AdditionalVersionWeights": {"1": 1.0}})
    );
    assert_eq!(
        progress(&server, "f", "live").await["Status"],
        "IN_PROGRESS"
    );
    for _ in 0..20 {
        assert_eq!(invoked_version(&server).await, "1");
    }
    server.capacity.lock().unwrap().allocate("f", "2", 2);
    until("the alias has moved", async || {
        alias(&server, "f").await.get("RoutingConfig").is_none()
    })
    .await;
    assert_eq!(invoked_version(&server).await, "2");
    assert_eq!(
        alias(&server, "f").await["RevisionId"],
        updated["RevisionId"]
    );
    // Those who were on their way to the old version still find its environments.
    assert_eq!(
        server.capacity.lock().unwrap().given("f"),
        "1: 2 uncounted, 2: 2"
    );
    until_given(&server, "f", "2: 2").await;
}

#[tokio::test]
async fn move_that_a_crash_interrupts_is_completed_after_the_restart() {
    let mut server = Server::start().await;
    published(&server, "f").await;
    provision(&server, "f", "live", 1).await;
    until_given(&server, "f", "1: 1").await;
    server.capacity.lock().unwrap().allocate("f", "1", 1);
    move_alias(&server, "f", "2").await;
    until_given(&server, "f", "1: 1, 2: 1 uncounted").await;
    server.capacity.lock().unwrap().clear();
    server.restart().await;
    until_given(&server, "f", "1: 1, 2: 1 uncounted").await;
    server.capacity.lock().unwrap().allocate("f", "2", 1);
    until_given(&server, "f", "2: 1").await;
    assert_eq!(alias(&server, "f").await.get("RoutingConfig"), None);
}

#[tokio::test]
async fn deleting_takes_what_is_provisioned_with_it() {
    let server = Server::start().await;
    published(&server, "f").await;
    provision(&server, "f", "2", 1).await;
    provision(&server, "f", "live", 1).await;
    until_given(&server, "f", "1: 1, 2: 1").await;
    assert_eq!(delete(&server, &path("f/aliases/live")).await, 204);
    assert_eq!(server.capacity.lock().unwrap().given("f"), "2: 1");
    assert!(delete(&server, &path("f?Qualifier=2")).await < 300);
    assert_eq!(server.capacity.lock().unwrap().given("f"), "");
    let listed = server
        .get("/2019-09-30/functions/f/provisioned-concurrency?List=ALL")
        .await;
    assert_eq!(
        listed.with_status(200),
        json!({"ProvisionedConcurrencyConfigs": []})
    );
    let settings = server.get("/2016-08-19/account-settings/").await;
    let limit = &settings.with_status(200)["AccountLimit"];
    assert_eq!(limit["UnreservedConcurrentExecutions"], 1000);
}
