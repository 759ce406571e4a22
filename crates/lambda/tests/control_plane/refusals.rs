//! Requests that AWS refuses, with what it answered.

use serde_json::{Value, json};

use crate::server::{Server, arn, path};

const RUNTIMES: &str = "[nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, \
    nodejs24.x, nodejs22.x, java25, python3.10, python3.11, java21, ruby3.3, ruby3.4, ruby3.2, \
    python3.8, python3.9, java17, nodejs16.x, dotnet10, dotnet8, java11, dotnet6, nodejs18.x, \
    provided.al2, java8.al2]";

#[tokio::test]
async fn creations_are_refused_as_recorded() {
    let server = Server::start().await;
    let no_zip = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode("this is not a zip file, random string")
    };
    let cases: Vec<(Value, &str, String)> = vec![
        (
            json!({"Role": "r1"}),
            "ValidationException",
            "1 validation error detected: Value 'r1' at 'role' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: \
             arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+"
                .into(),
        ),
        (
            json!({"Runtime": "non-existent-runtime"}),
            "InvalidParameterValueException",
            format!(
                "Value non-existent-runtime at 'runtime' failed to satisfy constraint: Member must \
                 satisfy enum value set: {RUNTIMES} or be a valid ARN"
            ),
        ),
        (
            json!({"Runtime": "PYTHON3.9"}),
            "InvalidParameterValueException",
            format!(
                "Value PYTHON3.9 at 'runtime' failed to satisfy constraint: Member must satisfy \
                 enum value set: {RUNTIMES} or be a valid ARN"
            ),
        ),
        (
            json!({"Runtime": "go1.x"}),
            "InvalidParameterValueException",
            "The runtime parameter of go1.x is no longer supported for creating or updating AWS \
             Lambda functions. We recommend you use a supported runtime while creating or updating \
             functions."
                .into(),
        ),
        (
            json!({"Architectures": ["x86_64", "arm64"]}),
            "ValidationException",
            "1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to \
             satisfy constraint: Member must have length less than or equal to 1"
                .into(),
        ),
        (
            json!({"Architectures": ["X86_64"]}),
            "ValidationException",
            "1 validation error detected: Value '[X86_64]' at 'architectures' failed to satisfy \
             constraint: Member must satisfy constraint: [Member must satisfy enum value set: \
             [x86_64, arm64], Member must not be null]"
                .into(),
        ),
        (
            json!({"Code": {"ZipFile": no_zip}}),
            "InvalidParameterValueException",
            "Could not unzip uploaded file. Please check your file, then try to upload again."
                .into(),
        ),
        (
            json!({"FunctionName": "invalid:function:name"}),
            "ValidationException",
            "1 validation error detected: Value 'invalid:function:name' at 'functionName' failed \
             to satisfy constraint: Member must satisfy regular expression pattern: \
             (arn:(aws[a-zA-Z-]*)?:lambda:)?\
             ((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?(\\d{12}:)?(function:)?\
             ([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?"
                .into(),
        ),
        (
            json!({"FunctionName": "a".repeat(65)}),
            "InvalidParameterValueException",
            format!(
                "1 validation error detected: Value '{}' at 'functionName' failed to satisfy \
                 constraint: Member must have length less than or equal to 64",
                "a".repeat(65)
            ),
        ),
        (
            json!({"VpcConfig": {"SubnetIds": ["bad-format-1"], "SecurityGroupIds": ["sg-1"]}}),
            "ValidationException",
            "1 validation error detected: Value '[bad-format-1]' at 'vpcConfig.subnetIds' failed \
             to satisfy constraint: Member must satisfy constraint: [Member must have length less \
             than or equal to 1024, Member must have length greater than or equal to 0, Member \
             must satisfy regular expression pattern: subnet-[0-9a-z]*]"
                .into(),
        ),
        (
            json!({"Handler": null}),
            "InvalidParameterValueException",
            "Runtime and Handler are mandatory parameters for functions created with deployment \
             packages."
                .into(),
        ),
        (
            json!({"Layers": [format!("arn:aws:lambda:us-east-1:111111111111:layer:l:1")]}),
            "InvalidParameterValueException",
            "Layer version arn:aws:lambda:us-east-1:111111111111:layer:l:1 does not exist.".into(),
        ),
    ];
    for (overrides, code, message) in cases {
        let answer = server.create("refused", overrides.clone()).await;
        assert_eq!(answer.error(400), (code.to_owned(), message), "{overrides}");
        let typed = code == "InvalidParameterValueException";
        assert_eq!(answer.value().get("Type").is_some(), typed, "{overrides}");
    }
    assert_eq!(
        server.get("/2015-03-31/functions").await.ok(),
        json!({"Functions": []})
    );
}

#[tokio::test]
async fn other_regions_and_accounts_are_out_of_reach() {
    let server = Server::start().await;
    let region = "arn:aws:lambda:ap-southeast-1:111111111111:function:f";
    assert_eq!(
        server.create(region, json!({})).await.error(404),
        (
            "ResourceNotFoundException".into(),
            "Functions from 'ap-southeast-1' are not reachable in this region ('us-east-1')".into()
        )
    );
    let account = "arn:aws:lambda:us-east-1:123456789012:function:f";
    assert_eq!(
        server.create(account, json!({})).await.error(403).0,
        "AccessDeniedException"
    );
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = Server::start().await;
    for (method, suffix) in [("GET", ""), ("GET", "/configuration"), ("DELETE", "")] {
        let answer = server
            .json(method, &format!("{}{suffix}", path("gone")), Value::Null)
            .await;
        assert_eq!(
            answer.error(404),
            (
                "ResourceNotFoundException".into(),
                format!("Function not found: {}", arn("gone"))
            )
        );
        // For this error alone AWS writes the member with a capital letter.
        assert_eq!(answer.value()["Type"], "User");
        assert!(answer.value().get("Message").is_some(), "{answer:?}");
    }
    let incomplete = "arn:aws:lambda:us-east-1:111111111111:function";
    let error = server
        .json("DELETE", &path(incomplete), Value::Null)
        .await
        .error(404);
    assert_eq!(error.1, format!("Function not found: {}", arn("function")));
    server.active("f").await;
    let error = server
        .get(&format!("{}?Qualifier=1221", path("f")))
        .await
        .error(404);
    assert_eq!(error.1, format!("Function not found: {}", arn("f:1221")));
}

#[tokio::test]
async fn what_firn_cannot_do_yet_is_said_and_not_ignored() {
    let server = Server::start().await;
    for overrides in [
        json!({"Code": {"ZipFile": null, "S3Bucket": "bucket", "S3Key": "key"}}),
        json!({"PackageType": "Image", "Code": {"ZipFile": null, "ImageUri": "image"}}),
    ] {
        let error = server.create("f", overrides.clone()).await.error(501);
        assert_eq!(error.0, "NotImplementedException", "{overrides}");
    }
}
