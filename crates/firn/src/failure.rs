//! What can go wrong for a command, and the exit code of each.

use std::process::ExitCode;

/// A failure with an exit code of its own. Commands return `anyhow::Error`; anything that is not
/// one of these is a local failure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The function ran and answered with an error, or the execution ended in one.
    #[error("{0}")]
    Function(String),
    /// The command line or an input makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The service refused.
    #[error("{message} ({code}, HTTP {status}, request {request_id})")]
    Service {
        code: String,
        message: String,
        status: u16,
        request_id: String,
    },
    /// Nobody answers at the endpoint.
    #[error("cannot connect to {endpoint}: is `firn serve` running? ({reason})")]
    Connect { endpoint: String, reason: String },
    /// The far end of standard output is gone, as with `firn logs -f | head`.
    #[error("standard output is closed")]
    Closed,
}

/// A usage error as `anyhow::Error`.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    Failure::Usage(message.into()).into()
}

/// The code of a service error, if it is one.
pub fn service_code(err: &anyhow::Error) -> Option<&str> {
    match err.downcast_ref() {
        Some(Failure::Service { code, .. }) => Some(code),
        _ => None,
    }
}

/// Prints the error for a human (or as JSON) and says what to exit with.
pub fn report(err: &anyhow::Error, json: bool) -> ExitCode {
    let code = match err.downcast_ref() {
        Some(Failure::Closed) => return ExitCode::SUCCESS,
        Some(Failure::Function(_)) => 1,
        Some(Failure::Usage(_)) => 2,
        Some(Failure::Service { .. }) => 3,
        Some(Failure::Connect { .. }) => 4,
        None => 5,
    };
    if json {
        let mut object = serde_json::json!({ "error": format!("{err:#}"), "exitCode": code });
        if let Some(Failure::Service {
            code,
            message,
            status,
            request_id,
        }) = err.downcast_ref()
        {
            object["code"] = code.as_str().into();
            object["message"] = message.as_str().into();
            object["status"] = (*status).into();
            object["requestId"] = request_id.as_str().into();
        }
        eprintln!("{object}");
    } else {
        let style = crate::output::Style::stderr();
        eprintln!("{} {err:#}", style.error("error:"));
    }
    ExitCode::from(code)
}
