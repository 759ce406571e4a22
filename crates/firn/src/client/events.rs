//! Answers that come while the function writes them.

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use model::event_stream::{Decoder, Event};
use model::{Operation, OperationInput};

use super::{Client, Upload, refused, signature};

/// The events of an answer.
#[derive(Debug)]
pub struct Events {
    body: UnsyncBoxBody<Bytes, anyhow::Error>,
    decoder: Decoder,
}

impl Client {
    /// Calls an operation that answers with a stream of events. Refusals are errors, as for
    /// [`Client::call`].
    pub async fn stream<I: OperationInput>(&self, input: &I) -> Result<Events> {
        let (mut parts, body) = I::Operation::encode_input(input).into_parts();
        parts.uri = self.absolute(&parts.uri)?;
        let service = I::Operation::SERVICE.signing_name;
        signature::sign(&mut parts, &body, service, &self.settings, self.clock.now())?;
        let request = Request::from_parts(parts, Upload::new(body, None));
        let http: &Http<HttpConnector, Upload> = &self.http;
        let response = http.request(request).await;
        let (parts, body) = response.map_err(|err| self.no_answer(&err))?.into_parts();
        if parts.status.is_success() {
            let decoder = Decoder::default();
            let body = body.map_err(anyhow::Error::from).boxed_unsync();
            return Ok(Events { body, decoder });
        }
        let body = body.collect().await.context("the answer broke off")?;
        match I::Operation::decode_output(&parts, body.to_bytes()) {
            Ok(_) => Err(anyhow!("the server refused without saying why")),
            Err(error) => Err(refused(&parts, error).into()),
        }
    }
}

impl Events {
    /// The next event that is known; `None` at the end.
    pub async fn next<E: Event>(&mut self) -> Result<Option<E>> {
        loop {
            let message = self.decoder.next().context("the answer is damaged")?;
            if let Some(message) = message {
                let event = E::from_message(&message).context("an event cannot be read")?;
                if event.is_some() {
                    return Ok(event);
                }
                continue;
            }
            match self.body.frame().await {
                Some(frame) => {
                    let frame = frame.context("the answer broke off")?;
                    self.decoder.push(frame.data_ref().unwrap_or(&Bytes::new()));
                }
                None if self.decoder.is_empty() => return Ok(None),
                None => return Err(anyhow!("the answer broke off")),
            }
        }
    }
}
