//! Managed runtimes with firn's own clients, where the host has an interpreter.

use std::sync::Arc;
use std::time::Instant;

use invoker::Invocation;

use crate::harness::{REQUEST_ID, Server, Verdict, invocation, write_executable};

crate::tests![
    python_handler_answers_and_logs,
    python_error_in_the_module_is_the_answer,
    wrapper_that_does_not_exist_exits_with_127,
    wrapper_runs_in_front_of_the_runtime,
    warm_invocations_are_quick,
    thousand_concurrent_invocations_finish_without_an_error,
];

const HANDLER: &str = "
import logging
def handler(event, context):
    print('printed')
    logging.getLogger().error('two\\nlines')
    return {'event': event, 'id': context.aws_request_id}
";

async fn python_handler_answers_and_logs() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.python("python", HANDLER)?);
    let answer = server.call(&function, "{\"k\": 1}").await?;
    assert_eq!(
        answer.payload,
        format!("{{\"event\": {{\"k\": 1}}, \"id\": \"{REQUEST_ID}\"}}"),
        "{}",
        answer.tail
    );
    assert!(answer.tail.contains("printed\n"), "{}", answer.tail);
    let whole = server
        .log()
        .into_iter()
        .find(|event| event.contains("two\nlines"));
    assert!(
        whole.is_some_and(|event| event.contains(REQUEST_ID)),
        "{:?}",
        server.log()
    );
    server.stop().await;
    Ok(())
}

async fn python_error_in_the_module_is_the_answer() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(server.python("module", "raise Exception('Runtime startup fails')")?);
    let answer = server.call(&function, "{}").await?;
    assert!(answer.failed);
    let error: serde_json::Value = serde_json::from_str(&answer.payload)?;
    assert_eq!(error["errorMessage"], "Runtime startup fails");
    assert_eq!(error["errorType"], "Exception");
    assert_eq!(error["requestId"], "");
    let log = server.log();
    let reports = log
        .iter()
        .filter(|line| line.starts_with("INIT_REPORT "))
        .count();
    assert_eq!(reports, 2, "{log:?}");
    server.stop().await;
    Ok(())
}

async fn wrapper_that_does_not_exist_exits_with_127() -> Verdict {
    let server = Server::start().await?;
    let mut function = server.python("unwrapped", HANDLER)?;
    function
        .environment
        .insert("AWS_LAMBDA_EXEC_WRAPPER".into(), "/idontexist.sh".into());
    let answer = server.call(&Arc::new(function), "{}").await?;
    assert_eq!(
        answer.payload,
        format!(
            "{{\"errorType\":\"Runtime.ExitError\",\"errorMessage\":\"RequestId: {REQUEST_ID} \
             Error: Runtime exited with error: exit status 127\"}}"
        )
    );
    assert!(
        server
            .log()
            .contains(&"/idontexist.sh: does not exist\n".to_owned())
    );
    server.stop().await;
    Ok(())
}

async fn wrapper_runs_in_front_of_the_runtime() -> Verdict {
    let server = Server::start().await?;
    let code = "import os\ndef handler(event, context):\n    return os.environ['FROM_WRAPPER']\n";
    let mut function = server.python("wrapped", code)?;
    let script = "#!/bin/sh\nexport FROM_WRAPPER=yes\nexec \"$@\"\n";
    write_executable(&function.code_dir.join("wrapper"), script)?;
    function
        .environment
        .insert("AWS_LAMBDA_EXEC_WRAPPER".into(), "/var/task/wrapper".into());
    assert_eq!(
        server.call(&Arc::new(function), "{}").await?.payload,
        "\"yes\""
    );
    server.stop().await;
    Ok(())
}

/// Prints what a warm invocation takes; the bound is loose, because the machine is shared.
async fn warm_invocations_are_quick() -> Verdict {
    let server = Server::start().await?;
    let code = "def handler(event, context):\n    return event\n";
    let function = Arc::new(server.python("noop", code)?);
    server.call(&function, "{}").await?;
    let mut times = Vec::new();
    for _ in 0..500 {
        let mut call = invocation("{}");
        call.want_tail = false;
        let began = Instant::now();
        server.call_as(&function, call).await?;
        times.push(began.elapsed());
    }
    times.sort();
    println!(
        "    warm invocation: p50 {:?}, p99 {:?}",
        times[250], times[495]
    );
    assert_eq!(server.streams().len(), 1, "one environment served them all");
    assert!(times[250].as_millis() < 20, "{:?}", times[250]);
    server.stop().await;
    Ok(())
}

async fn thousand_concurrent_invocations_finish_without_an_error() -> Verdict {
    let server = Server::start().await?;
    let code =
        "import time\ndef handler(event, context):\n    time.sleep(0.05)\n    return event\n";
    let function = Arc::new(server.python("thousand", code)?);
    let began = Instant::now();
    let calls = (0..1000).map(|n| {
        let call = Invocation {
            want_tail: false,
            ..invocation(&n.to_string())
        };
        server.call_as(&function, call)
    });
    for (n, answer) in futures_util::future::join_all(calls)
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(answer?.payload, n.to_string());
    }
    println!(
        "    1,000 invocations of 50 ms: {:?} on {} environments",
        began.elapsed(),
        server.streams().len()
    );
    server.stop().await;
    Ok(())
}
