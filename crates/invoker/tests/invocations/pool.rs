//! Concurrency, fairness, memory, retirement and shutdown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use invoker::{Config, EnvironmentState, Invocation, InvokeError, Mode, Payload, StreamItem};

use crate::harness::{REQUEST_ID, SHELL, Server, Verdict, invocation};

crate::tests![
    concurrent_invocations_get_environments_of_their_own,
    burst_is_served_without_an_error_within_the_memory_budget,
    account_limit_throttles,
    idle_environments_end_after_a_while,
    memory_of_idle_functions_is_taken_for_others,
    caller_that_goes_away_does_not_stop_the_function,
    retired_function_loses_its_idle_environment,
    prepared_environment_is_there_for_the_first_invocation,
    streamed_response_arrives_chunk_by_chunk,
    shutdown_waits_for_running_invocations,
];

async fn concurrent_invocations_get_environments_of_their_own() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("parallel", SHELL)?);
    let calls = (0..4).map(|_| server.call(&function, "sleep 1; OUT=$$"));
    let answers = futures_util::future::join_all(calls).await;
    for answer in answers {
        assert!(!answer?.failed);
    }
    assert_eq!(server.streams().len(), 4, "none waited for another");
    server.stop().await;
    Ok(())
}

async fn burst_is_served_without_an_error_within_the_memory_budget() -> Verdict {
    let config = Config {
        memory_budget_mb: 8 * 128,
        ..Config::default()
    };
    let server = Server::with(config).await?;
    let function = Arc::new(server.custom("burst", SHELL)?);
    let began = Instant::now();
    let calls = (0..200).map(|_| {
        let call = Invocation {
            want_tail: false,
            ..invocation("sleep 0.05; OUT=1")
        };
        server.call_as(&function, call)
    });
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer?.payload, "1");
    }
    println!(
        "    200 invocations of 50 ms on 8 environments: {:?}",
        began.elapsed()
    );
    assert!(server.streams().len() <= 8, "{}", server.streams().len());
    server.stop().await;
    Ok(())
}

async fn account_limit_throttles() -> Verdict {
    let server = Server::with(Config {
        account_concurrency: 1,
        ..Config::default()
    })
    .await?;
    let function = Arc::new(server.custom("limited", SHELL)?);
    let running = server.call(&function, "sleep 0.5; OUT=1");
    let refused = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server
            .invoker
            .invoke(Arc::clone(&function), invocation("OUT=2"))
            .await
    };
    let (running, refused) = tokio::join!(running, refused);
    assert!(!running?.failed);
    let Err(InvokeError::TooManyRequests { reason }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(reason.as_str(), "ConcurrentInvocationLimitExceeded");
    assert!(!server.call(&function, "OUT=3").await?.failed);
    server.stop().await;
    Ok(())
}

async fn idle_environments_end_after_a_while() -> Verdict {
    let server = Server::with(Config {
        idle_timeout_s: 1,
        ..Config::default()
    })
    .await?;
    let function = Arc::new(server.custom("idle", SHELL)?);
    server.call(&function, "OUT=1").await?;
    server.settle(&[EnvironmentState::Frozen]).await?;
    server.settle(&[]).await?;
    server.stop().await;
    Ok(())
}

async fn memory_of_idle_functions_is_taken_for_others() -> Verdict {
    let config = Config {
        memory_budget_mb: 200,
        ..Config::default()
    };
    let server = Server::with(config).await?;
    let (f, g) = (
        Arc::new(server.custom("f", SHELL)?),
        Arc::new(server.custom("g", SHELL)?),
    );
    for _ in 0..2 {
        assert_eq!(server.call(&f, "OUT=f").await?.payload, "f");
        assert_eq!(server.call(&g, "OUT=g").await?.payload, "g");
        let environments = server.invoker.environments();
        let alive = environments
            .iter()
            .filter(|e| e.state != EnvironmentState::Ending)
            .count();
        assert_eq!(alive, 1, "{environments:?}");
    }
    server.stop().await;
    Ok(())
}

async fn caller_that_goes_away_does_not_stop_the_function() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("detached", SHELL)?);
    server.call(&function, "OUT=warm").await?;
    server.settle(&[EnvironmentState::Frozen]).await?;
    let call = server.call(&function, "sleep 0.5; echo still here");
    assert!(
        tokio::time::timeout(Duration::from_millis(100), call)
            .await
            .is_err()
    );
    let deadline = Instant::now() + Duration::from_secs(5);
    while !server.log().iter().any(|line| line == "still here\n") {
        assert!(Instant::now() < deadline, "{:?}", server.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.settle(&[EnvironmentState::Frozen]).await?;
    let ends = server
        .log()
        .iter()
        .filter(|line| line.starts_with("REPORT "))
        .count();
    assert_eq!(ends, 2);
    server.stop().await;
    Ok(())
}

async fn retired_function_loses_its_idle_environment() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("retired", SHELL)?);
    server.call(&function, "OUT=1").await?;
    server.settle(&[EnvironmentState::Frozen]).await?;
    let busy = server.call(&function, "sleep 0.3; OUT=2");
    let retire = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.invoker.retire(&function.key());
    };
    let (answer, ()) = tokio::join!(busy, retire);
    assert_eq!(answer?.payload, "2", "a busy one finishes first");
    server.settle(&[]).await?;
    server.stop().await;
    Ok(())
}

async fn prepared_environment_is_there_for_the_first_invocation() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("prepared", SHELL)?);
    server.invoker.prepare(Arc::clone(&function));
    server.settle(&[EnvironmentState::Frozen]).await?;
    let answer = server.call(&function, "OUT=1").await?;
    assert!(answer.report.init_duration.is_some());
    assert_eq!(server.invoker.environments().len(), 1);
    server.stop().await;
    Ok(())
}

async fn streamed_response_arrives_chunk_by_chunk() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("stream", SHELL)?);
    let send = "(echo first; sleep 0.3; echo second) | curl -sS -X POST -T - \
        -H 'Lambda-Runtime-Function-Response-Mode: streaming' -H 'Content-Type: text/plain' \
        \"$API/invocation/$ID/response\"";
    let call = Invocation {
        mode: Mode::Streaming,
        ..invocation(send)
    };
    let outcome = server.invoker.invoke(Arc::clone(&function), call).await?;
    assert_eq!(outcome.content_type.as_deref(), Some("text/plain"));
    let Payload::Stream(mut stream) = outcome.payload else {
        panic!("no stream")
    };
    let (mut chunks, mut times) = (Vec::new(), Vec::new());
    let end = loop {
        match stream.next().await {
            Some(StreamItem::Chunk(chunk)) => {
                chunks.push(chunk);
                times.push(Instant::now());
            }
            Some(StreamItem::End(end)) => break end,
            None => panic!("no end"),
        }
    };
    assert_eq!(chunks, ["first\n", "second\n"]);
    assert!(
        times[1] - times[0] > Duration::from_millis(200),
        "forwarded at once"
    );
    assert!(end.error.is_none());
    let tail = String::from_utf8_lossy(end.log_tail.as_deref().unwrap_or_default()).into_owned();
    assert!(
        tail.contains(&format!("END RequestId: {REQUEST_ID}")),
        "{tail}"
    );
    let whole = server.call(&function, send).await?;
    assert_eq!(
        whole.payload, "first\nsecond\n",
        "buffered for those who want it whole"
    );
    server.stop().await;
    Ok(())
}

async fn shutdown_waits_for_running_invocations() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("draining", SHELL)?);
    server.call(&function, "OUT=warm").await?;
    server.settle(&[EnvironmentState::Frozen]).await?;
    let running = server.call(&function, "sleep 0.5; OUT=done");
    let stop = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.invoker.shutdown().await;
    };
    let (answer, ()) = tokio::join!(running, stop);
    assert_eq!(answer?.payload, "done");
    assert!(server.invoker.environments().is_empty());
    let refused = server.invoker.invoke(function, invocation("OUT=1")).await;
    assert!(
        matches!(refused, Err(InvokeError::ShuttingDown)),
        "{refused:?}"
    );
    server.stop().await;
    Ok(())
}
