//! A small typed, signed client for the server's own AWS APIs. Commands go through the same door as
//! every other client, so they work against a remote server and with `--auth enforce`.

mod admin;
mod events;
pub mod lambda;
pub mod settings;
mod signature;
pub mod states;
mod upload;
mod urls;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use http_body_util::BodyExt;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use indicatif::ProgressBar;
use model::{AccountId, Operation, OperationInput, WireError};
use serde_json::Value;

use crate::cli::Global;
use crate::failure::Failure;
use settings::Settings;
use upload::Upload;

type Output<I> = <<I as OperationInput>::Operation as Operation>::Output;

/// A connection pool with an endpoint and credentials.
#[derive(Debug)]
pub struct Client {
    http: hyper_util::client::legacy::Client<HttpConnector, Upload>,
    settings: Settings,
    clock: clock::Clock,
}

/// A successful answer, typed and as it came.
#[derive(Debug)]
pub struct Reply<T> {
    pub output: T,
    /// The id under which the server knows the request.
    pub request_id: Option<String>,
    body: Bytes,
}

impl<T> Reply<T> {
    /// The answer's document, for `--json`.
    pub fn document(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("the server's answer is not JSON")
    }
}

impl Client {
    /// A client for the endpoint and credentials of flags and environment.
    pub fn new(global: &Global) -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(std::time::Duration::from_secs(10)));
        Ok(Self {
            http: hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .build(connector),
            settings: Settings::resolve(global)?,
            clock: clock::Clock::system(),
        })
    }

    /// The account that the credentials belong to, as far as they tell.
    pub fn likely_account(&self) -> AccountId {
        self.settings
            .credentials
            .access_key
            .parse()
            .unwrap_or(AccountId::DEVELOPMENT)
    }

    pub fn region(&self) -> &str {
        &self.settings.region
    }

    /// Calls an operation; an error that the service answers becomes [`Failure::Service`].
    pub async fn call<I: OperationInput>(&self, input: &I) -> Result<Reply<Output<I>>> {
        self.upload(input, None).await
    }

    /// As [`Client::call`], with a progress bar for the bytes that have left.
    pub async fn upload<I: OperationInput>(
        &self,
        input: &I,
        progress: Option<ProgressBar>,
    ) -> Result<Reply<Output<I>>> {
        let (mut parts, body) = I::Operation::encode_input(input).into_parts();
        parts.uri = self.absolute(&parts.uri)?;
        let service = I::Operation::SERVICE.signing_name;
        signature::sign(&mut parts, &body, service, &self.settings, self.clock.now())?;
        let (parts, body) = self
            .send(Request::from_parts(parts, Upload::new(body, progress)))
            .await?;
        let output = I::Operation::decode_output(&parts, body.clone())
            .map_err(|err| refused(&parts, err))?;
        let request_id = text(&parts.headers, "x-amzn-requestid").map(str::to_owned);
        Ok(Reply {
            output,
            request_id,
            body,
        })
    }

    /// One of firn's own pages as JSON; nothing if the server is not firn or too old to have it.
    pub async fn page(&self, path: &'static str) -> Result<Option<Value>> {
        let uri = self.absolute(&Uri::from_static(path))?;
        let request = Request::get(uri).body(Upload::new(Bytes::new(), None))?;
        let (parts, body) = self.send(request).await?;
        Ok(serde_json::from_slice(&body)
            .ok()
            .filter(|_| parts.status.is_success()))
    }

    fn absolute(&self, path: &Uri) -> Result<Uri> {
        format!("{}{path}", self.settings.endpoint)
            .parse()
            .context("cannot form the request's URL")
    }

    async fn send(&self, request: Request<Upload>) -> Result<(http::response::Parts, Bytes)> {
        let response = self
            .http
            .request(request)
            .await
            .map_err(|err| self.no_answer(&err))?;
        let (parts, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .with_context(|| format!("the answer of {} broke off", self.settings.endpoint))?;
        Ok((parts, body.to_bytes()))
    }

    fn no_answer(&self, err: &hyper_util::client::legacy::Error) -> anyhow::Error {
        let mut cause: &dyn std::error::Error = err;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let endpoint = self.settings.endpoint.clone();
        if err.is_connect() {
            return Failure::Connect {
                endpoint,
                reason: cause.to_string(),
            }
            .into();
        }
        anyhow!("{endpoint} ended the connection without an answer: {cause}")
    }
}

fn refused(parts: &http::response::Parts, err: WireError) -> Failure {
    let request_id = text(&parts.headers, "x-amzn-requestid");
    Failure::Service {
        code: err.code,
        message: err.message,
        status: err.status,
        request_id: request_id.unwrap_or("-").to_owned(),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
