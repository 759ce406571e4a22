//! A custom `bootstrap`, a shell script with curl, runs as it is.

use std::sync::Arc;

use invoker::{EnvironmentState, Invocation, LogFormat};

use crate::harness::{REQUEST_ID, SHELL, Server, Verdict, invocation, masked};

crate::tests![
    event_is_answered_with_log_and_report,
    environment_is_frozen_between_invocations_and_used_again,
    headers_and_variables_reach_the_runtime,
    platform_log_is_json_when_asked_for,
    reported_error_is_unhandled_and_the_environment_stays,
    response_over_six_megabytes_is_refused,
];

async fn event_is_answered_with_log_and_report() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("echo", SHELL)?);
    let answer = server
        .call(&function, "echo hello; echo more; OUT=42")
        .await?;
    assert_eq!(answer.payload, "42");
    assert!(!answer.failed);
    assert!(answer.report.init_duration.is_some());
    assert_eq!(
        masked(&answer.tail),
        format!(
            "START RequestId: {REQUEST_ID} Version: $LATEST\nhello\nmore\nEND RequestId: {REQUEST_ID}\n\
             REPORT RequestId: {REQUEST_ID}\tDuration: # ms\tBilled Duration: # ms\t\
             Memory Size: 128 MB\tMax Memory Used: # MB\tInit Duration: # ms\t\n"
        )
    );
    let log = server.log();
    assert!(log[0].starts_with("INIT_START Runtime Version: provided:al2023\tRuntime Version ARN: arn:aws:lambda:eu-central-1::runtime:"), "{log:?}");
    assert_eq!(log[1], "init done\n");
    assert_eq!(log[3], "hello\n", "{log:?}");
    server.stop().await;
    Ok(())
}

async fn environment_is_frozen_between_invocations_and_used_again() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("again", SHELL)?);
    server.call(&function, "N=1; OUT=$N").await?;
    server.settle(&[EnvironmentState::Frozen]).await?;
    let answer = server.call(&function, "N=$((N+1)); OUT=$N").await?;
    assert_eq!(answer.payload, "2");
    assert_eq!(answer.report.init_duration, None);
    assert!(!answer.tail.contains("Init Duration"));
    assert_eq!(server.streams().len(), 1);
    server.stop().await;
    Ok(())
}

async fn headers_and_variables_reach_the_runtime() -> Verdict {
    let server = Server::start().await?;
    let mut function = server.custom("context", SHELL)?;
    function.environment.insert("GREETING".into(), "hi".into());
    let call = Invocation {
        client_context: Some("{\"a\":\n1}".into()),
        trace_header: Some("Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0".into()),
        ..invocation("OUT=$(cat /tmp/head; env; pwd)")
    };
    let answer = server.call_as(&Arc::new(function), call).await?;
    for line in [
        "lambda-runtime-invoked-function-arn: arn:aws:lambda:eu-central-1:000000000000:function:f",
        "lambda-runtime-client-context: {\"a\": 1}",
        "lambda-runtime-trace-id: Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0",
        "GREETING=hi",
        "_HANDLER=app.handler",
        "AWS_LAMBDA_FUNCTION_NAME=context",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128",
        "AWS_ENDPOINT_URL=http://127.0.0.1:4566",
        "/var/task",
    ] {
        let found = answer.payload.lines().any(|found| found.trim_end() == line);
        assert!(found, "{line} in {}", answer.payload);
    }
    assert!(answer.payload.contains("lambda-runtime-deadline-ms: "));
    assert!(!answer.payload.contains("AWS_EXECUTION_ENV"));
    server.stop().await;
    Ok(())
}

async fn platform_log_is_json_when_asked_for() -> Verdict {
    let server = Server::start().await?;
    let mut function = server.custom("json", SHELL)?;
    function.log_format = LogFormat::Json;
    let answer = server.call(&Arc::new(function), "OUT=1").await?;
    let kinds: Vec<String> = answer
        .tail
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).map(|v| v["type"].to_string()))
        .collect::<Result<_, _>>()?;
    assert_eq!(kinds, ["\"platform.start\"", "\"platform.report\""]);
    server.stop().await;
    Ok(())
}

async fn reported_error_is_unhandled_and_the_environment_stays() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("error", SHELL)?);
    let answer = server
        .call(&function, r#"RESULT=error; OUT='{"errorMessage":"no"}'"#)
        .await?;
    assert!(answer.failed);
    assert_eq!(answer.payload, r#"{"errorMessage":"no"}"#);
    assert!(answer.tail.ends_with("ms\t\n"), "{}", answer.tail);
    server.settle(&[EnvironmentState::Frozen]).await?;
    assert_eq!(server.call(&function, "OUT=fine").await?.payload, "fine");
    server.settle(&[EnvironmentState::Frozen]).await?;
    server.stop().await;
    Ok(())
}

async fn response_over_six_megabytes_is_refused() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("large", SHELL)?);
    let send = "head -c 7000000 /dev/zero > /tmp/big; \
        curl -sS -X POST --data-binary @/tmp/big \"$API/invocation/$ID/response\" > /tmp/refusal";
    let answer = server.call(&function, send).await?;
    assert!(answer.failed);
    assert_eq!(
        answer.payload,
        "{\"errorMessage\":\"Response payload size exceeded maximum allowed payload size \
         (6291556 bytes).\",\"errorType\":\"Function.ResponseSizeTooLarge\"}"
    );
    let refusal = server
        .call(&function, "OUT=$(cat /tmp/refusal)")
        .await?
        .payload;
    assert!(refusal.contains("RequestEntityTooLarge"), "{refusal}");
    server.stop().await;
    Ok(())
}
