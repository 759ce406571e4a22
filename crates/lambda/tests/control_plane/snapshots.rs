//! SnapStart: states of published versions, and when snapshots are made and deleted.

use std::time::Duration;

use clock::Clock;
use invoker::SnapStartMode;
use lambda::Config;
use serde_json::{Value, json};

use crate::server::{Server, path, zip_base64};

/// A function with SnapStart whose snapshot comes out as `outcome` says.
async fn snap_start(server: &Server, name: &str, outcome: &str) {
    let request = json!({
        "SnapStart": {"ApplyOn": "PublishedVersions"},
        "Environment": {"Variables": {"SNAPSHOT": outcome}},
    });
    server.create(name, request).await.with_status(201);
    server.settled(name).await;
}

async fn eager() -> Server {
    let config = Config {
        snap_start: SnapStartMode::Eager,
        ..Config::default()
    };
    Server::with(config, Clock::system()).await
}

fn asked(server: &Server) -> Vec<String> {
    server.snapshots.lock().unwrap().clone()
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

async fn optimized(server: &Server, name: &str) -> Value {
    until(&format!("{name} is optimised"), async || {
        server.settled(name).await["SnapStart"]["OptimizationStatus"] == "On"
    })
    .await;
    server.settled(name).await
}

#[tokio::test]
async fn a_version_is_pending_until_its_snapshot_is_there() {
    let server = Server::start().await;
    snap_start(&server, "f", "gate").await;
    let published = server.publish("f").await;
    assert_eq!(published["State"], "Pending");
    assert_eq!(published["StateReason"], "The function is being created.");
    assert_eq!(published["StateReasonCode"], "Creating");
    assert_eq!(published.get("LastUpdateStatus"), None);
    let off = json!({"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"});
    assert_eq!(published["SnapStart"], off);

    // The same build again is the same version, and no second snapshot.
    assert_eq!(server.publish("f").await, published);
    let alias = json!({"Name": "live", "FunctionVersion": "1"});
    let aliases = format!("{}/aliases", path("f"));
    server.json("POST", &aliases, alias).await.with_status(201);
    for name in ["f:1", "f:live"] {
        let error = server.invoke(name, "{}").await.error(409);
        let expected = (
            "SnapStartNotReadyException".to_owned(),
            "Lambda is initializing your function. It will be ready to invoke once your function \
             state becomes ACTIVE."
                .to_owned(),
        );
        assert_eq!(error, expected);
    }
    assert_eq!(server.invoke("f", "{}").await.status, 200);

    server.gate.add_permits(1);
    let version = server.settled("f:1").await;
    assert_eq!(version["State"], "Active");
    assert_eq!(version["LastUpdateStatus"], "Successful");
    assert_eq!(version["SnapStart"]["OptimizationStatus"], "On");
    assert_eq!(version.get("StateReason"), None);
    assert_ne!(version["RevisionId"], published["RevisionId"]);
    assert_eq!(server.settled("f").await["SnapStart"], off);
    assert_eq!(asked(&server), ["make f:1"]);
    let versions = server.get(&format!("{}/versions", path("f"))).await.ok();
    assert_eq!(
        versions["Versions"][1]["SnapStart"]["OptimizationStatus"],
        "On"
    );

    assert_eq!(server.invoke("f:live", "{}").await.status, 200);
    let (function, _) = server.invoked.lock().unwrap().last().unwrap().clone();
    assert!(function.snap_start);
    assert_eq!(function.code_sha256, version["CodeSha256"]);
}

#[tokio::test]
async fn publishing_with_the_function_or_its_code_waits_as_well() {
    let server = Server::start().await;
    let request = json!({"SnapStart": {"ApplyOn": "PublishedVersions"}, "Publish": true});
    let created = server.create("f", request).await.with_status(201);
    assert_eq!(
        (&created["State"], &created["Version"]),
        (&json!("Pending"), &json!("1"))
    );
    assert_eq!(
        server.settled("f:1").await["SnapStart"]["OptimizationStatus"],
        "On"
    );
    let code = json!({"ZipFile": zip_base64(b"two"), "Publish": true});
    let code = server
        .json("PUT", &format!("{}/code", path("f")), code)
        .await
        .ok();
    assert_eq!(
        (&code["State"], &code["Version"]),
        (&json!("Pending"), &json!("2"))
    );
    assert_eq!(
        server.settled("f:2").await["SnapStart"]["OptimizationStatus"],
        "On"
    );
    assert_eq!(asked(&server), ["make f:1", "forget f:$LATEST", "make f:2"]);
}

#[tokio::test]
async fn what_cannot_be_frozen_works_and_says_why() {
    let server = Server::start().await;
    snap_start(&server, "f", "unfit").await;
    server.publish("f").await;
    let version = server.settled("f:1").await;
    assert_eq!(version["State"], "Active");
    assert_eq!(version["SnapStart"]["OptimizationStatus"], "Off");
    let reason = version["StateReason"].as_str().unwrap();
    assert!(
        reason.contains("process 12 (sleep) is a second process"),
        "{reason}"
    );
    assert_eq!(server.invoke("f:1", "{}").await.status, 200);
    let (function, _) = server.invoked.lock().unwrap().last().unwrap().clone();
    assert!(!function.snap_start, "nobody tries again at each start");
}

#[tokio::test]
async fn a_version_whose_init_fails_is_failed() {
    let server = Server::start().await;
    snap_start(&server, "f", "init").await;
    server.publish("f").await;
    let version = server.settled("f:1").await;
    assert_eq!(version["State"], "Failed");
    assert_eq!(version["StateReasonCode"], "FunctionError");
    assert_eq!(
        version["StateReason"],
        "An error occurred during function initialization. Runtime.ImportModuleError: No module \
         named 'x'"
    );
    assert_eq!(version["LastUpdateStatus"], "Failed");
    assert_eq!(version["LastUpdateStatusReasonCode"], "FunctionError");
    assert_eq!(version["SnapStart"]["OptimizationStatus"], "Off");
    let (code, message) = server.invoke("f:1", "{}").await.error(409);
    assert_eq!(code, "ResourceConflictException");
    assert!(
        message.ends_with("in the following state: Failed"),
        "{message}"
    );
    let alias = json!({"Name": "live", "FunctionVersion": "1"});
    let alias = server
        .json("POST", &format!("{}/aliases", path("f")), alias)
        .await;
    let (code, message) = alias.error(409);
    assert_eq!(code, "ResourceConflictException");
    assert!(
        message.contains("StateReasonCode: 'FunctionError'"),
        "{message}"
    );
    let deleted = server
        .json("DELETE", &format!("{}?Qualifier=1", path("f")), Value::Null)
        .await;
    assert_eq!(deleted.status, 204);
}

#[tokio::test]
async fn a_restart_resumes_what_was_pending_and_keeps_what_was_there() {
    let mut server = Server::start().await;
    snap_start(&server, "ready", "").await;
    server.publish("ready").await;
    let ready = optimized(&server, "ready:1").await;
    snap_start(&server, "late", "gate").await;
    server.publish("late").await;
    until("the snapshot is being made", async || {
        asked(&server).len() == 2
    })
    .await;

    server.restart().await;
    assert_eq!(server.settled("ready:1").await, ready);
    server.gate.add_permits(1);
    assert_eq!(
        server.settled("late:1").await["SnapStart"]["OptimizationStatus"],
        "On"
    );
    assert_eq!(
        asked(&server),
        ["make ready:1", "make late:1", "make late:1"]
    );
    let mut retained = server.retained.lock().unwrap().clone();
    retained.sort();
    assert_eq!(
        retained,
        ["late:$LATEST", "late:1", "ready:$LATEST", "ready:1"]
    );
}

#[tokio::test]
async fn a_snapshot_that_could_not_be_made_is_tried_again_at_the_next_start() {
    let mut server = Server::start().await;
    snap_start(&server, "f", "never").await;
    server.publish("f").await;
    let version = server.settled("f:1").await;
    assert_eq!(version["State"], "Active");
    assert!(
        version["StateReason"]
            .as_str()
            .unwrap()
            .starts_with("No snapshot yet: ")
    );
    assert_eq!(server.invoke("f:1", "{}").await.status, 200);
    server.restart().await;
    until("it is tried again", async || {
        asked(&server) == ["make f:1", "make f:1"]
    })
    .await;
}

#[tokio::test]
async fn snapshots_go_with_their_versions() {
    let server = Server::start().await;
    snap_start(&server, "f", "").await;
    server.publish("f").await;
    optimized(&server, "f:1").await;
    server.snapshots.lock().unwrap().clear();
    let version = format!("{}?Qualifier=1", path("f"));
    assert_eq!(
        server.json("DELETE", &version, Value::Null).await.status,
        204
    );
    assert_eq!(asked(&server), ["forget f:1"]);
    assert_eq!(server.publish("f").await["Version"], "2");
    optimized(&server, "f:2").await;
    assert_eq!(
        server.json("DELETE", &path("f"), Value::Null).await.status,
        204
    );
    assert_eq!(
        asked(&server),
        ["forget f:1", "make f:2", "forget f:$LATEST", "forget f:2"]
    );
}

#[tokio::test]
async fn a_snapshot_of_what_was_deleted_meanwhile_is_deleted_too() {
    let server = Server::start().await;
    snap_start(&server, "f", "gate").await;
    server.publish("f").await;
    until("the snapshot is being made", async || {
        asked(&server) == ["make f:1"]
    })
    .await;
    assert_eq!(
        server.json("DELETE", &path("f"), Value::Null).await.status,
        204
    );
    server.snapshots.lock().unwrap().clear();
    server.gate.add_permits(1);
    until("it is deleted", async || asked(&server) == ["forget f:1"]).await;
}

#[tokio::test]
async fn eager_servers_freeze_latest_too_and_nobody_waits_for_it() {
    let mut server = eager().await;
    let request = json!({
        "Runtime": "nodejs22.x",
        "SnapStart": {"ApplyOn": "PublishedVersions"},
        "EphemeralStorage": {"Size": 10_240},
        "Environment": {"Variables": {"SNAPSHOT": "gate"}},
    });
    server.create("f", request).await.with_status(201);
    let active = server.settled("f").await;
    assert_eq!(active["State"], "Active");
    assert_eq!(active["SnapStart"]["OptimizationStatus"], "Off");
    assert_eq!(server.invoke("f", "{}").await.status, 200);
    server.gate.add_permits(1);
    let frozen = optimized(&server, "f").await;
    assert_eq!(frozen["RevisionId"], active["RevisionId"]);

    // The old snapshot goes before the new one comes: they may be the same.
    server
        .configure("f", json!({"Description": "new"}))
        .await
        .ok();
    server.gate.add_permits(1);
    optimized(&server, "f").await;
    assert_eq!(
        asked(&server),
        ["make f:$LATEST", "forget f:$LATEST", "make f:$LATEST"]
    );

    // Not eager any more: what nobody asked for goes.
    server.config.snap_start = SnapStartMode::Aws;
    server.restart().await;
    until("it is dropped", async || {
        server.settled("f").await["SnapStart"]["OptimizationStatus"] == "Off"
    })
    .await;
    assert_eq!(asked(&server).last().unwrap(), "forget f:$LATEST");
}

#[tokio::test]
async fn an_eager_server_catches_up_when_it_is_started() {
    let mut server = Server::start().await;
    server.active("f").await;
    assert!(asked(&server).is_empty());
    server.config.snap_start = SnapStartMode::Eager;
    server.restart().await;
    optimized(&server, "f").await;
}
