//! Resource-based policies, and what they let other accounts do.

use serde_json::{Value, json};

use crate::server::{Server, arn, path};

const OTHER: &str = "222222222222";

fn invoke(principal: &str) -> Value {
    json!({"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": principal})
}

async fn add(server: &Server, name: &str, statement: Value) -> crate::server::Answer {
    server
        .json("POST", &format!("{}/policy", path(name)), statement)
        .await
}

async fn policy(server: &Server, name: &str) -> Value {
    let answer = server.get(&format!("{}/policy", path(name))).await.ok();
    serde_json::from_str(answer["Policy"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_policy_belongs_to_a_function_a_version_or_an_alias() {
    let server = Server::start().await;
    server.active("f").await;
    server.publish("f").await;
    let alias = json!({"Name": "live", "FunctionVersion": "1"});
    let aliases = format!("{}/aliases", path("f"));
    server.json("POST", &aliases, alias).await.with_status(201);
    for qualifier in ["", "?Qualifier=1", "?Qualifier=live"] {
        let url = format!("{}/policy{qualifier}", path("f"));
        let added = server.json("POST", &url, invoke("s3.amazonaws.com")).await;
        let added = added.with_status(201);
        let statement: Value = serde_json::from_str(added["Statement"].as_str().unwrap()).unwrap();
        let resource = match qualifier.split_once('=') {
            Some((_, qualifier)) => arn(&format!("f:{qualifier}")),
            None => arn("f"),
        };
        assert_eq!(
            statement,
            json!({
                "Sid": "s", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"},
                "Action": "lambda:InvokeFunction", "Resource": resource,
            })
        );
        let got = server.get(&url).await.ok();
        let policy: Value = serde_json::from_str(got["Policy"].as_str().unwrap()).unwrap();
        assert_eq!(policy["Statement"], json!([statement]));
    }
    // An alias takes its policy along.
    let live = format!("{aliases}/live");
    assert_eq!(server.json("DELETE", &live, Value::Null).await.status, 204);
    let url = format!("{}/policy?Qualifier=live", path("f"));
    assert_eq!(
        server.get(&url).await.error(404).0,
        "ResourceNotFoundException"
    );
    let alias = json!({"Name": "live", "FunctionVersion": "1"});
    server.json("POST", &aliases, alias).await.with_status(201);
    assert_eq!(
        server.get(&url).await.error(404).0,
        "ResourceNotFoundException"
    );
}

#[tokio::test]
async fn a_change_names_the_revision_it_was_meant_for() {
    let server = Server::start().await;
    server.active("f").await;
    let revision = |value: &Value| value["RevisionId"].as_str().unwrap().to_owned();
    let first = revision(&server.settled("f").await);
    let mut statement = invoke("*");
    statement["RevisionId"] = json!("wrong");
    let (code, message) = add(&server, "f", statement.clone()).await.error(412);
    assert_eq!(code, "PreconditionFailedException");
    assert!(
        message.starts_with("The Revision Id provided does not match"),
        "{message}"
    );
    statement["RevisionId"] = json!(first);
    add(&server, "f", statement).await.with_status(201);
    let url = format!("{}/policy", path("f"));
    let second = revision(&server.get(&url).await.ok());
    assert_ne!(second, first);
    assert_eq!(revision(&server.settled("f").await), second);
    let remove = |revision: &str| format!("{url}/s?RevisionId={revision}");
    let answer = server.json("DELETE", &remove(&first), Value::Null).await;
    assert_eq!(answer.error(412).0, "PreconditionFailedException");
    let answer = server.json("DELETE", &remove(&second), Value::Null).await;
    assert_eq!(answer.status, 204);
    assert_ne!(revision(&server.settled("f").await), second);
}

#[tokio::test]
async fn another_account_may_do_what_the_policy_lets_it() {
    let server = Server::start().await;
    server.active("f").await;
    let name = arn("f");
    let denied = |answer: crate::server::Answer, action: &str| {
        let (code, message) = answer.error(403);
        assert_eq!(code, "AccessDeniedException");
        assert_eq!(
            message,
            format!(
                "User: arn:aws:iam::{OTHER}:root is not authorized to perform: lambda:{action} on \
                 resource: {} because no resource-based policy allows the lambda:{action} action",
                arn("f")
            )
        );
    };
    let call = |path: String, method: &'static str| {
        let server = &server;
        async move {
            server
                .request_as(OTHER, method, &path, &[], "7".into())
                .await
        }
    };
    let invocations = || call(format!("{}/invocations", path(&name)), "POST");
    denied(invocations().await, "InvokeFunction");
    // Who may not look is not told what exists.
    let gone = call(format!("{}/invocations", path(&arn("gone"))), "POST").await;
    assert_eq!(gone.error(403).0, "AccessDeniedException");

    add(&server, "f", invoke(OTHER)).await.with_status(201);
    assert_eq!(invocations().await.status, 200);
    denied(call(path(&name), "GET").await, "GetFunction");
    // A version's policy is its own.
    server.publish("f").await;
    let version = call(format!("{}/invocations?Qualifier=1", path(&name)), "POST").await;
    assert_eq!(version.error(403).0, "AccessDeniedException");

    let url = format!("{}/policy/s", path("f"));
    assert_eq!(server.json("DELETE", &url, Value::Null).await.status, 204);
    denied(invocations().await, "InvokeFunction");
}

#[tokio::test]
async fn a_whole_policy_can_be_put_and_can_deny_the_owner() {
    let mut server = Server::start().await;
    server.active("f").await;
    let url = format!("/2026-07-09/resource-policy/{}", arn("f"));
    let document = |effect: &str| {
        json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Sid": "all", "Effect": effect, "Principal": "*",
                "Action": "lambda:InvokeFunction", "Resource": arn("f"),
            }],
        })
        .to_string()
    };
    assert_eq!(
        server.get(&url).await.error(404).0,
        "ResourceNotFoundException"
    );
    let put = server
        .json("PUT", &url, json!({"Policy": document("Deny")}))
        .await;
    assert_eq!(put.ok()["Policy"], document("Deny"));
    server.restart().await;
    let (code, message) = server.invoke("f", "1").await.error(403);
    assert_eq!(code, "AccessDeniedException");
    assert!(
        message.ends_with("with an explicit deny in a resource-based policy"),
        "{message}"
    );
    server
        .json("PUT", &url, json!({"Policy": document("Allow")}))
        .await
        .ok();
    assert_eq!(server.invoke("f", "1").await.status, 200);
    assert_eq!(policy(&server, "f").await["Statement"][0]["Sid"], "all");
    let elsewhere = document("Allow").replace(":f\"", ":g\"");
    for bad in [elsewhere, "{".into(), r#"{"Statement": []}"#.into()] {
        let answer = server.json("PUT", &url, json!({"Policy": bad})).await;
        assert_eq!(answer.error(400).0, "InvalidParameterValueException");
    }
    assert_eq!(server.json("DELETE", &url, Value::Null).await.status, 204);
    assert_eq!(
        server.get(&url).await.error(404).0,
        "ResourceNotFoundException"
    );
}

#[tokio::test]
async fn policies_are_refused_beyond_their_limit() {
    let server = Server::start().await;
    server.active("f").await;
    for n in 0..200 {
        let mut statement = invoke("s3.amazonaws.com");
        statement["StatementId"] = json!(format!("{n}-{}", "x".repeat(90)));
        let answer = add(&server, "f", statement).await;
        if answer.status != 201 {
            assert_eq!(answer.error(400).0, "PolicyLengthExceededException");
            return;
        }
    }
    panic!("nothing limits a policy");
}
