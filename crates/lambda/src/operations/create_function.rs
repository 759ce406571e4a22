use std::collections::BTreeMap;
use std::sync::Arc;

use model::lambda::{CreateFunctionInput, CreateFunctionOutput};
use protocol::Caller;
use store::Revision;

use super::source::{Source, refuse};
use crate::attached::Attached;
use crate::error::{Error, InvalidParameter};
use crate::function::{Code, Function, FunctionId, Running, Snapshot, State, Version, new_id};
use crate::layers::Held;
use crate::name::MAX_NAME_LENGTH;
use crate::objects::Location;
use crate::service::resolve_function;
use crate::settings::{Changes, Settings};
use crate::{Lambda, configuration, tags};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    mut input: CreateFunctionInput,
) -> Result<CreateFunctionOutput, Error> {
    let id = resolve_function(caller, "CreateFunction", &input.function_name);
    let id = id.map_err(|error| match error {
        Error::Policy(_) => Error::CreateElsewhere,
        error => error,
    })?;
    if id.name.len() > MAX_NAME_LENGTH {
        return Err(InvalidParameter::NameTooLong { name: id.name }.into());
    }
    check_supported(&input)?;
    let source = source(&mut input);
    let publish = input.publish == Some(true);
    let code_signing = input.code_signing_config_arn.take();
    if let Some(arn) = &code_signing {
        lambda.attachable_signing_config(caller, arn)?;
    }
    let added_tags = input.tags.take().unwrap_or_default();
    let mut held = Held::default();
    let settings = settings(lambda, caller, &id, input, &mut held)?;
    lambda.check_dead_letter(settings.dead_letter_arn.as_deref())?;
    let mut tags = BTreeMap::new();
    tags::add(&mut tags, added_tags)?;
    if lambda.functions.get(&id, None).is_ok() {
        return Err(Error::FunctionExists { name: id.name });
    }
    let zip = source.zip(lambda, caller, "creating").await?;
    lambda.check_signature(&id, code_signing.as_deref())?;
    lambda.check_quota(&id.scope, zip.len() as u64)?;

    let package = lambda.code.add(zip).await?;
    let code = Code {
        digest: package.digest,
        size: package.size,
    };
    let fits = lambda.check_unzipped_size(&code, &settings.layers).await;
    if let Err(error) = fits {
        drop(package);
        lambda.collect_later(vec![code.digest]);
        return Err(error);
    }
    let now = lambda.clock.now();
    let new_id_of_function = id.clone();
    let function = lambda
        .functions
        .create(id, move |first_version| {
            let latest = Version {
                number: None,
                settings: settings.clone(),
                code,
                revision_id: new_id(),
                build: new_id(),
                modified: now,
                state: State::Pending { restoring: false },
                snapshot: Snapshot::None,
                last_update: None,
                running: Running::default(),
            };
            let mut function = Function {
                id: new_id_of_function.clone(),
                latest: Arc::new(latest),
                versions: BTreeMap::new(),
                next_version: first_version,
                first_version,
                aliases: BTreeMap::new(),
                tags: tags.clone(),
                attached: Attached {
                    code_signing: code_signing.clone(),
                    ..Attached::default()
                },
                revision: Revision::default(),
            };
            if publish {
                function.publish(None, now);
            }
            function
        })
        .await;
    drop(held);
    let function = match function {
        Ok(function) => function,
        Err(error) => {
            let digest = package.digest;
            drop(package);
            lambda.collect_later(vec![digest]);
            return Err(error);
        }
    };
    lambda.settle(function.id.clone(), Vec::new());
    // The ARN in the answer is unqualified even if a version was published.
    let version = function
        .versions
        .values()
        .next_back()
        .unwrap_or(&function.latest);
    Ok(configuration::of(&function, version, None, &version.state))
}

fn check_supported(input: &CreateFunctionInput) -> Result<(), Error> {
    let is_image = input
        .package_type
        .as_ref()
        .is_some_and(|kind| kind.as_str() == "Image");
    refuse(&[
        ("container images", is_image),
        ("ImageConfig", input.image_config.is_some()),
        ("TenancyConfig", input.tenancy_config.is_some()),
        (
            "CapacityProviderConfig",
            input.capacity_provider_config.is_some(),
        ),
        ("DurableConfig", input.durable_config.is_some()),
        ("RuntimeConfig", input.runtime_config.is_some()),
        ("AcceleratorConfig", input.accelerator_config.is_some()),
        ("PublishTo", input.publish_to.is_some()),
        ("SourceKMSKeyArn", input.code.source_kms_key_arn.is_some()),
        (
            "S3ObjectStorageMode",
            input.code.s3_object_storage_mode.is_some(),
        ),
    ])
}

fn source(input: &mut CreateFunctionInput) -> Source {
    let code = std::mem::take(&mut input.code);
    Source {
        zip_file: code.zip_file,
        from_s3: Location::new(code.s3_bucket, code.s3_key, code.s3_object_version),
        from_image: code.image_uri.is_some(),
    }
}

fn settings(
    lambda: &Lambda,
    caller: &Caller,
    id: &FunctionId,
    input: CreateFunctionInput,
    held: &mut Held,
) -> Result<Settings, Error> {
    let mut changes = Changes {
        description: input.description,
        role: None,
        runtime: input.runtime.clone(),
        handler: None,
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
    };
    changes.check(lambda.config.allow_deprecated_runtimes, |arns| {
        lambda.find_layers(caller, arns, held)
    })?;
    let (Some(runtime), Some(handler)) = (input.runtime, input.handler) else {
        return Err(InvalidParameter::NoRuntimeOrHandler.into());
    };
    let runtime = runtime.as_str().to_owned();
    let mut settings = Settings::new(&id.name, input.role, runtime, handler);
    settings.set_architectures(input.architectures.as_ref());
    changes.apply(&mut settings, lambda.config.snap_start)?;
    Ok(settings)
}
