//! Code signing configurations, and what they keep out.

use serde_json::{Value, json};

use crate::server::{Server, arn, path, zip_base64};

const CONFIGS: &str = "/2020-04-22/code-signing-configs/";

async fn config(server: &Server, policy: &str) -> Value {
    let profile = "arn:aws:signer:us-east-1:111111111111:/signing-profiles/test";
    let request = json!({
        "AllowedPublishers": {"SigningProfileVersionArns": [profile]},
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": policy},
        "Tags": {"team": "a"},
    });
    let answer = server.json("POST", CONFIGS, request).await;
    answer.with_status(201)["CodeSigningConfig"].clone()
}

fn url(config: &Value) -> String {
    format!(
        "{CONFIGS}{}",
        config["CodeSigningConfigArn"].as_str().unwrap()
    )
}

#[tokio::test]
async fn a_configuration_survives_a_restart_and_is_deleted_when_nobody_uses_it() {
    let mut server = Server::start().await;
    let config = config(&server, "Warn").await;
    server.restart().await;
    let got = server.get(&url(&config)).await.ok();
    assert_eq!(got["CodeSigningConfig"], config);
    let change = json!({"Description": "new"});
    let updated = server.json("PUT", &url(&config), change).await.ok();
    assert_eq!(updated["CodeSigningConfig"]["Description"], "new");
    let tags = format!(
        "/2017-03-31/tags/{}",
        config["CodeSigningConfigArn"].as_str().unwrap()
    );
    assert_eq!(server.get(&tags).await.ok(), json!({"Tags": {"team": "a"}}));

    let signing = json!({"CodeSigningConfigArn": config["CodeSigningConfigArn"]});
    server.create("f", signing.clone()).await.with_status(201);
    let functions = format!("{}/functions", url(&config));
    assert_eq!(
        server.get(&functions).await.ok(),
        json!({"FunctionArns": [arn("f")]})
    );
    let deletion = server.json("DELETE", &url(&config), Value::Null).await;
    assert_eq!(deletion.error(409).0, "ResourceConflictException");
    let attached = "/2020-06-30/functions/f/code-signing-config";
    assert_eq!(
        server.json("DELETE", attached, Value::Null).await.status,
        204
    );
    assert_eq!(server.get(attached).await.ok(), json!({}));
    assert_eq!(
        server
            .json("DELETE", &url(&config), Value::Null)
            .await
            .status,
        204
    );
    let gone = server.get(&url(&config)).await;
    assert_eq!(gone.error(404).0, "ResourceNotFoundException");
    assert_eq!(gone.value().get("Type"), None);
    let missing = server.json("PUT", attached, signing).await.error(404);
    assert_eq!(missing.0, "CodeSigningConfigNotFoundException");
}

#[tokio::test]
async fn enforced_signatures_keep_unsigned_code_out() {
    let server = Server::start().await;
    let config = config(&server, "Enforce").await;
    let signing = json!({"CodeSigningConfigArn": config["CodeSigningConfigArn"]});
    let refused = server.create("f", signing.clone()).await.error(400);
    assert_eq!(
        refused,
        (
            "CodeVerificationFailedException".into(),
            format!(
                "Lambda cannot deploy the function. The function or layer might be signed using a \
                 signature that the client is not configured to accept. Check the provided \
                 signature for {}.",
                arn("f")
            )
        )
    );
    // Code that is there goes on; new code does not come in.
    server.active("f").await;
    let attached = "/2020-06-30/functions/f/code-signing-config";
    server.json("PUT", attached, signing).await.ok();
    assert_eq!(server.invoke("f", "1").await.status, 200);
    let code = json!({"ZipFile": zip_base64(b"def handler(e, c): return 2")});
    let update = server
        .json("PUT", &format!("{}/code", path("f")), code.clone())
        .await;
    assert_eq!(update.error(400).0, "CodeVerificationFailedException");
    let warn = json!({"CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"}});
    server.json("PUT", &url(&config), warn).await.ok();
    server
        .json("PUT", &format!("{}/code", path("f")), code)
        .await
        .ok();
}
