//! Provisioned environments: made ahead, kept, replaced, and left when there are too few.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use invoker::{
    Config, EnvironmentState, Function, ProvisionedStatus, Share, SnapStart, SnapStartMode,
};

use crate::harness::{SHELL, Server, Verdict};

crate::tests![
    step_load_up_to_the_count_has_no_cold_start,
    closed_loop_at_the_count_never_spills_over,
    load_beyond_the_count_spills_over,
    kept_environments_outlive_idle_time_and_the_memory_pressure_of_others,
    environment_that_dies_is_replaced,
    init_that_fails_is_told,
    number_follows_what_is_wanted,
    restored_environments_are_kept_like_others,
];

/// Tells how its environment was initialised.
const TYPE: &str = "OUT=$AWS_LAMBDA_INITIALIZATION_TYPE";
const PROVISIONED: &str = "provisioned-concurrency";

fn provide(server: &Server, function: &Arc<Function>, wanted: u32) {
    let place = (&*function.arn, &*function.account, &*function.region);
    let share = Share {
        function: Arc::clone(function),
        wanted,
        counted: true,
    };
    server.invoker.set_capacity(place, None, &[share]);
}

fn version(function: Function) -> Arc<Function> {
    Arc::new(Function {
        version: "1".into(),
        ..function
    })
}

async fn provided(server: &Server, function: &Arc<Function>, wanted: u32) -> anyhow::Result<()> {
    provide(server, function, wanted);
    let ready = server.invoker.provisioned_ready(function);
    let ready = tokio::time::timeout(Duration::from_secs(30), ready).await?;
    anyhow::ensure!(ready, "none are wanted");
    Ok(())
}

fn status(server: &Server, function: &Function) -> ProvisionedStatus {
    server.invoker.provisioned(function).unwrap_or_default()
}

async fn until(server: &Server, function: &Function, done: impl Fn(&ProvisionedStatus) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let now = status(server, function);
        if done(&now) {
            return;
        }
        assert!(Instant::now() < deadline, "{now:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn starts(server: &Server) -> usize {
    let log = server.log();
    log.iter()
        .filter(|line| line.starts_with("INIT_START"))
        .count()
}

async fn step_load_up_to_the_count_has_no_cold_start() -> Verdict {
    let server = Server::start().await?;
    let function = version(server.custom("step", SHELL)?);
    provided(&server, &function, 4).await?;
    assert_eq!(
        (starts(&server), status(&server, &function).allocated),
        (4, 4)
    );
    server.settle(&[EnvironmentState::Frozen; 4]).await?;
    for _ in 0..2 {
        let calls = (0..4)
            .map(|_| server.call(&function, "sleep 0.3; OUT=$AWS_LAMBDA_INITIALIZATION_TYPE"));
        for answer in join_all(calls).await {
            let answer = answer?;
            assert_eq!(answer.payload, PROVISIONED);
            assert_eq!(answer.report.init_duration, None);
            assert!(!answer.tail.contains("Init Duration"), "{}", answer.tail);
        }
    }
    assert_eq!(starts(&server), 4);
    let status = status(&server, &function);
    assert_eq!(
        (status.invocations, status.spillovers, status.running),
        (8, 0, 0)
    );
    server.stop().await;
    Ok(())
}

async fn closed_loop_at_the_count_never_spills_over() -> Verdict {
    let server = Server::start().await?;
    let function = version(server.python(
        "loop",
        "import os\ndef handler(event, context): return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\n",
    )?);
    provided(&server, &function, 4).await?;
    let clients = (0..4).map(|_| async {
        for _ in 0..100 {
            let answer = server.call(&function, "1").await?;
            assert_eq!(answer.payload, format!("\"{PROVISIONED}\""));
        }
        anyhow::Ok(())
    });
    for client in join_all(clients).await {
        client?;
    }
    assert_eq!(status(&server, &function).spillovers, 0);
    assert_eq!(starts(&server), 4);
    server.stop().await;
    Ok(())
}

async fn load_beyond_the_count_spills_over() -> Verdict {
    let server = Server::start().await?;
    let function = version(server.custom("spill", SHELL)?);
    provided(&server, &function, 1).await?;
    let calls =
        (0..3).map(|_| server.call(&function, "sleep 0.5; OUT=$AWS_LAMBDA_INITIALIZATION_TYPE"));
    let mut types = Vec::new();
    for answer in join_all(calls).await {
        types.push(answer?.payload);
    }
    types.sort();
    assert_eq!(types, ["on-demand", "on-demand", PROVISIONED]);
    let status = status(&server, &function);
    assert_eq!((status.invocations, status.spillovers), (1, 2));
    server.stop().await;
    Ok(())
}

async fn kept_environments_outlive_idle_time_and_the_memory_pressure_of_others() -> Verdict {
    let config = Config {
        idle_timeout_s: 1,
        memory_budget_mb: 400,
        ..Config::default()
    };
    let server = Server::with(config).await?;
    let function = version(server.custom("kept", SHELL)?);
    provided(&server, &function, 2).await?;
    let (f, g) = (
        Arc::new(server.custom("f", SHELL)?),
        Arc::new(server.custom("g", SHELL)?),
    );
    // There is room for one of them beside the two that are kept.
    for other in [&f, &g, &f] {
        assert!(!server.call(other, TYPE).await?.failed);
    }
    // Until the idle time of the last one is over.
    server.settle(&[EnvironmentState::Frozen; 2]).await?;
    assert_eq!(status(&server, &function).allocated, 2);
    assert_eq!(server.call(&function, TYPE).await?.payload, PROVISIONED);
    server.stop().await;
    Ok(())
}

async fn environment_that_dies_is_replaced() -> Verdict {
    let server = Server::start().await?;
    let function = version(server.custom("mortal", SHELL)?);
    provided(&server, &function, 1).await?;
    assert!(server.call(&function, "exit 3").await?.failed);
    // That it died is noticed after the answer.
    until(&server, &function, |_| starts(&server) == 2).await;
    until(&server, &function, |now| now.is_ready() && now.running == 0).await;
    assert_eq!(server.call(&function, TYPE).await?.payload, PROVISIONED);
    // One that dies while nobody looks is replaced, too.
    server
        .call(&function, "(sleep 0.1; kill -9 $$) & OUT=1")
        .await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while starts(&server) < 3 {
        // Only while it is not frozen does it get to that.
        let _ = server.call(&function, "sleep 0.05; OUT=1").await;
        assert!(Instant::now() < deadline, "{:?}", server.log());
    }
    until(&server, &function, ProvisionedStatus::is_ready).await;
    server.stop().await;
    Ok(())
}

async fn init_that_fails_is_told() -> Verdict {
    let server = Server::start().await?;
    let function = version(server.custom("broken", "#!/bin/sh\nexit 1\n")?);
    provide(&server, &function, 2);
    until(&server, &function, |now| now.failure.is_some()).await;
    let found = status(&server, &function);
    assert_eq!(
        found.failure.as_deref(),
        Some("FUNCTION_ERROR_INIT_FAILURE")
    );
    assert_eq!(found.allocated, 0);
    // Mended, and asked for anew, they come at once.
    crate::harness::write_executable(&function.code_dir.join("bootstrap"), SHELL)?;
    provided(&server, &function, 2).await?;
    assert_eq!(status(&server, &function).failure, None);
    server.stop().await;
    Ok(())
}

async fn number_follows_what_is_wanted() -> Verdict {
    let server = Server::start().await?;
    let function = version(server.custom("sized", SHELL)?);
    provided(&server, &function, 3).await?;
    let running = server.call(&function, "sleep 0.5; OUT=1");
    let shrink = async {
        until(&server, &function, |now| now.running == 1).await;
        provide(&server, &function, 1);
        until(&server, &function, |now| now.allocated == 1).await;
        assert_eq!(status(&server, &function).running, 1, "the busy one stays");
        provide(&server, &function, 0);
        assert!(!server.invoker.provisioned_ready(&function).await);
        assert_eq!(server.call(&function, TYPE).await?.payload, "on-demand");
        anyhow::Ok(())
    };
    let (running, shrunk) = tokio::join!(running, shrink);
    shrunk?;
    assert!(!running?.failed, "what runs is not disturbed");
    server.settle(&[EnvironmentState::Frozen]).await?;
    server.stop().await;
    Ok(())
}

async fn restored_environments_are_kept_like_others() -> Verdict {
    let server = Server::with_images(Config {
        idle_timeout_s: 1,
        snapstart: SnapStart {
            mode: SnapStartMode::Eager,
            parked_per_function: 0,
            ..SnapStart::default()
        },
        ..Config::default()
    })
    .await?;
    let function = version(server.python(
        "thawed",
        "import os, uuid\nTOKEN = str(uuid.uuid4())\ndef handler(event, context): return TOKEN\n",
    )?);
    server.invoker.snapshot(Arc::clone(&function)).await?;
    provided(&server, &function, 3).await?;
    let calls = (0..3).map(|_| server.call(&function, "1"));
    let mut tokens = Vec::new();
    for answer in join_all(calls).await {
        let answer = answer?;
        assert_eq!(
            answer.report.restore_duration, None,
            "it was restored before"
        );
        tokens.push(answer.payload);
    }
    tokens.dedup();
    assert_eq!(tokens.len(), 1, "all of one image");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.settle(&[EnvironmentState::Frozen; 3]).await?;
    assert_eq!(status(&server, &function).spillovers, 0);
    server.stop().await;
    Ok(())
}
