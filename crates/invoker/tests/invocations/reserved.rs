//! Reserved concurrency and throttles, with real environments.

use std::sync::Arc;

use invoker::{Config, Function, InvokeError, ThrottleReason};

use crate::harness::{SHELL, Server, Verdict, invocation};

crate::tests![
    reserved_concurrency_changes_while_invocations_run,
    burst_beyond_the_scaling_rate_is_refused,
];

const RESERVED: ThrottleReason = ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded;

fn reserve(server: &Server, function: &Function, reserved: Option<u32>) {
    let (arn, account, region) = (&function.arn, &function.account, &function.region);
    server
        .invoker
        .set_capacity((arn, account, region), reserved, &[]);
}

async fn refusal(server: &Server, function: &Arc<Function>) -> ThrottleReason {
    let invoked = server
        .invoker
        .invoke(Arc::clone(function), invocation("OUT=1"));
    match invoked.await {
        Err(InvokeError::TooManyRequests { reason }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

async fn reserved_concurrency_changes_while_invocations_run() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("reserved", SHELL)?);
    reserve(&server, &function, Some(1));
    let gate = server.dir().join("reserved/gate");
    std::fs::write(&gate, "")?;
    let running = server.call(
        &function,
        "while [ -e /var/task/gate ]; do sleep 0.02; done; OUT=done",
    );
    let meanwhile = async {
        while server.invoker.capacity().iter().all(|one| one.running == 0) {
            tokio::task::yield_now().await;
        }
        assert_eq!(refusal(&server, &function).await, RESERVED);
        reserve(&server, &function, Some(2));
        assert_eq!(
            server.call(&function, "OUT=raised").await?.payload,
            "raised"
        );
        reserve(&server, &function, Some(0));
        assert_eq!(refusal(&server, &function).await, RESERVED);
        reserve(&server, &function, None);
        assert_eq!(server.call(&function, "OUT=free").await?.payload, "free");
        std::fs::remove_file(&gate)?;
        anyhow::Ok(())
    };
    let (running, meanwhile) = tokio::join!(running, meanwhile);
    meanwhile?;
    assert_eq!(running?.payload, "done");
    server.stop().await;
    Ok(())
}

async fn burst_beyond_the_scaling_rate_is_refused() -> Verdict {
    let server = Server::with(Config {
        environments_per_10_s: 2,
        ..Config::default()
    })
    .await?;
    let function = Arc::new(server.custom("burst", SHELL)?);
    let calls = (0..5).map(|_| {
        let call = invocation("sleep 0.5; OUT=1");
        server.invoker.invoke(Arc::clone(&function), call)
    });
    let (mut served, mut refused) = (0, 0);
    for answer in futures_util::future::join_all(calls).await {
        match answer {
            Ok(_) => served += 1,
            Err(InvokeError::TooManyRequests { reason }) => {
                assert_eq!(reason, ThrottleReason::FunctionInvocationRateLimitExceeded);
                refused += 1;
            }
            Err(other) => return Err(other.into()),
        }
    }
    assert_eq!((served, refused), (2, 3));
    // Those that are there are used at any rate.
    assert_eq!(server.call(&function, "OUT=2").await?.payload, "2");
    server.stop().await;
    Ok(())
}
