use model::lambda::{UpdateFunctionConfigurationInput, UpdateFunctionConfigurationOutput};
use protocol::Caller;

use super::source::refuse;
use crate::error::Error;
use crate::layers::Held;
use crate::settings::Changes;
use crate::{Lambda, configuration};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: UpdateFunctionConfigurationInput,
) -> Result<UpdateFunctionConfigurationOutput, Error> {
    let id =
        lambda.resolve_function(caller, "UpdateFunctionConfiguration", &input.function_name)?;
    check_supported(&input)?;
    let function = lambda.functions.get(&id, None)?;
    function.check_revision(input.revision_id.as_deref())?;
    function.check_settled()?;
    let revision_id = input.revision_id.clone();
    let mut changes = changes(input);
    let mut held = Held::default();
    changes.check(lambda.config.allow_deprecated_runtimes, |arns| {
        lambda.find_layers(caller, arns, &mut held)
    })?;
    let dead_letter = changes.dead_letter_config.as_ref();
    let dead_letter = dead_letter.and_then(|config| config.target_arn.as_deref());
    lambda.check_dead_letter(dead_letter)?;
    if let Some(layers) = &changes.layer_uses {
        let code = &function.latest.code;
        lambda.check_unzipped_size(code, layers).await?;
    }
    let (now, snap_start) = (lambda.clock.now(), lambda.config.snap_start);
    let (function, before) = lambda
        .functions
        .change(id, move |function| {
            function.check_revision(revision_id.as_deref())?;
            function.check_settled()?;
            let mut settings = function.latest.settings.clone();
            changes.clone().apply(&mut settings, snap_start)?;
            let before = function.clone();
            let code = function.latest.code;
            function.update_latest(settings, code, now);
            Ok(before)
        })
        .await?;
    drop(held);
    lambda.settle(function.id.clone(), lambda.replaced(&before, &function));
    lambda.collect_layers(&before.latest.settings, &function);
    let latest = &function.latest;
    Ok(configuration::of(
        &function,
        latest,
        None,
        &lambda.state(latest),
    ))
}

fn check_supported(input: &UpdateFunctionConfigurationInput) -> Result<(), Error> {
    refuse(&[
        ("ImageConfig", input.image_config.is_some()),
        (
            "CapacityProviderConfig",
            input.capacity_provider_config.is_some(),
        ),
        ("DurableConfig", input.durable_config.is_some()),
        ("RuntimeConfig", input.runtime_config.is_some()),
        ("AcceleratorConfig", input.accelerator_config.is_some()),
    ])
}

fn changes(input: UpdateFunctionConfigurationInput) -> Changes {
    Changes {
        description: input.description,
        role: input.role,
        runtime: input.runtime,
        handler: input.handler,
        timeout: input.timeout,
        memory_size: input.memory_size,
        ephemeral_storage: input.ephemeral_storage,
        environment: input.environment,
        kms_key_arn: input.kms_key_arn,
        tracing_config: input.tracing_config,
        vpc_config: input.vpc_config,
        dead_letter_config: input.dead_letter_config,
        file_system_configs: input.file_system_configs,
        layers: input.layers,
        layer_uses: None,
        snap_start: input.snap_start,
        logging_config: input.logging_config,
    }
}
