//! How a mapping appears in answers.

use clock::Timestamp;
use model::lambda as wire;

use super::settings::{Access, Registry};
use super::{Kind, Mapping, Settings, arn};
use crate::function::Scope;

/// The answer for a mapping in the state `state`. Members that do not go with its kind of source are
/// left out.
pub fn of(
    mapping: &Mapping,
    scope: &Scope,
    id: &str,
    state: &str,
) -> wire::EventSourceMappingConfiguration {
    let settings = &mapping.settings;
    let kind = mapping.source.kind();
    let stream = kind.is_some_and(Kind::is_stream);
    let kafka = kind.is_some_and(Kind::is_kafka);
    let typed = stream || kind.is_some_and(Kind::is_queue) || !settings.response_types.is_empty();
    let processed = (stream || kafka).then(|| "No records processed".to_owned());
    let list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    wire::EventSourceMappingConfiguration {
        uuid: Some(id.to_owned()),
        starting_position: settings.starting_position.as_deref().map(Into::into),
        starting_position_timestamp: settings.starting_timestamp,
        batch_size: Some(settings.batch_size),
        maximum_batching_window_in_seconds: settings.window_s,
        parallelization_factor: settings.parallelization,
        event_source_arn: mapping.source.arn().map(str::to_owned),
        filter_criteria: filters(settings),
        filter_criteria_error: None,
        kms_key_arn: settings.kms_key_arn.clone(),
        metrics_config: settings.metrics.as_ref().map(|metrics| {
            let metrics = metrics.iter().map(|name| name.as_str().into()).collect();
            wire::EventSourceMappingMetricsConfig {
                metrics: Some(metrics),
            }
        }),
        logging_config: settings.system_log_level.as_deref().map(|level| {
            wire::EventSourceMappingLoggingConfig {
                system_log_level: Some(level.into()),
            }
        }),
        scaling_config: settings
            .maximum_concurrency
            .map(|most| wire::ScalingConfig {
                maximum_concurrency: Some(most),
            }),
        function_arn: Some(mapping.function_arn.clone()),
        last_modified: Some(whole_seconds(mapping.modified)),
        last_processing_result: processed,
        state: Some(state.to_owned()),
        state_transition_reason: kind.map(|kind| kind.transition_reason().to_owned()),
        destination_config: (stream || settings.on_failure.is_some()).then(|| {
            wire::DestinationConfig {
                on_success: None,
                on_failure: Some(wire::OnFailure {
                    destination: settings.on_failure.clone(),
                }),
            }
        }),
        topics: list(&settings.topics),
        queues: list(&settings.queues),
        source_access_configurations: settings.access.as_deref().map(accesses),
        self_managed_event_source: mapping.source.endpoints().map(|endpoints| {
            wire::SelfManagedEventSource {
                endpoints: Some(endpoints),
            }
        }),
        maximum_record_age_in_seconds: settings.record_age_s,
        bisect_batch_on_function_error: settings.bisect,
        maximum_retry_attempts: settings.retries,
        tumbling_window_in_seconds: settings.tumbling_window_s,
        function_response_types: typed.then(|| {
            let types = settings.response_types.iter();
            types.map(|name| name.as_str().into()).collect()
        }),
        amazon_managed_kafka_event_source_config: managed_kafka(mapping),
        self_managed_kafka_event_source_config: self_managed_kafka(mapping),
        document_db_event_source_config: settings.document_db.as_ref().map(|config| {
            wire::DocumentDBEventSourceConfig {
                database_name: config.database.clone(),
                collection_name: config.collection.clone(),
                full_document: config.full_document.as_deref().map(Into::into),
            }
        }),
        event_source_mapping_arn: Some(arn(scope, id)),
        provisioned_poller_config: settings.pollers.as_ref().map(|config| {
            wire::ProvisionedPollerConfig {
                minimum_pollers: config.minimum,
                maximum_pollers: config.maximum,
                poller_group_name: config.group.clone(),
            }
        }),
    }
}

/// AWS keeps no fractions of a second here.
fn whole_seconds(moment: Timestamp) -> Timestamp {
    Timestamp::from_secs(moment.as_secs())
}

fn filters(settings: &Settings) -> Option<wire::FilterCriteria> {
    let filter = |pattern: &String| wire::Filter {
        pattern: Some(pattern.clone()),
    };
    let filters: Vec<_> = settings.filters.iter().map(filter).collect();
    (!filters.is_empty()).then_some(wire::FilterCriteria {
        filters: Some(filters),
    })
}

fn accesses(list: &[Access]) -> Vec<wire::SourceAccessConfiguration> {
    let access = |one: &Access| wire::SourceAccessConfiguration {
        type_: one.kind.as_deref().map(Into::into),
        uri: one.uri.clone(),
    };
    list.iter().map(access).collect()
}

fn managed_kafka(mapping: &Mapping) -> Option<wire::AmazonManagedKafkaEventSourceConfig> {
    let kafka = mapping.settings.kafka.as_ref()?;
    (mapping.source.kind()? == Kind::ManagedKafka).then(|| {
        wire::AmazonManagedKafkaEventSourceConfig {
            consumer_group_id: Some(kafka.consumer_group.clone()),
            schema_registry_config: kafka.registry.as_ref().map(registry),
        }
    })
}

fn self_managed_kafka(mapping: &Mapping) -> Option<wire::SelfManagedKafkaEventSourceConfig> {
    let kafka = mapping.settings.kafka.as_ref()?;
    (mapping.source.kind()? == Kind::SelfManagedKafka).then(|| {
        wire::SelfManagedKafkaEventSourceConfig {
            consumer_group_id: Some(kafka.consumer_group.clone()),
            schema_registry_config: kafka.registry.as_ref().map(registry),
            consumption_mode: kafka.consumption_mode.as_deref().map(Into::into),
        }
    })
}

fn registry(registry: &Registry) -> wire::KafkaSchemaRegistryConfig {
    wire::KafkaSchemaRegistryConfig {
        schema_registry_uri: registry.uri.clone(),
        event_record_format: registry.record_format.as_deref().map(Into::into),
        access_configs: registry.access.as_ref().map(|list| {
            let access = |one: &Access| wire::KafkaSchemaRegistryAccessConfig {
                type_: one.kind.as_deref().map(Into::into),
                uri: one.uri.clone(),
            };
            list.iter().map(access).collect()
        }),
        schema_validation_configs: registry.validated.as_ref().map(|list| {
            let validated = |name: &String| wire::KafkaSchemaValidationConfig {
                attribute: Some(name.as_str().into()),
            };
            list.iter().map(validated).collect()
        }),
    }
}
