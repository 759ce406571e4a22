use serde_json::{Value, json};

use crate::server::{Server, arn, path, zip_base64};

async fn listed(server: &Server, name: &str) -> Vec<String> {
    let versions = server.get(&format!("{}/versions", path(name))).await.ok();
    versions["Versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["FunctionArn"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_version_published_on_creation_is_answered_and_settles() {
    let server = Server::start().await;
    let created = server
        .create("f", json!({"Publish": true}))
        .await
        .with_status(201);
    assert_eq!(created["Version"], "1");
    assert_eq!(created["FunctionArn"], arn("f"));
    assert_eq!(created["State"], "Pending");
    let latest = server.settled("f").await;
    let version = server.settled("f:1").await;
    assert_eq!(version["State"], "Active");
    assert_eq!(version["LastUpdateStatus"], "Successful");
    assert_eq!(version["FunctionArn"], arn("f:1"));
    assert_ne!(version["RevisionId"], latest["RevisionId"]);
    assert_ne!(version["RevisionId"], created["RevisionId"]);

    // Publishing again what has not changed gives the version that is there.
    let again = json!({"Description": "Repeated version description :)"});
    let again = server
        .json("POST", &format!("{}/versions", path("f")), again)
        .await;
    assert_eq!(again.with_status(201), version);
    assert_eq!(server.settled("f").await, latest);
    assert_eq!(listed(&server, "f").await, [arn("f:$LATEST"), arn("f:1")]);
    let list = server.get(&format!("{}/versions", path("f"))).await.ok();
    assert!(list["Versions"][0].get("State").is_none());
}

#[tokio::test]
async fn publishing_checks_revision_and_code() {
    let server = Server::start().await;
    server.active("f").await;
    let latest = server.settled("f").await;
    let publish = async |body: Value| {
        server
            .json("POST", &format!("{}/versions", path("f")), body)
            .await
    };
    let error = publish(json!({"RevisionId": "wrong"})).await.error(412);
    assert_eq!(
        error,
        (
            "PreconditionFailedException".into(),
            "The Revision Id provided does not match the latest Revision Id. Call the \
             GetFunction/GetAlias API to retrieve the latest Revision Id"
                .into()
        )
    );
    let error = publish(json!({"CodeSha256": "somenonexistentsha256"}))
        .await
        .error(400);
    let sha256 = latest["CodeSha256"].as_str().unwrap();
    assert_eq!(
        error.1,
        format!(
            "CodeSHA256 (somenonexistentsha256) is different from current CodeSHA256 in $LATEST \
             ({sha256}). Please try again with the CodeSHA256 in $LATEST."
        )
    );
    let right = json!({"RevisionId": latest["RevisionId"], "CodeSha256": sha256});
    let version = publish(right).await.with_status(201);
    assert_eq!(
        (&version["State"], &version["Version"]),
        (&json!("Active"), &json!("1"))
    );
    let now = server.settled("f").await;
    assert_ne!(
        now["RevisionId"], latest["RevisionId"],
        "publishing touches $LATEST"
    );
    assert_eq!(
        server.settled("f:1").await["RevisionId"],
        version["RevisionId"]
    );
}

#[tokio::test]
async fn new_code_can_be_published_at_once_or_only_tried() {
    let server = Server::start().await;
    server.active("f").await;
    let first = server.settled("f").await;
    let update = async |body: Value| {
        server
            .json("PUT", &format!("{}/code", path("f")), body)
            .await
    };
    let dry = update(json!({"ZipFile": zip_base64(b"two"), "DryRun": true}))
        .await
        .ok();
    assert_ne!(dry["CodeSha256"], first["CodeSha256"]);
    assert_eq!(server.settled("f").await, first);

    let published = update(json!({"ZipFile": zip_base64(b"two"), "Publish": true}))
        .await
        .ok();
    assert_eq!(published["FunctionArn"], arn("f:1"));
    assert_eq!(published["CodeSha256"], dry["CodeSha256"]);
    assert_eq!(server.settled("f:1").await["State"], "Active");
    let latest = server.settled("f").await;
    assert_eq!(latest["LastUpdateStatus"], "Successful");
    assert_eq!(latest["CodeSha256"], dry["CodeSha256"]);
    assert_eq!(
        server.retired.lock().unwrap().len(),
        1,
        "the old build's environments end"
    );
}

#[tokio::test]
async fn deleting_by_qualifier_follows_aws() {
    let server = Server::start().await;
    server.active("f").await;
    server.publish("f").await;
    let delete = async |qualifier: &str| {
        let path = format!("{}?Qualifier={qualifier}", path("f"));
        server.json("DELETE", &path, Value::Null).await
    };
    assert_eq!(
        delete("%24LATEST").await.error(400).1,
        "$LATEST version cannot be deleted without deleting the function."
    );
    assert_eq!(
        delete("live").await.error(400).0,
        "InvalidParameterValueException"
    );
    assert_eq!(delete("1221").await.status, 204);
    assert_eq!(delete("1").await.status, 204);
    assert_eq!(listed(&server, "f").await, [arn("f:$LATEST")]);
    assert_eq!(server.publish("f").await["Version"], "2");
}

#[tokio::test]
async fn all_versions_are_listed_page_by_page() {
    let server = Server::start().await;
    for name in ["a", "b"] {
        server.active(name).await;
        for round in ["one", "two"] {
            server
                .configure(name, json!({"Description": round}))
                .await
                .ok();
            server.settled(name).await;
            server.publish(name).await;
        }
    }
    let mut marker = String::new();
    let mut arns = Vec::new();
    loop {
        let path = format!("/2015-03-31/functions?FunctionVersion=ALL&MaxItems=2{marker}");
        let page = server.get(&path).await.ok();
        let functions = page["Functions"].as_array().unwrap();
        assert!(functions.len() <= 2);
        arns.extend(
            functions
                .iter()
                .map(|f| f["FunctionArn"].as_str().unwrap().to_owned()),
        );
        match page["NextMarker"].as_str() {
            Some(next) => marker = format!("&Marker={next}"),
            None => break,
        }
    }
    let expected = ["a:$LATEST", "a:1", "a:2", "b:$LATEST", "b:1", "b:2"].map(arn);
    assert_eq!(arns, expected);
}
