//! Services at an address: what firn itself does not serve yet, such as queues and topics of AWS or
//! of another emulator.

mod requests;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use clock::Clock;
use http::StatusCode;
use http::request::Parts;
use model::Arn;
use protocol::sigv4;
use serde::Deserialize;
use upstream::{Client, Config};

use super::delivery::{Delivering, Service, Target, Undelivered};
use super::record::Delivery;

/// Answers are a message id or an error.
const MAX_ANSWER: usize = 64 << 10;

/// A client of the services that are configured.
pub struct Upstream {
    config: Config,
    clock: Clock,
    client: Client,
}

impl Upstream {
    pub fn new(config: Config, clock: Clock) -> Self {
        Self {
            config,
            clock,
            client: Client::default(),
        }
    }

    pub fn is_configured(&self, service: Service) -> bool {
        self.endpoint(service).is_some()
    }

    fn endpoint(&self, service: Service) -> Option<&str> {
        match service {
            Service::Lambda => None,
            Service::Events => self.config.endpoint(&["events", "eventbridge"]),
            Service::Sqs | Service::Sns | Service::S3 => self.config.endpoint(&[service.name()]),
        }
    }

    async fn send(&self, delivery: &Delivery) -> Result<(), Undelivered> {
        let refused = |reason: &str| Undelivered::Refused(reason.to_owned());
        let target: Arn = delivery
            .note
            .target
            .parse()
            .map_err(|_| refused("the target is no ARN"))?;
        let service =
            Service::named(&target.service).ok_or_else(|| refused("no such destination"))?;
        let endpoint = self
            .endpoint(service)
            .ok_or_else(|| refused("no endpoint is configured for this service"))?;
        let request = requests::make(service, endpoint, &target, delivery, self.clock.now())
            .map_err(|error| Undelivered::Refused(error.to_string()))?;
        let (mut parts, body) = request.into_parts();
        self.sign(&mut parts, &body, service, &target, delivery)?;
        let (status, answer) = self.exchange(parts, body).await?;
        judge(service, status, &answer)
    }

    fn sign(
        &self,
        parts: &mut Parts,
        body: &[u8],
        service: Service,
        target: &Arn,
        delivery: &Delivery,
    ) -> Result<(), Undelivered> {
        let (account, region, _) = &delivery.note.function;
        // Buckets have neither in their ARN.
        let given =
            |text: &'_ str, other: &'_ str| if text.is_empty() { other } else { text }.to_owned();
        let account = given(&target.account, account);
        let region = given(&target.region, region);
        let credentials = self.config.credentials(&account);
        let now = self.clock.now();
        sigv4::sign(parts, body, &credentials, &region, service.name(), now)
            .map_err(|error| Undelivered::Refused(format!("cannot sign: {error}")))
    }

    async fn exchange(
        &self,
        parts: Parts,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Undelivered> {
        let request = http::Request::from_parts(parts, body);
        let limit = Duration::from_millis(self.config.timeout_ms);
        let answer = self.client.send(request, MAX_ANSWER, limit).await;
        match answer {
            Ok(answer) => Ok((answer.status(), answer.into_body())),
            Err(error) => Err(Undelivered::Unreachable(error.to_string())),
        }
    }
}

impl Target for Upstream {
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Delivering<'a> {
        Box::pin(self.send(delivery))
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

/// Whether an answer says that the message has arrived, or that it never will.
fn judge(service: Service, status: StatusCode, answer: &[u8]) -> Result<(), Undelivered> {
    if status.is_success() {
        return match service {
            Service::Events => entries_taken(answer),
            _ => Ok(()),
        };
    }
    let excerpt = String::from_utf8_lossy(&answer[..answer.len().min(500)]);
    let reason = format!("{status}: {excerpt}");
    let passing = status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT;
    Err(if passing {
        Undelivered::Unreachable(reason)
    } else {
        Undelivered::Refused(reason)
    })
}

/// PutEvents answers 200 even if it took nothing.
fn entries_taken(answer: &[u8]) -> Result<(), Undelivered> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        #[serde(default)]
        failed_entry_count: u32,
    }
    match serde_json::from_slice::<Answer>(answer) {
        Ok(answer) if answer.failed_entry_count > 0 => Err(Undelivered::Unreachable(
            "the bus did not take the event".to_owned(),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_whether_another_try_may_help() {
        let judge = |status: u16| {
            judge(
                Service::Sqs,
                StatusCode::from_u16(status).unwrap(),
                b"reason",
            )
        };
        assert!(judge(200).is_ok());
        assert!(matches!(judge(400), Err(Undelivered::Refused(_))));
        for status in [429, 500, 503] {
            assert!(matches!(judge(status), Err(Undelivered::Unreachable(_))));
        }
    }

    #[test]
    fn an_event_that_the_bus_refused_has_not_arrived() {
        assert!(entries_taken(br#"{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}"#).is_ok());
        assert!(entries_taken(br#"{"FailedEntryCount":1}"#).is_err());
    }
}
