//! Services at an address: what firn itself does not serve yet, such as queues and topics of AWS or
//! of another emulator.

mod requests;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use clock::Clock;
use http::StatusCode;
use http::request::Parts;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use model::Arn;
use protocol::sigv4::{self, Credentials};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::delivery::{Delivering, Service, Target, Undelivered};
use super::record::Delivery;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Answers are a message id or an error.
const MAX_ANSWER: usize = 64 << 10;

/// Where services are that firn does not serve itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// The endpoint of SQS, such as `http://127.0.0.1:9324` or `https://sqs.{region}.amazonaws.com`.
    /// Default none: queues are refused as destinations.
    pub sqs: String,
    /// The endpoint of SNS. Default none.
    pub sns: String,
    /// The endpoint of EventBridge. Default none.
    pub events: String,
    /// The endpoint of S3, with buckets in the path. Default none.
    pub s3: String,
    /// The access key to sign with. Default: the account of the function, by which emulators tell
    /// accounts apart.
    pub access_key_id: String,
    /// The secret of the access key. Default `firn`, for emulators that do not verify signatures.
    pub secret_access_key: String,
    /// Goes with temporary credentials. Default none.
    pub session_token: String,
    /// How long a request may take, in milliseconds. Default 10,000.
    pub timeout_ms: u64,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            sqs: String::new(),
            sns: String::new(),
            events: String::new(),
            s3: String::new(),
            access_key_id: String::new(),
            secret_access_key: "firn".to_owned(),
            session_token: String::new(),
            timeout_ms: 10_000,
        }
    }
}

impl UpstreamConfig {
    /// The endpoint of a service, if one is configured.
    pub(crate) fn endpoint(&self, service: Service) -> Option<&str> {
        let endpoint = match service {
            Service::Lambda => "",
            Service::Sqs => &self.sqs,
            Service::Sns => &self.sns,
            Service::Events => &self.events,
            Service::S3 => &self.s3,
        };
        (!endpoint.is_empty()).then(|| endpoint.trim_end_matches('/'))
    }

    fn credentials(&self, account: &str) -> Credentials {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Credentials {
            access_key: given(&self.access_key_id).unwrap_or_else(|| account.to_owned()),
            secret_key: self.secret_access_key.clone(),
            session_token: given(&self.session_token),
        }
    }
}

impl fmt::Debug for UpstreamConfig {
    // Secrets must not end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamConfig")
            .field("sqs", &self.sqs)
            .field("sns", &self.sns)
            .field("events", &self.events)
            .field("s3", &self.s3)
            .finish_non_exhaustive()
    }
}

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client of the services that are configured.
pub struct Upstream {
    config: UpstreamConfig,
    clock: Clock,
    /// Made at the first use: the system's certificates are read then.
    http: OnceCell<Http>,
}

impl Upstream {
    pub fn new(config: UpstreamConfig, clock: Clock) -> Self {
        let http = OnceCell::new();
        Self {
            config,
            clock,
            http,
        }
    }

    pub fn is_configured(&self, service: Service) -> bool {
        self.config.endpoint(service).is_some()
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
            .config
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
        let http = self.http.get_or_try_init(client).await?;
        let request = http::Request::from_parts(parts, Full::new(body));
        let exchange = async {
            let response = http
                .request(request)
                .await
                .map_err(|error| Undelivered::Unreachable(chain(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER)
                .collect()
                .await
                .map_err(|error| Undelivered::Unreachable(error.to_string()))?;
            Ok((head.status, body.to_bytes()))
        };
        let limit = Duration::from_millis(self.config.timeout_ms);
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or_else(|_| Err(Undelivered::Unreachable("no answer in time".to_owned())))
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

async fn client() -> Result<Http, Undelivered> {
    // Reads files, so not on a thread that serves requests.
    let built = tokio::task::spawn_blocking(|| {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| Undelivered::Unreachable(format!("no certificates: {error}")))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector))
    });
    built
        .await
        .unwrap_or_else(|error| Err(Undelivered::Unreachable(error.to_string())))
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

/// An error with its causes: "client error" alone says nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
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

    #[test]
    fn secrets_are_not_printed() {
        let config = UpstreamConfig {
            secret_access_key: "hunter2".into(),
            session_token: "hunter3".into(),
            ..UpstreamConfig::default()
        };
        assert!(!format!("{config:?}").contains("hunter"));
    }

    #[test]
    fn without_keys_the_account_signs() {
        let credentials = UpstreamConfig::default().credentials("123456789012");
        assert_eq!(credentials.access_key, "123456789012");
        assert_eq!(credentials.session_token, None);
    }
}
