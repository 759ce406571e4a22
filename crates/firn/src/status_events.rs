//! Sends events about the status of executions to the event bus at the upstream endpoint, with
//! `PutEvents`. Without an endpoint for `events` there is nobody to tell.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::Clock;
use http::{Request, header};
use protocol::sigv4;
use serde_json::{Value, json};
use states::observe::{EventHook, StatusChange, Untold};

/// An answer is a list of at most ten ids.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What takes events to the bus, if the configuration says where one is.
pub fn hook(config: &upstream::Config, clock: &Clock) -> Option<EventHook> {
    let endpoint = config.endpoint(&["events", "eventbridge"])?.to_owned();
    let sender = Arc::new(Sender {
        endpoint,
        config: config.clone(),
        client: upstream::Client::default(),
        clock: clock.clone(),
    });
    Some(Arc::new(move |changes| {
        let sender = Arc::clone(&sender);
        Box::pin(async move { sender.send(&changes).await })
    }))
}

struct Sender {
    endpoint: String,
    config: upstream::Config,
    client: upstream::Client,
    clock: Clock,
}

impl Sender {
    async fn send(&self, changes: &[Arc<StatusChange>]) -> Result<(), Untold> {
        // They are of one account and region.
        let Some(first) = changes.first() else {
            return Ok(());
        };
        let request = self.request(first, changes).map_err(Untold::Refused)?;
        let limit = Duration::from_millis(self.config.timeout_ms);
        let answer = self
            .client
            .send(request, MAX_ANSWER_BYTES, limit)
            .await
            .map_err(|error| Untold::Unreachable(error.to_string()))?;
        taken(answer.status(), answer.body())
    }

    fn request(
        &self,
        first: &StatusChange,
        changes: &[Arc<StatusChange>],
    ) -> Result<Request<Bytes>, String> {
        let entries: Vec<Value> = changes.iter().map(|change| change.entry()).collect();
        let body = Bytes::from(json!({ "Entries": entries }).to_string());
        let endpoint = self.endpoint.replace("{region}", &first.region);
        let request = Request::post(format!("{endpoint}/"))
            .header(header::CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("x-amz-target", "AWSEvents.PutEvents")
            .body(body)
            .map_err(|error| error.to_string())?;
        let (mut parts, body) = request.into_parts();
        let credentials = self.config.credentials(&first.account);
        let now = self.clock.now();
        sigv4::sign(
            &mut parts,
            &body,
            &credentials,
            &first.region,
            "events",
            now,
        )
        .map_err(|error| format!("cannot sign: {error}"))?;
        Ok(Request::from_parts(parts, body))
    }
}

/// `PutEvents` answers 200 even if it took nothing.
fn taken(status: http::StatusCode, answer: &[u8]) -> Result<(), Untold> {
    let excerpt = || String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
    if status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS {
        return Err(Untold::Unreachable(format!("{status}: {}", excerpt())));
    }
    if !status.is_success() {
        return Err(Untold::Refused(format!("{status}: {}", excerpt())));
    }
    let answered: Value = serde_json::from_slice(answer).unwrap_or_default();
    match answered["FailedEntryCount"].as_u64() {
        None | Some(0) => Ok(()),
        Some(_) => Err(Untold::Refused(format!(
            "the bus refused some: {}",
            excerpt()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_endpoint_nobody_is_told() {
        let clock = Clock::system();
        assert!(hook(&upstream::Config::default(), &clock).is_none());
        let mut config = upstream::Config::default();
        config
            .services
            .insert("events".into(), "http://127.0.0.1:9".into());
        assert!(hook(&config, &clock).is_some());
    }

    #[test]
    fn an_answer_says_whether_the_events_arrived() {
        let status = |code: u16| http::StatusCode::from_u16(code).unwrap();
        assert!(taken(status(200), br#"{"FailedEntryCount":0}"#).is_ok());
        let refused = |result| matches!(result, Err(Untold::Refused(_)));
        assert!(refused(taken(status(200), br#"{"FailedEntryCount":1}"#)));
        assert!(refused(taken(
            status(400),
            b"NotAuthorizedForSourceException"
        )));
        let passing = taken(status(503), b"later");
        assert!(matches!(passing, Err(Untold::Unreachable(_))));
    }
}
