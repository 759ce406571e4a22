//! Functions that time out, exit, crash, eat memory or never come up.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{REQUEST_ID, SHELL, Server, Verdict, masked};

crate::tests![
    timeout_ends_the_environment,
    handler_that_ignores_sigterm_times_out_too,
    exit_is_reported_with_its_status,
    out_of_memory_is_told_from_other_kills,
    failed_init_is_repeated_within_the_invocation,
    slow_init_times_out_and_is_repeated_with_the_functions_timeout,
    package_without_bootstrap_has_no_entry_point,
    bootstrap_that_is_no_program_has_no_entry_point,
    runtime_that_exits_between_invocations_is_replaced,
];

async fn timeout_ends_the_environment() -> Verdict {
    let server = Server::start().await?;
    let mut function = server.custom("timeout", SHELL)?;
    function.timeout = Duration::from_secs(1);
    let function = Arc::new(function);
    let answer = server.call(&function, "echo before; sleep 30").await?;
    assert!(answer.failed);
    assert_eq!(
        answer.payload,
        format!(
            "{{\"errorType\":\"Sandbox.Timedout\",\"errorMessage\":\"RequestId: {REQUEST_ID} \
             Error: Task timed out after 1.00 seconds\"}}"
        )
    );
    let tail: Vec<&str> = answer.tail.lines().collect();
    assert_eq!(tail[1], "before");
    assert!(
        tail[2].ends_with(&format!("Z {REQUEST_ID} Task timed out after 1.00 seconds")),
        "{tail:?}"
    );
    assert!(
        answer.tail.contains("Duration: 1000.00 ms\t"),
        "{}",
        answer.tail
    );
    assert!(
        answer.tail.ends_with("\tStatus: timeout\n"),
        "{}",
        answer.tail
    );
    server.settle(&[]).await?;
    assert_eq!(server.call(&function, "OUT=new").await?.payload, "new");
    server.stop().await;
    Ok(())
}

async fn handler_that_ignores_sigterm_times_out_too() -> Verdict {
    let server = Server::start().await?;
    let mut function = server.custom("stubborn", SHELL)?;
    function.timeout = Duration::from_secs(1);
    let answer = server
        .call(
            &Arc::new(function),
            "trap '' TERM INT HUP; while true; do :; done",
        )
        .await?;
    assert!(
        answer.payload.contains("Sandbox.Timedout"),
        "{}",
        answer.payload
    );
    server.settle(&[]).await?;
    server.stop().await;
    Ok(())
}

async fn exit_is_reported_with_its_status() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("exit", SHELL)?);
    for (command, message) in [
        ("exit 3", "Runtime exited with error: exit status 3"),
        ("exit 0", "Runtime exited without providing a reason"),
        ("kill -9 $$", "Runtime exited with error: signal: killed"),
        (
            "kill -11 $$",
            "Runtime exited with error: signal: segmentation fault",
        ),
    ] {
        let answer = server.call(&function, command).await?;
        assert_eq!(
            answer.payload,
            format!(
                "{{\"errorType\":\"Runtime.ExitError\",\"errorMessage\":\"RequestId: {REQUEST_ID} \
                 Error: {message}\"}}"
            )
        );
        let expected = format!(
            "START RequestId: {REQUEST_ID} Version: $LATEST\n\
             RequestId: {REQUEST_ID} Error: {message}\nRuntime.ExitError\n\
             END RequestId: {REQUEST_ID}\n"
        );
        assert!(answer.tail.starts_with(&expected), "{}", answer.tail);
        assert!(
            answer
                .tail
                .ends_with("\tStatus: error\tError Type: Runtime.ExitError\n")
        );
    }
    server.stop().await;
    Ok(())
}

async fn out_of_memory_is_told_from_other_kills() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("oom", SHELL)?);
    let answer = server.call(&function, "exec tail /dev/zero").await?;
    assert_eq!(
        answer.payload,
        format!(
            "{{\"errorType\":\"Runtime.OutOfMemory\",\"errorMessage\":\"RequestId: {REQUEST_ID} \
             Error: Runtime exited with error: signal: killed\"}}"
        )
    );
    assert!(
        answer.tail.contains("Max Memory Used: 128 MB"),
        "{}",
        answer.tail
    );
    assert!(
        answer
            .tail
            .ends_with("\tStatus: error\tError Type: Runtime.OutOfMemory\n")
    );
    server.stop().await;
    Ok(())
}

async fn failed_init_is_repeated_within_the_invocation() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.custom("broken", "#!/bin/sh\necho trying\nexit 1\n")?);
    let answer = server.call(&function, "{}").await?;
    assert!(answer.failed);
    assert!(
        answer
            .payload
            .contains("Error: Runtime exited with error: exit status 1")
    );
    let log: Vec<String> = server.log().iter().map(|line| masked(line)).collect();
    let init_report = |phase| {
        format!(
            "INIT_REPORT Init Duration: # ms\tPhase: {phase}\tStatus: error\t\
             Error Type: Runtime.ExitError\n"
        )
    };
    assert_eq!(
        log[1..5],
        [
            "trying\n".into(),
            init_report("init"),
            "trying\n".into(),
            init_report("invoke")
        ]
    );
    assert_eq!(
        log[5],
        format!("START RequestId: {REQUEST_ID} Version: $LATEST\n")
    );
    assert!(log[8].starts_with("REPORT "), "{log:?}");
    assert_eq!(server.streams().len(), 1);
    server.settle(&[]).await?;
    server.stop().await;
    Ok(())
}

async fn slow_init_times_out_and_is_repeated_with_the_functions_timeout() -> Verdict {
    let config = invoker::Config {
        init_timeout_ms: 200,
        ..invoker::Config::default()
    };
    let server = Server::with(config).await?;
    let slow = SHELL.replace("echo \"init done\"", "sleep 1");
    let function = Arc::new(server.custom("slow", &slow)?);
    let answer = server.call(&function, "OUT=late").await?;
    assert_eq!(answer.payload, "late");
    assert!(
        answer.report.duration > Duration::from_secs(1),
        "the second init counts"
    );
    assert_eq!(
        server.log()[1],
        "INIT_REPORT Init Duration: 200.00 ms\tPhase: init\tStatus: timeout\n"
    );
    server.stop().await;
    Ok(())
}

async fn package_without_bootstrap_has_no_entry_point() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.function("empty", "provided.al2023")?);
    let answer = server.call(&function, "{}").await?;
    assert_eq!(
        answer.payload,
        format!(
            "{{\"errorType\":\"Runtime.InvalidEntrypoint\",\"errorMessage\":\"RequestId: {REQUEST_ID} \
             Error: Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]\"}}"
        )
    );
    server.stop().await;
    Ok(())
}

async fn bootstrap_that_is_no_program_has_no_entry_point() -> Verdict {
    let server = Server::start().await?;
    let function = server.custom("text", "this is not a program\n")?;
    let answer = server.call(&Arc::new(function), "{}").await?;
    assert!(
        answer
            .payload
            .contains("fork/exec /var/task/bootstrap: exec format error"),
        "{}",
        answer.payload
    );
    server.stop().await;
    Ok(())
}

async fn runtime_that_exits_between_invocations_is_replaced() -> Verdict {
    let server = Server::start().await?;
    // Ends itself a moment after it has asked for the next event.
    let function = Arc::new(server.custom("quitter", SHELL)?);
    server
        .call(&function, "(sleep 0.001; kill -9 $$) & OUT=1")
        .await?;
    server.settle(&[]).await?;
    assert_eq!(server.call(&function, "OUT=2").await?.payload, "2");
    server.stop().await;
    Ok(())
}
