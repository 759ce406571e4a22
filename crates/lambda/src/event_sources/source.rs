//! Where events come from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::EventSourceError;

const BOOTSTRAP_SERVERS: &str = "KAFKA_BOOTSTRAP_SERVERS";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Arn(String),
    /// The brokers of a Kafka cluster of one's own.
    Kafka(Vec<String>),
}

/// The kinds of sources, which differ in what can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Queue { fifo: bool },
    Kinesis,
    DynamoDb,
    ManagedKafka,
    SelfManagedKafka,
    Mq,
    DocumentDb,
}

impl Source {
    /// The source that a request names.
    pub fn parse(
        arn: Option<String>,
        endpoints: Option<BTreeMap<String, Vec<String>>>,
    ) -> Result<Self, EventSourceError> {
        if let Some(mut endpoints) = endpoints {
            let brokers = endpoints.remove(BOOTSTRAP_SERVERS);
            let brokers = brokers.ok_or(EventSourceError::Unrecognized)?;
            return Ok(Self::Kafka(brokers));
        }
        let source = Self::Arn(arn.ok_or(EventSourceError::Unrecognized)?);
        match source.kind() {
            Some(_) => Ok(source),
            None => Err(EventSourceError::Unrecognized),
        }
    }

    pub fn arn(&self) -> Option<&str> {
        match self {
            Self::Arn(arn) => Some(arn),
            Self::Kafka(_) => None,
        }
    }

    pub fn endpoints(&self) -> Option<BTreeMap<String, Vec<String>>> {
        match self {
            Self::Arn(_) => None,
            Self::Kafka(brokers) => {
                let entry = (BOOTSTRAP_SERVERS.to_owned(), brokers.clone());
                Some(BTreeMap::from([entry]))
            }
        }
    }

    /// `None` for an ARN that no events come from.
    pub fn kind(&self) -> Option<Kind> {
        let arn = match self {
            Self::Kafka(_) => return Some(Kind::SelfManagedKafka),
            Self::Arn(arn) => arn,
        };
        match arn.split(':').nth(2)? {
            "sqs" => Some(Kind::Queue {
                fifo: arn.ends_with(".fifo"),
            }),
            "kinesis" => Some(Kind::Kinesis),
            "dynamodb" => Some(Kind::DynamoDb),
            "kafka" => Some(Kind::ManagedKafka),
            "mq" => Some(Kind::Mq),
            "rds" | "docdb-elastic" => Some(Kind::DocumentDb),
            _ => None,
        }
    }
}

impl Kind {
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Kinesis | Self::DynamoDb)
    }

    pub fn is_kafka(self) -> bool {
        matches!(self, Self::ManagedKafka | Self::SelfManagedKafka)
    }

    pub fn is_queue(self) -> bool {
        matches!(self, Self::Queue { .. })
    }

    pub fn default_batch_size(self) -> i32 {
        if self.is_queue() { 10 } else { 100 }
    }

    pub fn most_in_batch(self) -> i32 {
        match self {
            Self::Queue { fifo: true } => 10,
            _ => 10_000,
        }
    }

    /// AWS words it differently for streams.
    pub fn transition_reason(self) -> &'static str {
        if self.is_stream() {
            "User action"
        } else {
            "USER_INITIATED"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_follows_from_the_service_in_the_arn() {
        let kind = |arn: &str| Source::Arn(arn.to_owned()).kind();
        assert_eq!(
            kind("arn:aws:sqs:us-east-1:1:q.fifo"),
            Some(Kind::Queue { fifo: true })
        );
        assert_eq!(
            kind("arn:aws:kinesis:us-east-1:1:stream/s"),
            Some(Kind::Kinesis)
        );
        assert_eq!(
            kind("arn:aws:rds:us-east-1:1:cluster:c"),
            Some(Kind::DocumentDb)
        );
        assert_eq!(kind("arn:aws:sns:us-east-1:1:t"), None);
        assert_eq!(kind("x"), None);
        assert_eq!(
            Source::parse(None, None),
            Err(EventSourceError::Unrecognized)
        );
        let endpoints = BTreeMap::from([("OTHER".to_owned(), Vec::new())]);
        assert!(Source::parse(None, Some(endpoints)).is_err());
    }
}
