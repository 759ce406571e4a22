use serde_json::{Value, json};

use crate::server::{Server, arn, path};

async fn with_two_versions() -> Server {
    let server = Server::start().await;
    server.active("f").await;
    server.publish("f").await;
    server
        .configure("f", json!({"Description": "second"}))
        .await
        .ok();
    server.settled("f").await;
    server.publish("f").await;
    server
}

async fn create(server: &Server, body: Value) -> crate::server::Answer {
    server
        .json("POST", &format!("{}/aliases", path("f")), body)
        .await
}

#[tokio::test]
async fn an_alias_lives_as_recorded() {
    let server = with_two_versions().await;
    let created = create(
        &server,
        json!({"Name": "2024-01-02", "FunctionVersion": "1"}),
    )
    .await;
    let created = created.with_status(201);
    let expected = json!({
        "AliasArn": arn("f:2024-01-02"),
        "Description": "",
        "FunctionVersion": "1",
        "Name": "2024-01-02",
        "RevisionId": created["RevisionId"],
    });
    assert_eq!(created, expected);
    let alias = format!("{}/aliases/2024-01-02", path("f"));
    assert_eq!(server.get(&alias).await.ok(), created);

    let wrong = json!({"RevisionId": "wrong", "Description": "x"});
    assert_eq!(
        server.json("PUT", &alias, wrong).await.error(412).0,
        "PreconditionFailedException"
    );
    let change = json!({"RevisionId": created["RevisionId"], "Description": "something changed"});
    let updated = server.json("PUT", &alias, change).await.ok();
    assert_eq!(updated["Description"], "something changed");
    assert_ne!(updated["RevisionId"], created["RevisionId"]);

    let got = server.get(&path("f:2024-01-02")).await.ok();
    assert_eq!(got["Configuration"]["FunctionArn"], arn("f:2024-01-02"));
    assert_eq!(got["Configuration"]["Version"], "1");
    let in_use = server
        .json("DELETE", &format!("{}?Qualifier=1", path("f")), Value::Null)
        .await;
    assert_eq!(in_use.error(409).0, "ResourceConflictException");

    assert_eq!(server.json("DELETE", &alias, Value::Null).await.status, 204);
    assert_eq!(server.json("DELETE", &alias, Value::Null).await.status, 204);
    let missing = server.get(&alias).await.error(404).1;
    assert_eq!(
        missing,
        format!("Cannot find alias arn: {}", arn("f:2024-01-02"))
    );
}

#[tokio::test]
async fn weights_are_checked_and_can_be_taken_away() {
    let server = with_two_versions().await;
    let weighted = |weights: Value| {
        json!({
            "Name": "w",
            "FunctionVersion": "1",
            "RoutingConfig": {"AdditionalVersionWeights": weights},
        })
    };
    for (weights, part) in [
        (
            json!({"1": 0.5}),
            "Function version 1 is already included in routing configuration.",
        ),
        (json!({"2": 0.5, "3": 0.1}), "cannot be greater than 1"),
        (json!({"2": 2.0}), "Map value must satisfy constraint"),
        (json!({"v2": 0.5}), "Map keys must satisfy constraint"),
    ] {
        let error = create(&server, weighted(weights.clone())).await.error(400);
        assert!(error.1.contains(part), "{weights}: {}", error.1);
    }
    let missing = create(&server, weighted(json!({"7": 0.5})))
        .await
        .error(404)
        .1;
    assert_eq!(missing, format!("Function not found: {}", arn("f:7")));
    let latest = json!({
        "Name": "w",
        "FunctionVersion": "$LATEST",
        "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}},
    });
    assert_eq!(
        create(&server, latest).await.error(400).1,
        "$LATEST is not supported for an alias pointing to more than 1 version"
    );
    let created = create(&server, weighted(json!({"2": 0.25})))
        .await
        .with_status(201);
    let routing = json!({"AdditionalVersionWeights": {"2": 0.25}});
    assert_eq!(created["RoutingConfig"], routing);
    let alias = format!("{}/aliases/w", path("f"));
    let updated = server
        .json("PUT", &alias, json!({"RoutingConfig": {}}))
        .await
        .ok();
    assert_eq!(updated.get("RoutingConfig"), None);
}

#[tokio::test]
async fn aliases_that_cannot_be_are_refused() {
    let server = with_two_versions().await;
    let number = create(&server, json!({"Name": "2024", "FunctionVersion": "1"})).await;
    assert_eq!(
        number.error(400),
        (
            "ValidationException".into(),
            "1 validation error detected: Value '2024' at 'name' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)"
                .into()
        )
    );
    let missing = create(&server, json!({"Name": "x", "FunctionVersion": "42"})).await;
    assert_eq!(
        missing.error(404).1,
        format!("Function not found: {}", arn("f:42"))
    );
    create(&server, json!({"Name": "x", "FunctionVersion": "1"}))
        .await
        .with_status(201);
    let twice = create(&server, json!({"Name": "x", "FunctionVersion": "2"})).await;
    assert_eq!(
        twice.error(409).1,
        format!("Alias already exists: {}", arn("f:x"))
    );
    let unknown = format!("{}/aliases/unknown", path("f"));
    let error = server
        .json("PUT", &unknown, json!({"Description": "x"}))
        .await
        .error(404);
    assert_eq!(error.1, format!("Alias not found: {}", arn("f:unknown")));
}

#[tokio::test]
async fn aliases_are_listed_by_name_and_version() {
    let server = with_two_versions().await;
    for (name, version) in [("c", "2"), ("a", "1"), ("b", "2")] {
        create(&server, json!({"Name": name, "FunctionVersion": version}))
            .await
            .with_status(201);
    }
    let names = async |query: &str| {
        let list = server
            .get(&format!("{}/aliases{query}", path("f")))
            .await
            .ok();
        let names = list["Aliases"].as_array().unwrap().iter();
        let names: Vec<String> = names
            .map(|alias| alias["Name"].as_str().unwrap().to_owned())
            .collect();
        (
            names.join(""),
            list["NextMarker"].as_str().map(str::to_owned),
        )
    };
    assert_eq!(names("").await, ("abc".into(), None));
    assert_eq!(names("?FunctionVersion=2").await, ("bc".into(), None));
    let (first, marker) = names("?MaxItems=2").await;
    assert_eq!(first, "ab");
    assert_eq!(
        names(&format!("?Marker={}", marker.unwrap())).await,
        ("c".into(), None)
    );
}
