//! What happens in buckets, in the form in which AWS tells it.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Batch, Expect};

use crate::Result;
use crate::access::Who;
use crate::keys::{self, Id};
use crate::record::{self, Pending};
use crate::service::{Bucket, S3};

/// Keys in events are encoded as in a form, but for the slashes.
const IN_EVENTS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*')
    .remove(b' ');

/// The events that firn's S3 makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EventName {
    #[default]
    CreatedPut,
    CreatedCopy,
    CreatedComplete,
    RemovedDelete,
    TaggingPut,
    TaggingDelete,
}

impl EventName {
    /// As events carry it, without `s3:`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CreatedPut => "ObjectCreated:Put",
            Self::CreatedCopy => "ObjectCreated:Copy",
            Self::CreatedComplete => "ObjectCreated:CompleteMultipartUpload",
            Self::RemovedDelete => "ObjectRemoved:Delete",
            Self::TaggingPut => "ObjectTagging:Put",
            Self::TaggingDelete => "ObjectTagging:Delete",
        }
    }
}

/// One thing that happened to one object.
pub(crate) struct Happened<'a> {
    pub(crate) event: EventName,
    pub(crate) key: &'a str,
    /// `None` if it is gone.
    pub(crate) object: Option<&'a record::Object>,
}

impl S3 {
    /// Adds the events for the bucket's notifications to the write that they are about.
    pub(crate) fn announce(
        &self,
        mut batch: Batch,
        who: &Who,
        bucket: &Bucket,
        happened: &Happened<'_>,
    ) -> Result<Batch> {
        let name = happened.event.name();
        for notification in &bucket.record.notifications {
            if !notification.wants(name, happened.key) {
                continue;
            }
            let id = self.next_id();
            let payload = self.event(who, bucket, happened, (&notification.id, id));
            let pending = Pending {
                destination: notification.destination.clone(),
                account: bucket.record.owner,
                region: bucket.record.region.clone(),
                bucket: bucket.name.clone(),
                payload: payload.to_string(),
            };
            batch = batch.put(keys::event(id), record::encode(&pending)?, Expect::Any);
        }
        Ok(batch)
    }

    fn event(
        &self,
        who: &Who,
        bucket: &Bucket,
        happened: &Happened<'_>,
        (configuration, id): (&str, Id),
    ) -> Value {
        let key = utf8_percent_encode(happened.key, IN_EVENTS).to_string();
        let mut object = json!({ "key": key.replace(' ', "+") });
        if let Some(found) = happened.object {
            object["size"] = json!(found.size);
            object["eTag"] = json!(found.etag);
        }
        // Of two writes of one key, the later one has the larger number.
        object["sequencer"] = json!(format!("{:08X}{:016X}", id.run, id.count));
        let source = who
            .peer
            .map_or_else(|| "127.0.0.1".to_owned(), |peer| peer.to_string());
        json!({ "Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": bucket.record.region,
            "eventTime": self.clock().now().to_string(),
            "eventName": happened.event.name(),
            "userIdentity": { "principalId": principal_id(who) },
            "requestParameters": { "sourceIPAddress": source },
            "responseElements": {
                "x-amz-request-id": who.request_id,
                "x-amz-id-2": crate::answer::host_id(&who.request_id),
            },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": configuration,
                "bucket": {
                    "name": bucket.name,
                    "ownerIdentity": { "principalId": bucket.record.owner.as_str() },
                    "arn": bucket.arn(),
                },
                "object": object,
            },
        }]})
    }
}

fn principal_id(who: &Who) -> String {
    match &who.caller {
        None => "Anonymous".to_owned(),
        Some(caller) => format!(
            "AWS:{}",
            caller
                .access_key
                .as_deref()
                .unwrap_or(caller.account.as_str())
        ),
    }
}
