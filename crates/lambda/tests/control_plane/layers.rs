//! Layers: publishing, reading and sharing them, and functions that use them.

use std::io::Write as _;

use base64::Engine as _;
use clock::Clock;
use lambda::Config;
use serde_json::{Value, json};

use crate::server::{ACCOUNT, Answer, REGION, Server, path, zip};

const OTHER_ACCOUNT: &str = "222222222222";

async fn publish(server: &Server, name: &str, content: &[u8]) -> Value {
    let answer = server
        .json("POST", &versions(name), request(&zip(content)))
        .await;
    answer.with_status(201)
}

fn request(zip: &[u8]) -> Value {
    let zip = base64::engine::general_purpose::STANDARD.encode(zip);
    json!({"Content": {"ZipFile": zip}, "CompatibleRuntimes": ["python3.12"]})
}

fn versions(name: &str) -> String {
    format!("/2018-10-31/layers/{name}/versions")
}

fn version(name: &str, number: i64) -> String {
    format!("{}/{number}", versions(name))
}

fn arn(name: &str, number: u64) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{name}:{number}")
}

async fn delete(server: &Server, path: &str) -> Answer {
    server.json("DELETE", path, Value::Null).await
}

fn invalid(text: impl Into<String>) -> (String, String) {
    ("InvalidParameterValueException".to_owned(), text.into())
}

/// A zip whose one file is of this size.
fn zip_of_size(bytes: usize) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    writer.start_file("filling", options).unwrap();
    let block = vec![0; 1 << 20];
    for at in (0..bytes).step_by(block.len()) {
        writer
            .write_all(&block[..block.len().min(bytes - at)])
            .unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[tokio::test]
async fn versions_are_numbered_for_ever() {
    let mut server = Server::start().await;
    for number in 1..=2 {
        let published = publish(&server, "tools", b"x").await;
        assert_eq!(published["Version"], number);
        assert_eq!(published["LayerVersionArn"], arn("tools", number));
        assert_eq!(published["Content"]["CodeSize"], zip(b"x").len());
    }
    let listed = server.get(&versions("tools")).await.ok();
    let numbers: Vec<_> = listed["LayerVersions"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&numbers[0]["Version"], &numbers[1]["Version"]),
        (&json!(2), &json!(1))
    );
    for number in [2, 1, 1] {
        assert_eq!(delete(&server, &version("tools", number)).await.status, 204);
    }
    server.restart().await;
    let gone = server.get(&version("tools", 1)).await.error(404);
    assert_eq!(gone.1, "The resource you requested does not exist.");
    assert_eq!(publish(&server, "tools", b"x").await["Version"], 3);
    let layers = server.get("/2018-10-31/layers").await.ok();
    assert_eq!(layers["Layers"][0]["LatestMatchingVersion"]["Version"], 3);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        publish(&server, name, b"x").await;
    }
    let first = server.get("/2018-10-31/layers?MaxItems=2").await.ok();
    assert_eq!(first["Layers"].as_array().unwrap().len(), 2);
    let marker = first["NextMarker"].as_str().unwrap();
    let rest = server
        .get(&format!("/2018-10-31/layers?Marker={marker}"))
        .await;
    let rest = rest.ok();
    assert_eq!(rest["Layers"][0]["LayerName"], "c");
    assert!(rest["NextMarker"].is_null());
    let none = server
        .get("/2018-10-31/layers?CompatibleRuntime=java21")
        .await;
    assert_eq!(none.ok()["Layers"], json!([]));
    for _ in 0..2 {
        publish(&server, "a", b"x").await;
    }
    let page = server
        .get(&format!("{}?MaxItems=2", versions("a")))
        .await
        .ok();
    assert_eq!(page["LayerVersions"][1]["Version"], 2);
    let marker = page["NextMarker"].as_str().unwrap();
    let page = server
        .get(&format!("{}?Marker={marker}", versions("a")))
        .await
        .ok();
    assert_eq!(page["LayerVersions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_unpacked_is_refused() {
    let server = Server::start().await;
    let publish = |content: Value| {
        let request = json!({ "Content": content });
        let server = &server;
        async move { server.json("POST", &versions("l"), request).await }
    };
    let text = base64::engine::general_purpose::STANDARD.encode("no zip");
    let refused = publish(json!({ "ZipFile": text })).await.error(400);
    assert!(
        refused.1.starts_with("Could not unzip uploaded file."),
        "{refused:?}"
    );
    let refused = publish(json!({})).await.error(400);
    assert_eq!(
        refused,
        invalid("Please provide a source for function code.")
    );
    let s3 = json!({"S3Bucket": "bucket", "S3Key": "key"});
    let refused = publish(s3).await.error(501);
    assert!(refused.1.contains("code from S3"), "{refused:?}");
    // Nothing of all that got a number.
    assert_eq!(
        server.get(&versions("l")).await.ok()["LayerVersions"],
        json!([])
    );
}

#[tokio::test]
async fn a_function_keeps_its_layers_in_order() {
    let server = Server::start().await;
    for name in ["one", "two"] {
        publish(&server, name, name.as_bytes()).await;
    }
    let wanted = json!([arn("two", 1), arn("one", 1)]);
    let created = server.create("f", json!({ "Layers": wanted })).await;
    let created = created.with_status(201);
    assert_eq!(created["Layers"][0]["Arn"], arn("two", 1));
    assert_eq!(created["Layers"][1]["CodeSize"], zip(b"one").len());
    server.settled("f").await;
    let invoked = server.invoke("f", "{}").await;
    assert_eq!(invoked.status, 200);
    let function = server.invoked.lock().unwrap()[0].0.clone();
    let contents: Vec<String> = function
        .layer_dirs
        .iter()
        .map(|dir| std::fs::read_to_string(dir.join("handler.py")).unwrap())
        .collect();
    assert_eq!(contents, ["two", "one"]);
    // A published version keeps them, whatever `$LATEST` gets.
    server.publish("f").await;
    let changed = server.configure("f", json!({ "Layers": [] })).await.ok();
    assert!(changed["Layers"].is_null(), "{changed}");
    server.settled("f").await;
    let kept = server.get(&format!("{}?Qualifier=1", path("f"))).await.ok();
    assert_eq!(kept["Configuration"]["Layers"][0]["Arn"], arn("two", 1));
    server.invoke("f", "{}").await;
    let last = server.invoked.lock().unwrap().last().unwrap().0.clone();
    assert!(last.layer_dirs.is_empty());
    assert_ne!(last.revision_id, function.revision_id);
}

#[tokio::test]
async fn equal_layers_are_mounted_once() {
    let server = Server::start().await;
    for (name, content) in [("a", "same"), ("b", "other"), ("c", "same")] {
        publish(&server, name, content.as_bytes()).await;
    }
    let layers = json!([arn("a", 1), arn("b", 1), arn("c", 1)]);
    server.create("f", json!({ "Layers": layers })).await;
    assert_eq!(
        server.settled("f").await["Layers"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    server.invoke("f", "{}").await;
    let dirs = server.invoked.lock().unwrap()[0].0.layer_dirs.clone();
    assert_eq!(dirs.len(), 2);
    let top = std::fs::read_to_string(dirs[1].join("handler.py")).unwrap();
    assert_eq!(top, "same");
}

#[tokio::test]
async fn a_function_cannot_have_every_layer() {
    let server = Server::start().await;
    server.active("f").await;
    for _ in 0..2 {
        publish(&server, "l", b"x").await;
    }
    let configure = |layers: Vec<String>| {
        let server = &server;
        async move {
            let answer = server.configure("f", json!({ "Layers": layers })).await;
            answer.error(if answer.status == 403 { 403 } else { 400 })
        }
    };
    let six = (0..6).map(|n| arn(&format!("l{n}"), 1)).collect();
    assert_eq!(
        configure(six).await,
        invalid("Cannot reference more than 5 layers.")
    );
    let missing = arn("l", 3);
    assert_eq!(
        configure(vec![missing.clone()]).await,
        invalid(format!("Layer version {missing} does not exist."))
    );
    let (first, second) = (arn("l", 1), arn("l", 2));
    let text = format!(
        "Two different versions of the same layer are not allowed to be referenced in the same \
         function. {first} and {second} are versions of the same layer."
    );
    assert_eq!(configure(vec![first, second]).await, invalid(text));
    let elsewhere = arn("l", 1).replace(REGION, "eu-west-1");
    let text = format!(
        "Layers are not in the same region as the function. Layers are expected to be in region \
         {REGION}."
    );
    assert_eq!(configure(vec![elsewhere]).await, invalid(text));
    let foreign = arn("l", 1).replace(ACCOUNT, OTHER_ACCOUNT);
    let (code, text) = configure(vec![foreign.clone()]).await;
    assert_eq!(code, "AccessDeniedException");
    assert!(
        text.ends_with(&format!(
            "is not authorized to perform: lambda:GetLayerVersion on resource: {foreign} because \
             no resource-based policy allows the lambda:GetLayerVersion action"
        )),
        "{text}"
    );
    let (code, _) = configure(vec!["arn:nonsense".into()]).await;
    assert_eq!(code, "ValidationException");
    // No refusal has changed anything.
    assert!(server.settled("f").await["Layers"].is_null());
}

#[tokio::test]
async fn code_and_layers_together_are_bounded() {
    let server = Server::start().await;
    let limit = 262_144_000;
    // The same content for both, so that it is unpacked once; together they leave 1,000 bytes.
    let half = zip_of_size(limit / 2 - 500);
    for name in ["one", "two"] {
        let answer = server.json("POST", &versions(name), request(&half)).await;
        answer.with_status(201);
    }
    let code = base64::engine::general_purpose::STANDARD.encode(zip_of_size(1_001));
    let code = json!({ "ZipFile": code });
    let two = [arn("one", 1), arn("two", 1)];
    let both = json!({ "Layers": two, "Code": code });
    let refused = server.create("f", both).await.error(400);
    let size = limit + 1;
    let text = format!(
        "Function code combined with layers exceeds the maximum allowed size of {limit} bytes. \
         The actual size is {size} bytes."
    );
    assert_eq!(refused, invalid(&text));
    assert_eq!(server.get(&path("f")).await.status, 404);

    server.active("f").await;
    let answer = server.configure("f", json!({ "Layers": two })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    server.settled("f").await;
    let path = format!("{}/code", path("f"));
    let refused = server.json("PUT", &path, code).await.error(400);
    assert_eq!(refused, invalid(&text));

    let zip = zip_of_size(1_001);
    let answer = server.json("POST", &versions("three"), request(&zip)).await;
    answer.with_status(201);
    let three = json!({ "Layers": [arn("one", 1), arn("two", 1), arn("three", 1)] });
    let refused = server.configure("f", three).await.error(400);
    assert_eq!(
        refused,
        invalid("Layers consume more than the available size of 262144000 bytes")
    );
}

#[tokio::test]
async fn a_deleted_version_lives_on_in_functions_and_then_goes() {
    let config = Config {
        code_grace_s: 0,
        ..Config::default()
    };
    let mut server = Server::with(config, Clock::system()).await;
    publish(&server, "l", b"kept").await;
    server.create("f", json!({ "Layers": [arn("l", 1)] })).await;
    server.settled("f").await;
    assert_eq!(delete(&server, &version("l", 1)).await.status, 204);
    server.restart().await;
    let shown = server.settled("f").await;
    assert_eq!(shown["Layers"][0]["Arn"], arn("l", 1));
    server.invoke("f", "{}").await;
    let dir = server.invoked.lock().unwrap()[0].0.layer_dirs[0].clone();
    assert_eq!(std::fs::read(dir.join("handler.py")).unwrap(), b"kept");
    // It cannot be taken anew, not even by a function that has it.
    let again = json!({ "Layers": [arn("l", 1)] });
    assert_eq!(server.configure("f", again).await.status, 400);

    assert_eq!(delete(&server, &path("f")).await.status, 204);
    for _ in 0..2_000 {
        if !dir.exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("nobody needs {} any more", dir.display());
}

#[tokio::test]
async fn lost_content_comes_back_from_the_archive() {
    let mut server = Server::start().await;
    publish(&server, "l", b"content").await;
    server.create("f", json!({ "Layers": [arn("l", 1)] })).await;
    server.settled("f").await;
    server.invoke("f", "{}").await;
    let dir = server.invoked.lock().unwrap()[0].0.layer_dirs[0].clone();
    std::fs::remove_dir_all(&dir).unwrap();
    server.restart().await;
    for _ in 0..2_000 {
        if dir.join("handler.py").exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("a layer was not unpacked again");
}

#[tokio::test]
async fn a_policy_has_statements_and_a_revision() {
    let server = Server::start().await;
    publish(&server, "l", b"x").await;
    let policy = format!("{}/policy", version("l", 1));
    let statement = |id: &str| json!({"StatementId": id, "Action": "lambda:GetLayerVersion", "Principal": OTHER_ACCOUNT});
    let none = server.get(&policy).await.error(404);
    assert_eq!(none.1, "No policy is associated with the given resource.");
    let added = server.json("POST", &policy, statement("s1")).await;
    let added = added.with_status(201);
    let text: Value = serde_json::from_str(added["Statement"].as_str().unwrap()).unwrap();
    let root = format!("arn:aws:iam::{OTHER_ACCOUNT}:root");
    assert_eq!(text["Principal"], json!({ "AWS": root }));
    let twice = server
        .json("POST", &policy, statement("s1"))
        .await
        .error(409);
    assert!(
        twice
            .1
            .starts_with("The statement id (s1) provided already exists.")
    );
    let stale = format!("{policy}?RevisionId=x");
    let stale = server
        .json("POST", &stale, statement("s2"))
        .await
        .error(412);
    assert!(
        stale
            .1
            .ends_with("Call the GetLayerPolicy API to retrieve the latest Revision Id")
    );
    let shown = server.get(&policy).await.ok();
    assert_eq!(shown["RevisionId"], added["RevisionId"]);
    let missing = delete(&server, &format!("{policy}/s2")).await.error(404);
    assert_eq!(missing.1, "Statement s2 is not found in resource policy.");
    let revision = added["RevisionId"].as_str().unwrap();
    let removed = delete(&server, &format!("{policy}/s1?RevisionId={revision}")).await;
    assert_eq!(removed.status, 204);
    assert_eq!(server.get(&policy).await.status, 404);
    let nowhere = format!("{}/policy", version("l", 2));
    let nowhere = server.get(&nowhere).await.error(404);
    assert_eq!(
        nowhere.1,
        format!("Layer version {} does not exist.", arn("l", 2))
    );
}

#[tokio::test]
async fn layers_count_towards_the_quota() {
    let config = Config {
        total_code_bytes: 2 * zip(b"x").len() as u64,
        ..Config::default()
    };
    let server = Server::with(config, Clock::system()).await;
    publish(&server, "l", b"x").await;
    publish(&server, "l", b"x").await;
    let usage = server.get("/2016-08-19/account-settings").await.ok();
    assert_eq!(usage["AccountUsage"]["TotalCodeSize"], 2 * zip(b"x").len());
    let third = server
        .json("POST", &versions("l"), request(&zip(b"x")))
        .await;
    assert_eq!(third.error(400).0, "CodeStorageExceededException");
    delete(&server, &version("l", 1)).await;
    publish(&server, "l", b"x").await;
}
