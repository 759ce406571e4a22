use std::time::Duration;

use clock::{Clock, Timestamp};
use lambda::Config;
use serde_json::{Value, json};

use crate::server::{ROLE, Server, arn, merge, path, zip, zip_base64};

/// What AWS answered for a function created with nothing but the required members, with the
/// values that change from run to run taken from `answer`.
fn recorded(name: &str, answer: &Value) -> Value {
    json!({
        "Architectures": ["x86_64"],
        "CodeSha256": answer["CodeSha256"],
        "CodeSize": answer["CodeSize"],
        "Description": "",
        "EphemeralStorage": {"Size": 512},
        "FunctionArn": arn(name),
        "FunctionName": name,
        "Handler": "handler.handler",
        "LastModified": answer["LastModified"],
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": format!("/aws/lambda/{name}")},
        "MemorySize": 128,
        "PackageType": "Zip",
        "RevisionId": answer["RevisionId"],
        "Role": ROLE,
        "Runtime": "python3.12",
        "RuntimeVersionConfig": {
            "RuntimeVersionArn": answer["RuntimeVersionConfig"]["RuntimeVersionArn"],
        },
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "Timeout": 3,
        "TracingConfig": {"Mode": "PassThrough"},
        "Version": "$LATEST",
    })
}

fn with(mut value: Value, members: Value) -> Value {
    merge(&mut value, members);
    value
}

#[tokio::test]
async fn a_function_is_created_and_becomes_active_as_recorded() {
    let server = Server::start().await;
    let created = server.create("f", json!({})).await.with_status(201);
    let pending = json!({
        "State": "Pending",
        "StateReason": "The function is being created.",
        "StateReasonCode": "Creating",
    });
    assert_eq!(created, with(recorded("f", &created), pending));
    let code_size = zip(b"def handler(e, c): return e").len();
    assert_eq!(created["CodeSize"], code_size);

    let active = server.settled("f").await;
    let settled = json!({"State": "Active", "LastUpdateStatus": "Successful"});
    assert_eq!(active, with(recorded("f", &active), settled));
    assert_ne!(active["RevisionId"], created["RevisionId"]);
    let modified = active["LastModified"].as_str().unwrap();
    assert!(
        modified.ends_with("+0000") && modified.len() == 28,
        "{modified}"
    );

    let got = server.get(&path("f")).await.ok();
    assert_eq!(got["Configuration"], active);
    assert_eq!(got["Code"]["RepositoryType"], "S3");
    assert_eq!(got.get("Tags"), None);
}

#[tokio::test]
async fn every_form_of_the_name_leads_to_the_function() {
    let server = Server::start().await;
    let created = server.create(&arn("f"), json!({})).await.with_status(201);
    assert_eq!(created["FunctionArn"], arn("f"));
    server.settled("f").await;
    for name in [
        "f",
        "function:f",
        "111111111111:function:f",
        &arn("f"),
        "f:$LATEST",
    ] {
        let got = server
            .get(&format!("{}/configuration", path(name)))
            .await
            .ok();
        assert_eq!(got["FunctionName"], "f", "{name}");
    }
    let qualified = server
        .get(&format!("{}?Qualifier=%24LATEST", path("f")))
        .await
        .ok();
    assert_eq!(qualified["Configuration"]["FunctionArn"], arn("f:$LATEST"));
    let both = server
        .get(&format!("{}?Qualifier=1", path("f:$LATEST")))
        .await;
    assert_eq!(
        both.error(400),
        (
            "InvalidParameterValueException".into(),
            "The derived qualifier from the function name does not match the specified qualifier."
                .into()
        )
    );
}

#[tokio::test]
async fn an_update_is_in_progress_until_it_has_settled() {
    let config = Config {
        settle_delay_ms: 1_000,
        ..Config::default()
    };
    let clock = Clock::manual(Timestamp::from_secs(1_700_000_000));
    let server = Server::with(config, clock).await;
    server.create("f", json!({})).await.with_status(201);
    let early = server
        .configure("f", json!({"Description": "too early"}))
        .await;
    assert_eq!(early.error(409).0, "ResourceConflictException");
    server.clock.advance(Duration::from_secs(1));
    let before = server.settled("f").await;

    let updating = server
        .configure("f", json!({"Description": "new"}))
        .await
        .ok();
    assert_eq!(updating["State"], "Active");
    assert_eq!(updating["LastUpdateStatus"], "InProgress");
    assert_eq!(
        updating["LastUpdateStatusReason"],
        "The function is being created."
    );
    assert_eq!(updating["LastUpdateStatusReasonCode"], "Creating");
    assert_ne!(updating["RevisionId"], before["RevisionId"]);
    let code = json!({"ZipFile": zip_base64(b"new")});
    let conflict = server
        .json("PUT", &format!("{}/code", path("f")), code)
        .await;
    assert_eq!(
        conflict.error(409),
        (
            "ResourceConflictException".into(),
            format!(
                "The operation cannot be performed at this time. An update is in progress for \
                 resource: {}",
                arn("f")
            )
        )
    );
    assert_eq!(conflict.value()["Type"], "User");

    server.clock.advance(Duration::from_secs(1));
    let settled = server.settled("f").await;
    assert_eq!(settled["LastUpdateStatus"], "Successful");
    assert_eq!(settled["Description"], "new");
    assert_ne!(settled["RevisionId"], updating["RevisionId"]);
}

#[tokio::test]
async fn settings_are_kept_and_given_back() {
    let mut config = Config::default();
    let endpoint = "http://127.0.0.1:9324".to_owned();
    config.upstream.services.insert("sqs".to_owned(), endpoint);
    let server = Server::with(config, Clock::system()).await;
    let settings = json!({
        "Description": "all of it",
        "Timeout": 900,
        "MemorySize": 10240,
        "EphemeralStorage": {"Size": 512},
        "Environment": {"Variables": {"KEY": "value"}},
        "KMSKeyArn": "arn:aws:kms:us-east-1:111111111111:key/k",
        "TracingConfig": {"Mode": "Active"},
        "Architectures": ["arm64"],
        "SnapStart": {"ApplyOn": "PublishedVersions"},
        "DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:111111111111:q"},
        "LoggingConfig": {
            "LogFormat": "JSON",
            "ApplicationLogLevel": "DEBUG",
            "SystemLogLevel": "WARN",
            "LogGroup": "/my/group",
        },
    });
    let mut expected = settings.clone();
    expected["SnapStart"]["OptimizationStatus"] = "Off".into();
    let mut request = settings;
    request["VpcConfig"] = json!({"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]});
    let answer = server.create("f", request).await.with_status(201);
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(answer[member], *value, "{member}");
    }
    assert_eq!(answer["VpcConfig"]["SubnetIds"], json!(["subnet-1"]));
    assert_eq!(answer["VpcConfig"]["Ipv6AllowedForDualStack"], false);

    server.settled("f").await;
    let empty = json!({"VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []}});
    let answer = server.configure("f", empty).await.ok();
    assert_eq!(
        answer["VpcConfig"],
        json!({
            "Ipv6AllowedForDualStack": false, "SecurityGroupIds": [], "SubnetIds": [], "VpcId": "",
        })
    );
}

#[tokio::test]
async fn tags_come_and_go_and_change_the_revision() {
    let server = Server::start().await;
    server
        .create("f", json!({"Tags": {"a": "1"}}))
        .await
        .with_status(201);
    let mut revision = server.settled("f").await["RevisionId"].clone();
    let tags = format!("/2017-03-31/tags/{}", arn("f").replace(':', "%3A"));
    let add = json!({"Tags": {"b": "2", "c": "3"}});
    assert_eq!(server.json("POST", &tags, add).await.status, 204);
    let got = server.get(&path("f")).await.ok();
    assert_eq!(got["Tags"], json!({"a": "1", "b": "2", "c": "3"}));
    assert_ne!(got["Configuration"]["RevisionId"], revision);
    revision = got["Configuration"]["RevisionId"].clone();

    let removed = server
        .json(
            "DELETE",
            &format!("{tags}?tagKeys=a&tagKeys=b"),
            Value::Null,
        )
        .await;
    assert_eq!(removed.status, 204);
    assert_eq!(server.get(&tags).await.ok(), json!({"Tags": {"c": "3"}}));
    let got = server.get(&path("f")).await.ok();
    assert_ne!(got["Configuration"]["RevisionId"], revision);

    let empty = server.json("POST", &tags, json!({"Tags": {}})).await;
    assert_eq!(
        empty.error(400).1,
        "An error occurred and the request cannot be processed."
    );
    let version = format!("{tags}%3A1");
    let error = server
        .json("POST", &version, json!({"Tags": {"x": "y"}}))
        .await
        .error(400);
    assert!(
        error
            .1
            .starts_with("Tags on function aliases and versions are not supported.")
    );
    let missing = format!("/2017-03-31/tags/{}", arn("gone").replace(':', "%3A"));
    let error = server.get(&missing).await.error(404);
    assert_eq!(error.1, format!("Function not found: {}", arn("gone")));
}

#[tokio::test]
async fn pages_follow_on_whatever_changes_in_between() {
    let server = Server::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        server.active(name).await;
    }
    let page = async |marker: &str| {
        let marker = if marker.is_empty() {
            String::new()
        } else {
            format!("&Marker={marker}")
        };
        let page = server
            .get(&format!("/2015-03-31/functions?MaxItems=2{marker}"))
            .await
            .ok();
        let names: Vec<String> = page["Functions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|function| function["FunctionName"].as_str().unwrap().to_owned())
            .collect();
        (
            names,
            page["NextMarker"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let (names, marker) = page("").await;
    assert_eq!(names, ["a", "b"]);
    // The page's last function and a later one go, and one comes that belongs before.
    for name in ["b", "d"] {
        assert_eq!(
            server.json("DELETE", &path(name), Value::Null).await.status,
            204
        );
    }
    server.active("aa").await;
    let (names, marker) = page(&marker).await;
    assert_eq!(
        (names, marker.as_str()),
        (vec!["c".to_owned(), "e".to_owned()], "")
    );
    let error = server
        .get("/2015-03-31/functions?Marker=%21")
        .await
        .error(400);
    assert_eq!(error.0, "InvalidParameterValueException");
}

#[tokio::test]
async fn account_settings_count_code_per_version() {
    let server = Server::start().await;
    let usage = async || server.get("/2016-08-19/account-settings").await.ok();
    let fresh = usage().await;
    assert_eq!(
        fresh["AccountUsage"],
        json!({"FunctionCount": 0, "TotalCodeSize": 0})
    );
    assert_eq!(
        fresh["AccountLimit"],
        json!({
            "CodeSizeUnzipped": 262_144_000,
            "CodeSizeZipped": 52_428_800,
            "ConcurrentExecutions": 1000,
            "TotalCodeSize": 80_530_636_800_u64,
            "UnreservedConcurrentExecutions": 1000,
        })
    );
    server.active("f").await;
    let size = zip(b"def handler(e, c): return e").len();
    assert_eq!(usage().await["AccountUsage"]["TotalCodeSize"], size);
    server.publish("f").await;
    let counted = json!({"FunctionCount": 1, "TotalCodeSize": 2 * size});
    assert_eq!(usage().await["AccountUsage"], counted);
}

#[tokio::test]
async fn the_code_location_leads_to_the_uploaded_zip() {
    let server = Server::start().await;
    server.active("f").await;
    let got = server.get(&path("f")).await.ok();
    let location = got["Code"]["Location"].as_str().unwrap().to_owned();
    let prefix = format!("{}{}", server.config.endpoint, lambda::DOWNLOAD_PATH);
    let token = location.strip_prefix(&prefix).unwrap();
    let file = server.lambda().code_download(token).unwrap();
    assert_eq!(
        std::fs::read(file).unwrap(),
        zip(b"def handler(e, c): return e")
    );
    assert!(server.lambda().code_download("forged").is_none());
}
