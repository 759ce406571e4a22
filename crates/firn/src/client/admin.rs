//! The operators' pages of a server, as JSON. Requests are signed, which a server that verifies
//! signatures asks for.

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::Value;

use super::upload::Upload;
use super::{Client, signature};
use crate::failure::Failure;

impl Client {
    /// Asks for a page; `path` may have a query.
    pub async fn admin(&self, method: Method, path: &str) -> Result<Value> {
        let uri = self.absolute(&path.parse().context("cannot form the request's path")?)?;
        let request = Request::builder().method(method).uri(uri).body(())?;
        let (mut parts, ()) = request.into_parts();
        let now = self.clock.now();
        signature::sign(&mut parts, b"", "lambda", &self.settings, now)?;
        let body = Upload::new(Bytes::new(), None);
        let (parts, body) = self.send(Request::from_parts(parts, body)).await?;
        if parts.status.is_success() {
            return serde_json::from_slice(&body).context("the server's answer is not JSON");
        }
        let code = match parts.status {
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::BAD_REQUEST => "BadRequest",
            _ => "Refused",
        };
        Err(Failure::Service {
            code: code.to_owned(),
            message: String::from_utf8_lossy(&body).trim().to_owned(),
            status: parts.status.as_u16(),
            request_id: "-".to_owned(),
        }
        .into())
    }
}
