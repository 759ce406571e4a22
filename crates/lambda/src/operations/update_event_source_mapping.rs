use model::lambda::{UpdateEventSourceMappingInput, UpdateEventSourceMappingOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::event_sources::{Changes, EventSourceError, Transition, of, warn_of_no_poller};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: UpdateEventSourceMappingInput,
) -> Result<UpdateEventSourceMappingOutput, Error> {
    let id = input.uuid;
    let (scope, current) = lambda.mapping(caller, &id)?;
    let kind = current.source.kind();
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
    changes.check(kind, false)?;
    let kind = kind.ok_or(EventSourceError::Unrecognized)?;
    let action = "UpdateEventSourceMapping";
    let function = input.function_name.as_deref();
    let function = function.map(|name| lambda.mapped_function(caller, action, name));
    let function = function.transpose()?;
    let enabled = input.enabled;
    let now = lambda.clock.now();
    let settled = lambda.mapping_settles(now);
    let changed = lambda.mappings.change(&scope, &id, move |mapping| {
        mapping.check_settled(now, "update")?;
        changes.apply(&mut mapping.settings, kind)?;
        if let Some((function, arn)) = function {
            mapping.function_name = function.name;
            mapping.function_arn = arn;
        }
        mapping.transition = match enabled {
            Some(true) if !mapping.enabled => Transition::Enabling,
            Some(false) if mapping.enabled => Transition::Disabling,
            _ => Transition::Updating,
        };
        mapping.enabled = enabled.unwrap_or(mapping.enabled);
        mapping.modified = now;
        mapping.settled = settled;
        Ok(())
    });
    let mapping = changed.await?.ok_or(Error::ResourceNotFound)?;
    if mapping.transition == Transition::Enabling {
        warn_of_no_poller(&id, &mapping);
    }
    Ok(of(&mapping, &scope, &id, mapping.transition.name()))
}
