use std::collections::BTreeMap;

use model::lambda::{CreateEventSourceMappingInput, CreateEventSourceMappingOutput};
use protocol::Caller;

use crate::error::Error;
use crate::event_sources::{
    Changes, EventSourceError, Mapping, Origin, Settings, Source, Transition, of, warn_of_no_poller,
};
use crate::function::{Scope, new_id};
use crate::{Lambda, tags};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: CreateEventSourceMappingInput,
) -> Result<CreateEventSourceMappingOutput, Error> {
    let scope = Scope {
        account: caller.account,
        region: caller.region.clone(),
    };
    let endpoints = input
        .self_managed_event_source
        .and_then(|own| own.endpoints);
    let changes = Changes {
        batch_size: input.batch_size,
        filter_criteria: input.filter_criteria,
        kms_key_arn: input.kms_key_arn,
        metrics_config: input.metrics_config,
        logging_config: input.logging_config,
        scaling_config: input.scaling_config,
        window_s: input.maximum_batching_window_in_seconds,
        parallelization: input.parallelization_factor,
        destinations: input.destination_config,
        record_age_s: input.maximum_record_age_in_seconds,
        bisect: input.bisect_batch_on_function_error,
        retries: input.maximum_retry_attempts,
        tumbling_window_s: input.tumbling_window_in_seconds,
        access: input.source_access_configurations,
        response_types: input.function_response_types,
        managed_kafka: input.amazon_managed_kafka_event_source_config,
        self_managed_kafka: input.self_managed_kafka_event_source_config,
        document_db: input.document_db_event_source_config,
        pollers: input.provisioned_poller_config,
    };
    let source = Source::parse(input.event_source_arn, endpoints);
    changes.check(source.as_ref().ok().and_then(Source::kind), true)?;
    let source = source?;
    let kind = source.kind().ok_or(EventSourceError::Unrecognized)?;
    let id = new_id();
    let origin = Origin {
        starting_position: input.starting_position,
        starting_timestamp: input.starting_position_timestamp,
        topics: input.topics,
        queues: input.queues,
    };
    let mut settings = Settings::new(&source, kind, &id, origin)?;
    changes.apply(&mut settings, kind)?;
    let action = "CreateEventSourceMapping";
    let (function, function_arn) = lambda.mapped_function(caller, action, &input.function_name)?;
    let now = lambda.clock.now();
    let mut mapping = Mapping {
        function_name: function.name,
        function_arn,
        source,
        settings,
        enabled: input.enabled != Some(false),
        modified: now,
        transition: Transition::Creating,
        settled: lambda.mapping_settles(now),
        tags: BTreeMap::new(),
    };
    // There is nothing to start.
    if !mapping.enabled {
        mapping.settled = now;
    }
    tags::add(&mut mapping.tags, input.tags.unwrap_or_default())?;
    let wanted = mapping.clone();
    let refuse = move |id: &str, other: &Mapping| other.conflict(id, &wanted);
    let mapping = lambda.mappings.add(&scope, &id, mapping, refuse).await?;
    warn_of_no_poller(&id, &mapping);
    let state = match mapping.enabled {
        true => mapping.transition.name(),
        false => mapping.state(now),
    };
    Ok(of(&mapping, &scope, &id, state))
}
