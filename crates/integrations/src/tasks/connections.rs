//! The credentials of HTTP tasks: connections, as the configuration describes them.

use std::sync::PoisonError;
use std::time::Duration;

use asl::failure::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request};
use serde_json::Value;

use super::Task;
use super::http_task::{Described, encoded};
use crate::config::Connection;

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_TOKEN_ANSWER: usize = 64 << 10;
/// A token is renewed so long before its end.
const MARGIN: Duration = Duration::from_secs(30);
/// For tokens that do not say how long they are good.
const DEFAULT_LIFETIME: u64 = 300;

impl Task<'_> {
    /// Adds what the connection of this ARN sends with every request.
    pub async fn authorise(&self, arn: &str, described: &mut Described) -> Result<(), Failure> {
        let name = name_of(arn);
        let config = &self.integrations.config;
        let Some(connection) = name.and_then(|name| config.connections.get(name)) else {
            let shown = name.unwrap_or("NAME");
            return Err(failure(
                "NotFound",
                format!(
                    "The connection {arn} does not exist: describe it in the server's \
                     configuration, section integrations.connections.{shown}"
                ),
            ));
        };
        add_plain(connection, described)?;
        let value = if !connection.token_endpoint.is_empty() {
            format!("Bearer {}", self.token(arn, connection).await?)
        } else if !connection.username.is_empty() {
            let pair = format!("{}:{}", connection.username, connection.password);
            format!("Basic {}", STANDARD.encode(pair))
        } else {
            return add_header(
                described,
                &connection.api_key_name,
                &connection.api_key_value,
            );
        };
        add_header(described, AUTHORIZATION.as_str(), &value)
    }

    async fn token(&self, arn: &str, connection: &Connection) -> Result<String, Failure> {
        let now = self.integrations.clock.now();
        let tokens = &self.integrations.tokens;
        let known = {
            let tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.get(arn).cloned()
        };
        if let Some((token, _)) = known.filter(|(_, end)| *end > now) {
            return Ok(token);
        }
        let (token, lifetime) = self.fetch_token(connection).await?;
        let end = now + Duration::from_secs(lifetime).saturating_sub(MARGIN);
        let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(arn.to_owned(), (token.clone(), end));
        Ok(token)
    }

    async fn fetch_token(&self, connection: &Connection) -> Result<(String, u64), Failure> {
        let refused = |reason: String| failure("InvalidCredentials", reason);
        let mut form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            encoded(&connection.client_id),
            encoded(&connection.client_secret)
        );
        if !connection.scope.is_empty() {
            form += &format!("&scope={}", encoded(&connection.scope));
        }
        let request = Request::builder()
            .method(Method::POST)
            .uri(&connection.token_endpoint)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .map_err(|error| refused(error.to_string()))?;
        let client = &self.integrations.client;
        let response = client
            .send(request, MAX_TOKEN_ANSWER, TIMEOUT)
            .await
            .map_err(|error| refused(format!("The authorization endpoint: {error}")))?;
        if !response.status().is_success() {
            let reason = format!("The authorization endpoint answered {}", response.status());
            return Err(refused(reason));
        }
        let answer: Value = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
        let token = answer.get("access_token").and_then(Value::as_str);
        let token =
            token.ok_or_else(|| refused("The authorization endpoint gave no token".into()))?;
        let lifetime = answer.get("expires_in").and_then(Value::as_u64);
        Ok((token.to_owned(), lifetime.unwrap_or(DEFAULT_LIFETIME)))
    }
}

/// The name in `arn:aws:events:region:account:connection/name/id`.
fn name_of(arn: &str) -> Option<&str> {
    let mut parts = arn.split(':').skip(2);
    let (service, resource) = (parts.next()?, parts.nth(2)?);
    let mut path = resource.split('/');
    (service == "events" && path.next()? == "connection")
        .then(|| path.next())
        .flatten()
        .filter(|name| !name.is_empty())
}

/// The connection's own headers, query and body come before the workflow's.
fn add_plain(connection: &Connection, described: &mut Described) -> Result<(), Failure> {
    for (name, value) in &connection.headers {
        add_header(described, name, value)?;
    }
    for (name, value) in &connection.query {
        described.query.retain(|(given, _)| given != name);
        described.query.push((name.clone(), value.clone()));
    }
    if !connection.body.is_empty() {
        let body = described
            .body
            .get_or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(body) = body.as_object_mut() {
            for (name, value) in &connection.body {
                body.insert(name.clone(), value.as_str().into());
            }
        }
    }
    Ok(())
}

fn add_header(described: &mut Described, name: &str, value: &str) -> Result<(), Failure> {
    let header = HeaderName::from_bytes(name.as_bytes()).ok();
    let Some((name, value)) = header.zip(HeaderValue::from_str(value).ok()) else {
        let reason = "The connection's credentials cannot be sent in a header";
        return Err(failure("InvalidCredentials", reason.to_owned()));
    };
    described.headers.insert(name, value);
    Ok(())
}

fn failure(kind: &str, cause: String) -> Failure {
    Failure::new(format!("Events.ConnectionResource.{kind}"), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_found_by_the_name_in_their_arn() {
        let arn = "arn:aws:events:us-east-2:123456789012:connection/Stripe/81210c42-8af1";
        assert_eq!(name_of(arn), Some("Stripe"));
        assert_eq!(
            name_of("arn:aws:events:us-east-2:123456789012:rule/Stripe"),
            None
        );
        assert_eq!(name_of("Stripe"), None);
    }

    #[test]
    fn what_a_connection_sends_wins() {
        let connection = Connection {
            query: [("k".to_owned(), "mine".to_owned())].into(),
            body: [("b".to_owned(), "c".to_owned())].into(),
            ..Connection::default()
        };
        let mut described = Described {
            query: vec![("k".into(), "theirs".into()), ("o".into(), "1".into())],
            ..Described::default()
        };
        add_plain(&connection, &mut described).unwrap();
        let expected = [("o".into(), "1".into()), ("k".into(), "mine".into())];
        assert_eq!(described.query, expected);
        assert_eq!(described.body, Some(serde_json::json!({"b": "c"})));
    }
}
