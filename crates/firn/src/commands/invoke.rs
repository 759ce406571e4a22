//! `firn invoke`: calls a function. The answer goes to standard output, the log to standard error.

mod stream;

use std::io::{IsTerminal, Read};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use model::Blob;
use model::lambda::{
    InvocationType, InvokeInput, InvokeOutput, InvokeWithResponseStreamInput, LogType,
};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::client::Client;
use crate::failure::{Failure, usage};
use crate::output::{self, Style};

/// Flags of `firn invoke`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The function: a name, name:qualifier or an ARN
    name: String,
    /// The event: JSON, @FILE, or - for standard input [default: {}]
    #[arg(short, long)]
    payload: Option<String>,
    /// A version or an alias
    #[arg(long)]
    qualifier: Option<String>,
    /// Print the end of the function's log on standard error
    #[arg(short, long)]
    tail: bool,
    /// JSON that the function reads from context.client_context
    #[arg(long, value_name = "JSON")]
    client_context: Option<String>,
    /// Do not wait: have the server take the event and run it later, with retries. Prints the id
    /// under which it runs
    #[arg(short, long, conflicts_with_all = ["tail", "client_context", "raw"])]
    event: bool,
    /// Print the answer exactly as it came, without formatting or final newline
    #[arg(long)]
    raw: bool,
    /// Print the answer while the function writes it
    #[arg(short, long, conflicts_with_all = ["event", "raw"])]
    stream: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<()> {
    let client = Client::new(global)?;
    if args.event {
        return event(&client, args, global).await;
    }
    if args.stream {
        if global.json {
            return Err(usage(
                "--stream passes bytes on as they come, so it has no --json",
            ));
        }
        let input = InvokeWithResponseStreamInput {
            function_name: args.name,
            log_type: args.tail.then_some(LogType::Tail),
            client_context: args.client_context.map(|context| STANDARD.encode(context)),
            payload: Some(Blob::from(payload(args.payload.as_deref())?)),
            qualifier: args.qualifier,
            ..InvokeWithResponseStreamInput::default()
        };
        return stream::run(&client, input).await;
    }
    let input = InvokeInput {
        function_name: args.name,
        log_type: (args.tail || global.json).then_some(LogType::Tail),
        client_context: args.client_context.map(|context| STANDARD.encode(context)),
        payload: Some(Blob::from(payload(args.payload.as_deref())?)),
        qualifier: args.qualifier,
        ..InvokeInput::default()
    };
    let output = client.call(&input).await?.output;
    let payload = match &output.payload {
        Some(payload) => payload
            .decode()
            .context("the answer's payload cannot be read")?,
        None => Bytes::new(),
    };
    if global.json {
        output::json(&as_json(&output, &payload))?;
    } else {
        if args.tail {
            eprint!("{}", Style::stderr().faint(&log_of(&output)));
        }
        print_payload(&payload, args.raw)?;
    }
    match &output.function_error {
        Some(kind) => Err(Failure::Function(error_message(kind, &payload)).into()),
        None => Ok(()),
    }
}

async fn event(client: &Client, args: Args, global: &Global) -> Result<()> {
    let input = InvokeInput {
        function_name: args.name,
        invocation_type: Some(InvocationType::Event),
        payload: Some(Blob::from(payload(args.payload.as_deref())?)),
        qualifier: args.qualifier,
        ..InvokeInput::default()
    };
    let reply = client.call(&input).await?;
    let id = reply.request_id.as_deref().unwrap_or("-");
    if global.json {
        return output::json(&json!({
            "StatusCode": reply.output.status_code,
            "RequestId": id,
        }));
    }
    output::line(id)
}

fn log_of(output: &InvokeOutput) -> String {
    let encoded = output.log_result.as_deref().unwrap_or_default();
    let log = STANDARD.decode(encoded).unwrap_or_default();
    String::from_utf8_lossy(&log).into_owned()
}

/// JSON from the command line, from `@FILE`, or from standard input for `-`; `{}` if it is absent.
pub fn payload(argument: Option<&str>) -> Result<Bytes> {
    let data = match argument {
        None => return Ok(Bytes::from_static(b"{}")),
        Some("-") => {
            let mut data = Vec::new();
            std::io::stdin()
                .read_to_end(&mut data)
                .context("cannot read standard input")?;
            data
        }
        Some(text) => match text.strip_prefix('@') {
            Some(path) => std::fs::read(path)
                .map_err(|err| usage(format!("cannot read the payload from {path}: {err}")))?,
            None => text.as_bytes().to_vec(),
        },
    };
    if let Err(err) = serde_json::from_slice::<serde::de::IgnoredAny>(&data) {
        return Err(usage(format!("the payload is not JSON: {err}")));
    }
    Ok(Bytes::from(data))
}

fn print_payload(payload: &[u8], raw: bool) -> Result<()> {
    if raw {
        return output::bytes(payload);
    }
    // Indentation is for eyes; a pipe gets the bytes of the function.
    if std::io::stdout().is_terminal()
        && let Ok(value) = serde_json::from_slice::<Value>(payload)
    {
        return output::json(&value);
    }
    output::bytes(payload)?;
    if payload.ends_with(b"\n") {
        Ok(())
    } else {
        output::line("")
    }
}

fn as_json(output: &InvokeOutput, payload: &[u8]) -> Value {
    let payload = serde_json::from_slice(payload)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(payload).into_owned()));
    json!({
        "StatusCode": output.status_code,
        "ExecutedVersion": output.executed_version,
        "FunctionError": output.function_error,
        "LogResult": log_of(output),
        "Payload": payload,
    })
}

/// `the function failed (Unhandled): ValueError: no such colour`.
fn error_message(kind: &str, payload: &[u8]) -> String {
    let value: Value = serde_json::from_slice(payload).unwrap_or_default();
    let member = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .filter(|s| !s.is_empty())
    };
    let what = match (member("errorType"), member("errorMessage")) {
        (Some(error), Some(message)) => format!("{error}: {message}"),
        (None, Some(text)) | (Some(text), None) => text.to_owned(),
        (None, None) => "see its answer".to_owned(),
    };
    format!("the function failed ({kind}): {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_defaults_to_an_empty_object() {
        assert_eq!(payload(None).unwrap(), "{}");
    }

    #[test]
    fn payload_is_read_from_a_file_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("event.json");
        std::fs::write(&path, "{\"a\": 1}").unwrap();
        assert_eq!(
            payload(Some(&format!("@{}", path.display()))).unwrap(),
            "{\"a\": 1}"
        );
        assert!(
            payload(Some("{a: 1}"))
                .unwrap_err()
                .to_string()
                .contains("is not JSON")
        );
        assert!(payload(Some("@/no/such/file")).is_err());
    }

    #[test]
    fn function_error_is_told_with_type_and_message() {
        let body = br#"{"errorMessage":"no such colour","errorType":"ValueError"}"#;
        assert_eq!(
            error_message("Unhandled", body),
            "the function failed (Unhandled): ValueError: no such colour"
        );
        let timeout =
            br#"{"errorMessage":"RequestId: x Error: Task timed out after 3.00 seconds"}"#;
        assert!(error_message("Unhandled", timeout).ends_with("Task timed out after 3.00 seconds"));
        assert!(error_message("Unhandled", b"junk").ends_with("see its answer"));
    }
}
