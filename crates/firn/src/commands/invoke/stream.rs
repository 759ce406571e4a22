//! `firn invoke --stream`: prints the answer while the function writes it.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::lambda::InvokeWithResponseStreamResponseEvent as Event;
use model::lambda::{InvokeWithResponseStreamCompleteEvent, InvokeWithResponseStreamInput};

use super::error_message;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Style};

/// Calls the function, and passes on what comes.
pub async fn run(client: &Client, input: InvokeWithResponseStreamInput) -> Result<()> {
    let mut events = client.stream(&input).await?;
    while let Some(event) = events.next().await? {
        match event {
            Event::PayloadChunk(chunk) => {
                let payload = chunk.payload.unwrap_or_default();
                let payload = payload.decode().context("a part cannot be read")?;
                output::bytes(&payload)?;
            }
            Event::InvokeComplete(end) => return finish(&end),
        }
    }
    Err(anyhow::anyhow!("the answer broke off"))
}

fn finish(end: &InvokeWithResponseStreamCompleteEvent) -> Result<()> {
    if let Some(log) = &end.log_result {
        let log = STANDARD.decode(log).unwrap_or_default();
        eprint!("{}", Style::stderr().faint(&String::from_utf8_lossy(&log)));
    }
    let Some(code) = &end.error_code else {
        return Ok(());
    };
    let details = end.error_details.as_deref().unwrap_or_default();
    Err(Failure::Function(error_message(code, details.as_bytes())).into())
}
