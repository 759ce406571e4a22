//! Which events of a bucket go where.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html>

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Destinations of one bucket at most, as on AWS.
const MAX_NOTIFICATIONS: usize = 100;

/// The events that AWS knows. Of those that firn never makes, none are missed: nothing is
/// archived, replicated or expired here.
const EVENTS: [&str; 31] = [
    "s3:ReducedRedundancyLostObject",
    "s3:ObjectCreated:*",
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:Post",
    "s3:ObjectCreated:Copy",
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectRemoved:*",
    "s3:ObjectRemoved:Delete",
    "s3:ObjectRemoved:DeleteMarkerCreated",
    "s3:ObjectRestore:*",
    "s3:ObjectRestore:Post",
    "s3:ObjectRestore:Completed",
    "s3:ObjectRestore:Delete",
    "s3:Replication:*",
    "s3:Replication:OperationFailedReplication",
    "s3:Replication:OperationNotTracked",
    "s3:Replication:OperationMissedThreshold",
    "s3:Replication:OperationReplicatedAfterThreshold",
    "s3:LifecycleExpiration:*",
    "s3:LifecycleExpiration:Delete",
    "s3:LifecycleExpiration:DeleteMarkerCreated",
    "s3:LifecycleTransition",
    "s3:IntelligentTiering",
    "s3:ObjectAcl:Put",
    "s3:ObjectTagging:*",
    "s3:ObjectTagging:Put",
    "s3:ObjectTagging:Delete",
    "s3:ObjectAnnotation:*",
    "s3:ObjectAnnotation:Put",
    "s3:ObjectAnnotation:Delete",
    "s3:TestEvent",
];

/// One configuration of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notification {
    pub(crate) id: String,
    /// The ARN of a function, with or without a qualifier.
    pub(crate) destination: String,
    /// With `s3:` in front.
    pub(crate) events: Vec<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) suffix: Option<String>,
}

impl Notification {
    /// Whether it is about an event, named without `s3:`, of an object.
    pub(crate) fn wants(&self, event: &str, key: &str) -> bool {
        self.events.iter().any(|pattern| covers(pattern, event))
            && key.starts_with(self.prefix.as_deref().unwrap_or_default())
            && key.ends_with(self.suffix.as_deref().unwrap_or_default())
    }

    /// Whether some event of some object would match both.
    fn overlaps(&self, other: &Self) -> bool {
        let share = |a: &String| other.events.iter().any(|b| common(a, b));
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let (prefix, other_prefix) = (text(&self.prefix), text(&other.prefix));
        let (suffix, other_suffix) = (text(&self.suffix), text(&other.suffix));
        self.events.iter().any(share)
            && (prefix.starts_with(&other_prefix) || other_prefix.starts_with(&prefix))
            && (suffix.ends_with(&other_suffix) || other_suffix.ends_with(&suffix))
    }
}

fn covers(pattern: &str, event: &str) -> bool {
    let pattern = pattern.strip_prefix("s3:").unwrap_or(pattern);
    match pattern.strip_suffix('*') {
        Some(kind) => event.starts_with(kind),
        None => event == pattern,
    }
}

fn common(a: &str, b: &str) -> bool {
    let plain = |text: &str| text.trim_start_matches("s3:").to_owned();
    a == b || covers(a, &plain(b)) || covers(b, &plain(a))
}

/// Refuses what AWS refuses, but for the destinations.
pub(crate) fn check(notifications: &[Notification]) -> Result<()> {
    if notifications.len() > MAX_NOTIFICATIONS {
        return Err(Error::argument("Too many notification configurations"));
    }
    for (index, one) in notifications.iter().enumerate() {
        if one.events.is_empty() || one.id.len() > 255 {
            return Err(Error::MalformedXml);
        }
        let unknown = |event: &&String| !EVENTS.contains(&event.as_str());
        if one.events.iter().any(|event| unknown(&event)) {
            return Err(Error::argument(
                "The event is not supported for notifications",
            ));
        }
        if notifications[..index]
            .iter()
            .any(|other| other.id == one.id)
        {
            return Err(Error::argument(
                "Same ID used for multiple configurations. IDs must be unique",
            ));
        }
        if notifications[..index]
            .iter()
            .any(|other| other.overlaps(one))
        {
            return Err(Error::argument(
                "Configuration is ambiguously defined. Cannot have overlapping suffixes in two \
                 rules if the prefixes are overlapping for the same event type.",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(id: &str, events: &[&str], prefix: &str, suffix: &str) -> Notification {
        Notification {
            id: id.into(),
            destination: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
            events: events.iter().map(|&event| event.to_owned()).collect(),
            prefix: Some(prefix.into()),
            suffix: (!suffix.is_empty()).then(|| suffix.into()),
        }
    }

    #[test]
    fn filters_choose_by_event_and_key() {
        let created = notification("1", &["s3:ObjectCreated:*"], "in/", ".jpg");
        assert!(created.wants("ObjectCreated:Put", "in/a.jpg"));
        assert!(!created.wants("ObjectCreated:Put", "out/a.jpg"));
        assert!(!created.wants("ObjectCreated:Put", "in/a.png"));
        assert!(!created.wants("ObjectRemoved:Delete", "in/a.jpg"));
        let copied = notification("2", &["s3:ObjectCreated:Copy"], "", "");
        assert!(copied.wants("ObjectCreated:Copy", "x"));
        assert!(!copied.wants("ObjectCreated:Put", "x"));
    }

    #[test]
    fn two_configurations_never_share_an_event() {
        let put = notification("1", &["s3:ObjectCreated:Put"], "in/", "");
        let all = notification("2", &["s3:ObjectCreated:*"], "", ".jpg");
        assert!(check(&[put.clone(), all.clone()]).is_err());
        let removed = notification("2", &["s3:ObjectRemoved:*"], "", "");
        assert!(check(&[put.clone(), removed]).is_ok());
        let elsewhere = notification("2", &["s3:ObjectCreated:*"], "out/", "");
        assert!(check(&[put.clone(), elsewhere]).is_ok());
        assert!(check(&[put.clone(), put]).is_err());
        assert!(check(&[notification("1", &["s3:Nonsense"], "", "")]).is_err());
    }
}
