//! Objects of an S3 that the operator names, for those who read large ones and list many.
//!
//! Tasks reach S3 as they reach every service: one answer, bounded, as JSON. Here objects are read
//! while they come.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::Response;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use upstream::Pieces;

use crate::catalog::{self, Entry, Operation};
use crate::exchange::Unsent;
use crate::wire::{self, Message, Rejected, Style};
use crate::{Context, Integrations};

const SERVICE: &str = "s3";
/// S3 lists no more at once.
const PAGE: usize = 1_000;
/// An error is shorter.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// How often S3 is asked again when it is busy or not reached, as AWS's SDKs do.
const RETRIES: u32 = 3;
/// Before the first time; twice as long before each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// The content of an object.
pub type Contents = Pin<Box<dyn Stream<Item = Result<Bytes, Refusal>> + Send + Sync>>;

/// What a list of objects says of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// With its quotation marks.
    pub etag: String,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
    pub storage_class: String,
}

/// What S3 answered instead, or what is between it and us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// S3's error code.
    pub code: String,
    pub message: String,
    /// Of HTTP.
    pub status: u16,
}

impl Integrations {
    /// Whether the operator has said that objects are not those of this server.
    pub fn objects_are_upstream(&self) -> bool {
        catalog::find(SERVICE)
            .is_some_and(|entry| self.upstream.own_endpoint(&entry.names.all()).is_some())
    }

    /// Reads an object, or a version of it.
    ///
    /// # Errors
    /// If S3 refuses it or is not reached; also later, in the midst of the content.
    pub async fn open_object(
        &self,
        context: &Context,
        (bucket, key): (&str, &str),
        version: Option<&str>,
    ) -> Result<Contents, Refusal> {
        let mut parameters = json!({"Bucket": bucket, "Key": key});
        if let Some(version) = version {
            parameters["VersionId"] = version.into();
        }
        let action = Action::find("getObject")?;
        let message = action.message(&parameters, None)?;
        let pieces = patiently(|| self.contents(context, &action, message.clone())).await?;
        Ok(Box::pin(pieces.map(|piece| {
            piece.map_err(|error| Refusal::from(Unsent::from(error)))
        })))
    }

    /// The answer's content, once it is known that it is one.
    async fn contents(
        &self,
        context: &Context,
        action: &Action,
        message: Message,
    ) -> Result<Pieces, Refusal> {
        let response = self.open_upstream(context, action.entry, message).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        action.read(&with_whole_body(response).await?)?;
        Err(Refusal::unexpected())
    }

    async fn ask(
        &self,
        context: &Context,
        action: &Action,
        message: Message,
    ) -> Result<Map<String, Value>, Refusal> {
        let response = self.exchange(context, action.entry, message).await?;
        action.read(&response)
    }

    /// At most `limit` objects whose keys begin with `prefix` and come after `after`, by key. Fewer
    /// are the last ones.
    ///
    /// # Errors
    /// If S3 refuses it or is not reached.
    pub async fn list_objects(
        &self,
        context: &Context,
        (bucket, prefix): (&str, &str),
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, Refusal> {
        let action = Action::find("listObjectsV2")?;
        let mut found: Vec<Listed> = Vec::new();
        while found.len() < limit {
            // XML has no way to write some characters that keys may have.
            let mut parameters = json!({"Bucket": bucket, "EncodingType": "url"});
            parameters["MaxKeys"] = (limit - found.len()).min(PAGE).into();
            if !prefix.is_empty() {
                parameters["Prefix"] = prefix.into();
            }
            let after = found.last().map(|last| last.key.as_str()).or(after);
            if let Some(after) = after {
                parameters["StartAfter"] = after.into();
            }
            let message = action.message(&parameters, None)?;
            let page = patiently(|| self.ask(context, &action, message.clone())).await?;
            let is_last = page.get("IsTruncated") != Some(&Value::Bool(true));
            let listed = read_page(&page).ok_or_else(Refusal::unexpected)?;
            if !goes_on(&listed, after) || (listed.is_empty() && !is_last) {
                return Err(Refusal::unexpected());
            }
            found.extend(listed);
            if is_last {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Writes an object of JSON.
    ///
    /// # Errors
    /// If S3 refuses it or is not reached.
    pub async fn put_object(
        &self,
        context: &Context,
        (bucket, key): (&str, &str),
        body: Bytes,
    ) -> Result<(), Refusal> {
        let action = Action::find("putObject")?;
        let parameters = json!({"Bucket": bucket, "Key": key, "ContentType": "application/json"});
        let message = action.message(&parameters, Some(body))?;
        let put = patiently(|| self.ask(context, &action, message.clone())).await;
        put.map(drop)
    }
}

/// Asks again, a few times, where that may help. What is asked may be asked more than once.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    let mut pause = PAUSE;
    for _ in 0..RETRIES {
        match ask().await {
            Err(refusal) if refusal.may_pass() => {}
            answer => return answer,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    ask().await
}

/// An operation of S3.
struct Action {
    entry: &'static Entry,
    name: &'static str,
    operation: &'static Operation,
}

impl Action {
    fn find(action: &str) -> Result<Self, Refusal> {
        let entry = catalog::find(SERVICE);
        let found = entry.and_then(|entry| Some((entry, entry.operation(action)?)));
        let (entry, (name, operation)) = found.ok_or_else(Refusal::unexpected)?;
        Ok(Self {
            entry,
            name,
            operation,
        })
    }

    fn message(&self, parameters: &Value, payload: Option<Bytes>) -> Result<Message, Refusal> {
        let call = wire::Call {
            entry: self.entry,
            name: self.name,
            operation: self.operation,
            parameters,
            token: "",
        };
        wire::write_around(&call, payload).map_err(|invalid| Refusal {
            code: "InvalidArgument".to_owned(),
            message: invalid.to_string(),
            status: 400,
        })
    }

    fn read(&self, response: &Response<Bytes>) -> Result<Map<String, Value>, Refusal> {
        let answer = wire::read(self.entry, self.operation, Style::One, response);
        answer
            .map(|answer| answer.output)
            .map_err(|rejected| Refusal::from(*rejected))
    }
}

/// The objects of a page; `None` if it lacks what S3 always tells.
fn read_page(page: &Map<String, Value>) -> Option<Vec<Listed>> {
    let encoded = page.get("EncodingType").and_then(Value::as_str) == Some("url");
    let contents = page.get("Contents").and_then(Value::as_array);
    let listed = contents.into_iter().flatten().map(|object| {
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let key = text("Key")?;
        Some(Listed {
            key: if encoded {
                decoded(key)?
            } else {
                key.to_owned()
            },
            size: object.get("Size").and_then(Value::as_u64)?,
            etag: text("ETag").unwrap_or_default().to_owned(),
            modified_ms: object.get("LastModified").and_then(Value::as_i64)?,
            storage_class: text("StorageClass").unwrap_or("STANDARD").to_owned(),
        })
    });
    listed.collect()
}

/// Whether a page begins after this key. One that does not would be read for ever.
fn goes_on(page: &[Listed], after: Option<&str>) -> bool {
    let first = page.first().map(|first| first.key.as_str());
    after.is_none() || first.is_none() || first > after
}

/// S3 writes keys as forms do.
fn decoded(key: &str) -> Option<String> {
    let spaced = key.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

async fn with_whole_body(response: Response<Pieces>) -> Result<Response<Bytes>, Refusal> {
    let (head, mut pieces) = response.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece.map_err(Unsent::from)?);
        if body.len() > MAX_ERROR_BYTES {
            return Err(Unsent::TooLarge.into());
        }
    }
    Ok(Response::from_parts(head, body.into()))
}

impl Refusal {
    /// S3 is busy, or out of reach.
    fn may_pass(&self) -> bool {
        matches!(self.status, 429 | 500 | 502 | 503 | 504) || self.code == "RequestTimeout"
    }

    /// For an answer that is not S3's.
    fn unexpected() -> Self {
        Self {
            code: "InternalError".to_owned(),
            message: "S3 answered what cannot be understood".to_owned(),
            status: 500,
        }
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        Self {
            message: rejected.message.unwrap_or_else(|| rejected.code.clone()),
            code: rejected.code,
            status: rejected.status.as_u16(),
        }
    }
}

impl From<Unsent> for Refusal {
    fn from(unsent: Unsent) -> Self {
        Self {
            code: "ServiceUnavailable".to_owned(),
            message: unsent.to_string(),
            status: 503,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(xml: &'static str) -> Option<Vec<Listed>> {
        let action = Action::find("listObjectsV2").unwrap();
        let page = action.read(&Response::new(Bytes::from_static(xml.as_bytes())));
        read_page(&page.unwrap())
    }

    #[test]
    fn keys_of_a_list_are_decoded_if_they_are_encoded() {
        let encoded = "<ListBucketResult><EncodingType>url</EncodingType><Contents>\
             <Key>a+b%2Bc%01%C3%A9/</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>\
             <ETag>&quot;e&quot;</ETag><Size>7</Size><StorageClass>GLACIER</StorageClass>\
             </Contents></ListBucketResult>";
        let expected = Listed {
            key: "a b+c\u{1}é/".to_owned(),
            size: 7,
            etag: "\"e\"".to_owned(),
            modified_ms: 1_767_323_045_000,
            storage_class: "GLACIER".to_owned(),
        };
        assert_eq!(listed(encoded), Some(vec![expected]));
        let plain = "<ListBucketResult><Contents><Key>a+b%20</Key><Size>0</Size>\
             <LastModified>2026-01-02T03:04:05Z</LastModified></Contents></ListBucketResult>";
        let page = listed(plain).unwrap();
        assert_eq!(page[0].key, "a+b%20");
        assert!(goes_on(&page, None) && goes_on(&page, Some("a")) && goes_on(&[], Some("b")));
        assert!(!goes_on(&page, Some("a+b%20")) && !goes_on(&page, Some("b")));
    }

    #[test]
    fn a_list_without_sizes_is_none() {
        let odd = "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>";
        assert_eq!(listed(odd), None);
        assert_eq!(listed("<html/>"), Some(Vec::new()));
    }

    fn refused(status: u16, code: &str) -> Result<u8, Refusal> {
        Err(Refusal {
            code: code.to_owned(),
            message: String::new(),
            status,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_asked_again() {
        let busy = || refused(503, "SlowDown");
        for (answers, asked, expected) in [
            (vec![Ok(1), busy()], 1, Ok(1)),
            (
                vec![busy(), refused(400, "RequestTimeout"), Ok(2)],
                3,
                Ok(2),
            ),
            (
                vec![refused(404, "NoSuchKey"), Ok(3)],
                1,
                refused(404, "NoSuchKey"),
            ),
            (vec![busy(), busy(), busy(), busy(), Ok(4)], 4, busy()),
        ] {
            let count = std::sync::atomic::AtomicUsize::new(0);
            let next = || {
                let at = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                std::future::ready(answers[at].clone())
            };
            assert_eq!(patiently(next).await, expected);
            assert_eq!(count.into_inner(), asked);
        }
    }

    #[test]
    fn an_object_is_written_as_it_is() {
        let action = Action::find("putObject").unwrap();
        let body = Bytes::from_static(b"[1,2]");
        let parameters = json!({"Bucket": "b", "Key": "a b/c", "ContentType": "application/json"});
        let message = action.message(&parameters, Some(body.clone())).unwrap();
        assert_eq!(
            (message.target.as_str(), message.body),
            ("/b/a%20b/c", body)
        );
        assert_eq!(message.headers["content-type"], "application/json");
    }

    #[test]
    fn what_s3_refuses_is_told_in_its_words() {
        let action = Action::find("getObject").unwrap();
        let body = "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.\
             </Message></Error>";
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        let refusal = action.read(&response).unwrap_err();
        let expected = Refusal {
            code: "NoSuchKey".to_owned(),
            message: "The specified key does not exist.".to_owned(),
            status: 404,
        };
        assert_eq!(refusal, expected);
    }
}
