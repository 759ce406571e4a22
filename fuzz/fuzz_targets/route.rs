//! Paths, methods and targets against a router with both protocols.
#![no_main]

use std::sync::{Arc, LazyLock};

use http::Request;
use libfuzzer_sys::fuzz_target;
use model::lambda::{InvokeInput, InvokeOutput};
use model::logs::{CreateLogGroupInput, CreateLogGroupOutput};
use protocol::{ApiError, Caller, Router, operations};

struct Lambda;
struct Logs;

async fn invoke(_: &Lambda, _: &Caller, _: InvokeInput) -> Result<InvokeOutput, ApiError> {
    Ok(InvokeOutput::default())
}

async fn create_log_group(
    _: &Logs,
    _: &Caller,
    _: CreateLogGroupInput,
) -> Result<CreateLogGroupOutput, ApiError> {
    Ok(CreateLogGroupOutput::default())
}

operations! { Lambda: "Invoke" => invoke }
operations! { Logs: "CreateLogGroup" => create_log_group }

static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    Router::builder()
        .service(Arc::new(Lambda))
        .service(Arc::new(Logs))
        .build()
});

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let mut request = Request::builder()
        .method(line())
        .uri(line())
        .header("host", line());
    let target = line();
    if !target.is_empty() {
        request = request.header("x-amz-target", target);
    }
    let Ok((request, ())) = request.body(()).map(Request::into_parts) else {
        return;
    };
    for service in [None, Some("lambda"), Some("logs"), Some("other")] {
        if let Err(error) = ROUTER.route(&request, service) {
            let _ = ROUTER.reject(&request, &error, "request");
        }
    }
});
