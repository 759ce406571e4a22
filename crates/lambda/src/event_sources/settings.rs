//! What can be set of a mapping, its defaults, and what goes with which kind of source.

use clock::Timestamp;
use model::lambda as wire;
use serde::{Deserialize, Serialize};

use super::{EventSourceError, Kind, Source, is_pattern};

/// AWS raises it to ten on request.
const MAX_FILTERS: usize = 5;
const MOST_WITHOUT_WINDOW: i32 = 10;
const LEAST_RECORD_AGE_S: i32 = 60;
const FOREVER: i32 = -1;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub batch_size: i32,
    pub window_s: Option<i32>,
    pub filters: Vec<String>,
    pub kms_key_arn: Option<String>,
    pub metrics: Option<Vec<String>>,
    pub system_log_level: Option<String>,
    pub maximum_concurrency: Option<i32>,
    pub parallelization: Option<i32>,
    pub starting_position: Option<String>,
    pub starting_timestamp: Option<Timestamp>,
    pub on_failure: Option<String>,
    pub record_age_s: Option<i32>,
    pub bisect: Option<bool>,
    pub retries: Option<i32>,
    pub tumbling_window_s: Option<i32>,
    pub response_types: Vec<String>,
    pub topics: Vec<String>,
    pub queues: Vec<String>,
    pub access: Option<Vec<Access>>,
    pub kafka: Option<Kafka>,
    pub document_db: Option<DocumentDb>,
    pub pollers: Option<Pollers>,
}

/// How to get into a source: a kind of credentials and where they lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Access {
    pub kind: Option<String>,
    pub uri: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kafka {
    pub consumer_group: String,
    pub registry: Option<Registry>,
    pub consumption_mode: Option<String>,
}

/// Where the schemas of records are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    pub uri: Option<String>,
    pub record_format: Option<String>,
    pub access: Option<Vec<Access>>,
    pub validated: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DocumentDb {
    pub database: Option<String>,
    pub collection: Option<String>,
    pub full_document: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pollers {
    pub minimum: Option<i32>,
    pub maximum: Option<i32>,
    pub group: Option<String>,
}

/// What a request sets; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub batch_size: Option<i32>,
    pub filter_criteria: Option<wire::FilterCriteria>,
    pub kms_key_arn: Option<String>,
    pub metrics_config: Option<wire::EventSourceMappingMetricsConfig>,
    pub logging_config: Option<wire::EventSourceMappingLoggingConfig>,
    pub scaling_config: Option<wire::ScalingConfig>,
    pub window_s: Option<i32>,
    pub parallelization: Option<i32>,
    pub destinations: Option<wire::DestinationConfig>,
    pub record_age_s: Option<i32>,
    pub bisect: Option<bool>,
    pub retries: Option<i32>,
    pub tumbling_window_s: Option<i32>,
    pub access: Option<Vec<wire::SourceAccessConfiguration>>,
    pub response_types: Option<Vec<wire::FunctionResponseType>>,
    pub managed_kafka: Option<wire::AmazonManagedKafkaEventSourceConfig>,
    pub self_managed_kafka: Option<wire::SelfManagedKafkaEventSourceConfig>,
    pub document_db: Option<wire::DocumentDBEventSourceConfig>,
    pub pollers: Option<wire::ProvisionedPollerConfig>,
}

/// What only the creation of a mapping can set.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub starting_position: Option<wire::EventSourcePosition>,
    pub starting_timestamp: Option<Timestamp>,
    pub topics: Option<Vec<String>>,
    pub queues: Option<Vec<String>>,
}

impl Settings {
    /// The settings of a new mapping, before what its request sets is applied.
    pub fn new(
        source: &Source,
        kind: Kind,
        id: &str,
        origin: Origin,
    ) -> Result<Self, EventSourceError> {
        let position = origin
            .starting_position
            .map(|text| text.as_str().to_owned());
        let mut settings = Self {
            batch_size: kind.default_batch_size(),
            topics: origin.topics.unwrap_or_default(),
            queues: origin.queues.unwrap_or_default(),
            ..Self::default()
        };
        if kind.is_queue() || kind.is_stream() {
            settings.window_s = Some(0);
        }
        if kind.is_stream() {
            settings.parallelization = Some(1);
            settings.record_age_s = Some(FOREVER);
            settings.retries = Some(FOREVER);
            settings.bisect = Some(false);
            settings.tumbling_window_s = Some(0);
        }
        if kind.is_kafka() {
            settings.kafka = Some(Kafka {
                consumer_group: id.to_owned(),
                ..Kafka::default()
            });
        }
        settings.starting_position = match (kind, position) {
            (Kind::Queue { .. } | Kind::Mq, Some(_)) => {
                let name = "StartingPosition";
                return Err(EventSourceError::Unsupported { name });
            }
            (Kind::Queue { .. } | Kind::Mq, None) => None,
            (Kind::ManagedKafka | Kind::SelfManagedKafka, None) => Some("TRIM_HORIZON".to_owned()),
            (_, None) => {
                let name = "startingPosition";
                return Err(EventSourceError::Null { name });
            }
            (Kind::DynamoDb, Some(position)) if position == "AT_TIMESTAMP" => {
                let arn = source.arn().unwrap_or_default().to_owned();
                return Err(EventSourceError::StartingPosition { arn });
            }
            (_, Some(position)) => Some(position),
        };
        if settings.starting_position.as_deref() == Some("AT_TIMESTAMP") {
            let given = origin.starting_timestamp;
            settings.starting_timestamp = Some(given.ok_or(EventSourceError::NoTimestamp)?);
        }
        let missing = |name| Err(EventSourceError::Missing { name });
        match kind {
            _ if kind.is_kafka() && settings.topics.is_empty() => missing("topics"),
            Kind::Mq if settings.queues.is_empty() => missing("queues"),
            _ => Ok(settings),
        }
    }
}

impl Changes {
    /// What can be said before the function is looked for.
    pub fn check(&self, kind: Option<Kind>, creating: bool) -> Result<(), EventSourceError> {
        let successes = self
            .destinations
            .as_ref()
            .and_then(|all| all.on_success.as_ref());
        if successes.is_some() {
            let name = "DestinationConfig";
            return Err(EventSourceError::Unsupported { name });
        }
        let Some(kind) = kind else {
            return Err(EventSourceError::Unrecognized);
        };
        if let Some(name) = self.unsupported(kind) {
            return Err(EventSourceError::Unsupported { name });
        }
        let needs_access = matches!(kind, Kind::SelfManagedKafka | Kind::Mq | Kind::DocumentDb);
        if creating && needs_access && self.access.is_none() {
            let name = "sourceAccessConfigurations";
            return Err(EventSourceError::Missing { name });
        }
        if creating && kind == Kind::DocumentDb && self.document_db.is_none() {
            let name = "documentDBEventSourceConfig";
            return Err(EventSourceError::Missing { name });
        }
        let most = kind.most_in_batch();
        if self.batch_size.is_some_and(|size| size > most) {
            return Err(EventSourceError::BatchSize { most });
        }
        let ages = FOREVER + 1..LEAST_RECORD_AGE_S;
        if let Some(value) = self.record_age_s.filter(|age| ages.contains(age)) {
            return Err(EventSourceError::RecordAge { value });
        }
        self.check_filters()
    }

    fn check_filters(&self) -> Result<(), EventSourceError> {
        let criteria = self.filter_criteria.as_ref();
        let filters = criteria.and_then(|criteria| criteria.filters.as_deref());
        let filters = filters.unwrap_or_default();
        let valid = |filter: &wire::Filter| filter.pattern.as_deref().is_some_and(is_pattern);
        if !filters.iter().all(valid) {
            return Err(EventSourceError::Filter);
        }
        if filters.len() > MAX_FILTERS {
            return Err(EventSourceError::TooManyFilters { most: MAX_FILTERS });
        }
        Ok(())
    }

    /// The first member that does not go with the kind of source.
    fn unsupported(&self, kind: Kind) -> Option<&'static str> {
        let (stream, queue, kafka) = (kind.is_stream(), kind.is_queue(), kind.is_kafka());
        let members = [
            (
                "DestinationConfig",
                self.destinations.is_some(),
                stream || kafka,
            ),
            (
                "ParallelizationFactor",
                self.parallelization.is_some(),
                stream,
            ),
            (
                "MaximumRecordAgeInSeconds",
                self.record_age_s.is_some(),
                stream || kafka,
            ),
            (
                "BisectBatchOnFunctionError",
                self.bisect.is_some(),
                stream || kafka,
            ),
            (
                "MaximumRetryAttempts",
                self.retries.is_some(),
                stream || kafka,
            ),
            (
                "TumblingWindowInSeconds",
                self.tumbling_window_s.is_some(),
                stream,
            ),
            ("ScalingConfig", self.scaling_config.is_some(), queue),
            (
                "SourceAccessConfigurations",
                self.access.is_some(),
                !stream && !queue,
            ),
            (
                "FunctionResponseTypes",
                self.response_types.is_some(),
                stream || queue || kafka,
            ),
            (
                "AmazonManagedKafkaEventSourceConfig",
                self.managed_kafka.is_some(),
                kind == Kind::ManagedKafka,
            ),
            (
                "SelfManagedKafkaEventSourceConfig",
                self.self_managed_kafka.is_some(),
                kind == Kind::SelfManagedKafka,
            ),
            (
                "DocumentDBEventSourceConfig",
                self.document_db.is_some(),
                kind == Kind::DocumentDb,
            ),
            (
                "ProvisionedPollerConfig",
                self.pollers.is_some(),
                kafka || queue,
            ),
        ];
        let unfit = members.iter().find(|(_, given, fits)| *given && !fits);
        unfit.map(|(name, _, _)| *name)
    }

    /// Applies changes that passed [`Changes::check`].
    pub fn apply(self, settings: &mut Settings, kind: Kind) -> Result<(), EventSourceError> {
        fn keep<T>(place: &mut Option<T>, value: Option<T>) {
            if value.is_some() {
                *place = value;
            }
        }
        settings.batch_size = self.batch_size.unwrap_or(settings.batch_size);
        keep(&mut settings.window_s, self.window_s);
        if let Some(criteria) = self.filter_criteria {
            let filters = criteria.filters.unwrap_or_default();
            settings.filters = filters.into_iter().filter_map(|one| one.pattern).collect();
        }
        if let Some(key) = self.kms_key_arn {
            settings.kms_key_arn = (!key.is_empty()).then_some(key);
        }
        if let Some(config) = self.metrics_config {
            let names = |list: Vec<wire::EventSourceMappingMetric>| {
                list.iter().map(|one| one.as_str().to_owned()).collect()
            };
            settings.metrics = config.metrics.map(names);
        }
        if let Some(config) = self.logging_config {
            settings.system_log_level = config.system_log_level.map(|one| one.as_str().to_owned());
        }
        if let Some(config) = self.scaling_config {
            settings.maximum_concurrency = config.maximum_concurrency;
        }
        keep(&mut settings.parallelization, self.parallelization);
        if let Some(destinations) = self.destinations {
            let failures = destinations.on_failure.and_then(|one| one.destination);
            settings.on_failure = failures.filter(|arn| !arn.is_empty());
        }
        keep(&mut settings.record_age_s, self.record_age_s);
        keep(&mut settings.bisect, self.bisect);
        keep(&mut settings.retries, self.retries);
        keep(&mut settings.tumbling_window_s, self.tumbling_window_s);
        if let Some(types) = self.response_types {
            settings.response_types = types.iter().map(|one| one.as_str().to_owned()).collect();
        }
        keep(&mut settings.access, self.access.map(accesses));
        if let Some(kafka) = &mut settings.kafka {
            if let Some(config) = self.managed_kafka {
                kafka.set(config.consumer_group_id, config.schema_registry_config);
            }
            if let Some(config) = self.self_managed_kafka {
                kafka.set(config.consumer_group_id, config.schema_registry_config);
                let mode = config.consumption_mode;
                keep(
                    &mut kafka.consumption_mode,
                    mode.map(|one| one.as_str().to_owned()),
                );
            }
        }
        if let Some(config) = self.document_db {
            settings.document_db = Some(DocumentDb {
                database: config.database_name,
                collection: config.collection_name,
                full_document: config.full_document.map(|one| one.as_str().to_owned()),
            });
        }
        if let Some(config) = self.pollers {
            settings.pollers = Some(Pollers {
                minimum: config.minimum_pollers,
                maximum: config.maximum_pollers,
                group: config.poller_group_name,
            });
        }
        let windowless = settings.window_s.unwrap_or(0) == 0;
        if kind.is_queue() && settings.batch_size > MOST_WITHOUT_WINDOW && windowless {
            return Err(EventSourceError::NoWindow);
        }
        Ok(())
    }
}

impl Kafka {
    fn set(&mut self, group: Option<String>, registry: Option<wire::KafkaSchemaRegistryConfig>) {
        if let Some(group) = group {
            self.consumer_group = group;
        }
        if let Some(registry) = registry {
            self.registry = Some(Registry {
                uri: registry.schema_registry_uri,
                record_format: registry
                    .event_record_format
                    .map(|format| format.as_str().to_owned()),
                access: registry.access_configs.map(|list| {
                    let access = |one: wire::KafkaSchemaRegistryAccessConfig| Access {
                        kind: one.type_.map(|kind| kind.as_str().to_owned()),
                        uri: one.uri,
                    };
                    list.into_iter().map(access).collect()
                }),
                validated: registry.schema_validation_configs.map(|list| {
                    let attributes = list.into_iter().filter_map(|one| one.attribute);
                    attributes.map(|one| one.as_str().to_owned()).collect()
                }),
            });
        }
    }
}

fn accesses(list: Vec<wire::SourceAccessConfiguration>) -> Vec<Access> {
    let access = |one: wire::SourceAccessConfiguration| Access {
        kind: one.type_.map(|kind| kind.as_str().to_owned()),
        uri: one.uri,
    };
    list.into_iter().map(access).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arn: &str, changes: Changes) -> Result<Settings, EventSourceError> {
        let source = Source::Arn(arn.to_owned());
        let kind = source.kind().unwrap();
        let origin = Origin {
            starting_position: kind.is_stream().then(|| "LATEST".into()),
            ..Origin::default()
        };
        changes.check(Some(kind), true)?;
        let mut settings = Settings::new(&source, kind, "id", origin)?;
        changes.apply(&mut settings, kind)?;
        Ok(settings)
    }

    const QUEUE: &str = "arn:aws:sqs:us-east-1:1:q";
    const STREAM: &str = "arn:aws:kinesis:us-east-1:1:stream/s";

    #[test]
    fn a_large_batch_of_a_queue_needs_a_window() {
        let batch = |batch_size, window_s| Changes {
            batch_size: Some(batch_size),
            window_s,
            ..Changes::default()
        };
        assert_eq!(
            settings(QUEUE, batch(11, None)),
            Err(EventSourceError::NoWindow)
        );
        assert_eq!(
            settings(QUEUE, batch(10_000, Some(1))).unwrap().batch_size,
            10_000
        );
        assert!(settings(STREAM, batch(11, None)).is_ok());
        let fifo = settings("arn:aws:sqs:us-east-1:1:q.fifo", batch(11, Some(1)));
        assert_eq!(fifo, Err(EventSourceError::BatchSize { most: 10 }));
    }

    #[test]
    fn what_does_not_go_with_the_source_is_refused_by_name() {
        let retries = || Changes {
            retries: Some(2),
            ..Changes::default()
        };
        assert_eq!(
            settings(QUEUE, retries()).unwrap_err().to_string(),
            "Unsupported MaximumRetryAttempts parameter for given event source mapping type."
        );
        assert_eq!(settings(STREAM, retries()).unwrap().retries, Some(2));
        let success = Changes {
            destinations: Some(wire::DestinationConfig {
                on_success: Some(wire::OnSuccess::default()),
                ..wire::DestinationConfig::default()
            }),
            ..Changes::default()
        };
        assert!(settings(STREAM, success).is_err());
    }

    #[test]
    fn filters_and_ages_are_checked() {
        let filter = |pattern: &str, count: usize| {
            let one = wire::Filter {
                pattern: Some(pattern.to_owned()),
            };
            Changes {
                filter_criteria: Some(wire::FilterCriteria {
                    filters: Some(vec![one; count]),
                }),
                ..Changes::default()
            }
        };
        let good = r#"{"a": ["x"]}"#;
        assert_eq!(settings(QUEUE, filter(good, 5)).unwrap().filters.len(), 5);
        assert!(settings(QUEUE, filter(good, 6)).is_err());
        assert_eq!(
            settings(QUEUE, filter("null", 1)),
            Err(EventSourceError::Filter)
        );
        let age = |value| Changes {
            record_age_s: Some(value),
            ..Changes::default()
        };
        assert!(settings(STREAM, age(59)).is_err());
        assert!(settings(STREAM, age(-1)).is_ok() && settings(STREAM, age(60)).is_ok());
    }

    #[test]
    fn streams_need_a_starting_position() {
        let source = Source::Arn(STREAM.to_owned());
        let error = Settings::new(&source, Kind::Kinesis, "id", Origin::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy \
             constraint: Member must not be null."
        );
        let at = Origin {
            starting_position: Some("AT_TIMESTAMP".into()),
            ..Origin::default()
        };
        let kinesis = Settings::new(&source, Kind::Kinesis, "id", at.clone());
        assert_eq!(kinesis, Err(EventSourceError::NoTimestamp));
        let dynamo = Settings::new(&source, Kind::DynamoDb, "id", at);
        assert!(matches!(
            dynamo,
            Err(EventSourceError::StartingPosition { .. })
        ));
    }
}
