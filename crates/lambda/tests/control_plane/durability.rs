//! What survives a restart, and what concurrent writers may not lose.

use std::time::Duration;

use clock::{Clock, Timestamp};
use lambda::Config;
use serde_json::{Value, json};

use crate::server::{Server, arn, path, zip_base64};

fn stored_code(server: &Server) -> usize {
    std::fs::read_dir(server.directory.path().join("code"))
        .unwrap()
        .count()
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_restart() {
    let mut server = Server::start().await;
    server
        .create("f", json!({"Tags": {"a": "1"}}))
        .await
        .with_status(201);
    server.settled("f").await;
    server.publish("f").await;
    let alias = json!({"Name": "live", "FunctionVersion": "1"});
    let alias = server
        .json("POST", &format!("{}/aliases", path("f")), alias)
        .await;
    let alias = alias.with_status(201);
    let (latest, version) = (server.settled("f").await, server.settled("f:1").await);

    server.restart().await;
    assert_eq!(server.settled("f").await, latest);
    assert_eq!(server.settled("f:1").await, version);
    assert_eq!(
        server
            .get(&format!("{}/aliases/live", path("f")))
            .await
            .ok(),
        alias
    );
    assert_eq!(server.get(&path("f")).await.ok()["Tags"], json!({"a": "1"}));
    assert_eq!(server.invoke("f:live", "{}").await.status, 200);
}

#[tokio::test]
async fn work_that_a_crash_interrupted_is_resumed() {
    let clock = Clock::manual(Timestamp::from_secs(1_700_000_000));
    let config = Config {
        settle_delay_ms: 60_000,
        ..Config::default()
    };
    let mut server = Server::with(config, clock).await;
    let created = server
        .create("f", json!({"Publish": true}))
        .await
        .with_status(201);
    assert_eq!(created["State"], "Pending");
    // The unpacked code is lost with the crash; it comes back from the zip.
    let code = server.directory.path().join("code");
    std::fs::remove_dir_all(&code).unwrap();
    server.config.settle_delay_ms = 0;
    server.restart().await;
    assert_eq!(server.settled("f").await["State"], "Active");
    assert_eq!(server.settled("f:1").await["State"], "Active");
    assert_eq!(stored_code(&server), 1);
}

#[tokio::test]
async fn version_numbers_are_not_reused_even_after_deletion_and_restart() {
    let mut server = Server::start().await;
    server.active("f").await;
    server.publish("f").await;
    assert_eq!(
        server.json("DELETE", &path("f"), Value::Null).await.status,
        204
    );
    assert_eq!(server.get(&path("f")).await.status, 404);
    server.restart().await;
    assert_eq!(
        server.get("/2015-03-31/functions").await.ok(),
        json!({"Functions": []})
    );
    server.active("f").await;
    assert_eq!(server.publish("f").await["Version"], "2");
    server.restart().await;
    let versions = server.get(&format!("{}/versions", path("f"))).await.ok();
    let arns: Vec<&str> = versions["Versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["FunctionArn"].as_str().unwrap())
        .collect();
    assert_eq!(arns, [arn("f:$LATEST"), arn("f:2")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_changes_of_one_function_are_all_kept() {
    let server = std::sync::Arc::new(Server::start().await);
    server.active("f").await;
    let tags = format!("/2017-03-31/tags/{}", arn("f").replace(':', "%3A"));
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (server, tags) = (std::sync::Arc::clone(&server), tags.clone());
        writers.spawn(async move {
            let tag = json!({"Tags": {format!("k{number}"): "v"}});
            assert_eq!(server.json("POST", &tags, tag).await.status, 204);
        });
    }
    writers.join_all().await;
    let listed = server.get(&tags).await.ok();
    assert_eq!(listed["Tags"].as_object().unwrap().len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_concurrent_creations_and_deletions_one_wins_each_time() {
    let server = std::sync::Arc::new(Server::start().await);
    for _ in 0..5 {
        let mut creators = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let server = std::sync::Arc::clone(&server);
            creators.spawn(async move { server.create("f", json!({})).await.status });
        }
        let statuses = creators.join_all().await;
        assert_eq!(
            statuses.iter().filter(|status| **status == 201).count(),
            1,
            "{statuses:?}"
        );
        assert_eq!(
            statuses.iter().filter(|status| **status == 409).count(),
            7,
            "{statuses:?}"
        );
        let mut deleters = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let server = std::sync::Arc::clone(&server);
            deleters
                .spawn(async move { server.json("DELETE", &path("f"), Value::Null).await.status });
        }
        let statuses = deleters.join_all().await;
        assert_eq!(
            statuses.iter().filter(|status| **status == 204).count(),
            1,
            "{statuses:?}"
        );
    }
}

#[tokio::test]
async fn code_goes_when_its_last_function_is_gone_for_a_while() {
    let clock = Clock::manual(Timestamp::from_secs(1_700_000_000));
    let mut server = Server::with(Config::default(), clock).await;
    server.active("f").await;
    server.active("same-code").await;
    assert_eq!(stored_code(&server), 1);
    let code = json!({"ZipFile": zip_base64(b"other")});
    server
        .json("PUT", &format!("{}/code", path("f")), code)
        .await
        .ok();
    server.settled("f").await;
    assert_eq!(stored_code(&server), 2);
    for name in ["f", "same-code"] {
        assert_eq!(
            server.json("DELETE", &path(name), Value::Null).await.status,
            204
        );
    }
    assert_eq!(stored_code(&server), 2, "invocations may still run");
    server.clock.advance(Duration::from_secs(961));
    for _ in 0..5_000 {
        if stored_code(&server) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(stored_code(&server), 0);
    server.restart().await;
    assert_eq!(stored_code(&server), 0);
}
