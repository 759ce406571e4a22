use std::sync::Arc;

use model::lambda::{UpdateFunctionCodeInput, UpdateFunctionCodeOutput};
use protocol::Caller;

use super::source::{Source, refuse};
use crate::error::Error;
use crate::function::{Code, Function, Version};
use crate::name::Qualifier;
use crate::objects::Location;
use crate::{Lambda, configuration};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: UpdateFunctionCodeInput,
) -> Result<UpdateFunctionCodeOutput, Error> {
    let id = lambda.resolve_function(caller, "UpdateFunctionCode", &input.function_name)?;
    refuse(&[
        ("PublishTo", input.publish_to.is_some()),
        ("SourceKMSKeyArn", input.source_kms_key_arn.is_some()),
        (
            "S3ObjectStorageMode",
            input.s3_object_storage_mode.is_some(),
        ),
    ])?;
    let function = lambda.functions.get(&id, None)?;
    function.check_revision(input.revision_id.as_deref())?;
    function.check_settled()?;
    let source = Source {
        zip_file: input.zip_file,
        from_s3: Location::new(input.s3_bucket, input.s3_key, input.s3_object_version),
        from_image: input.image_uri.is_some(),
    };
    let zip = source.zip(lambda, caller, "updating").await?;
    lambda.check_signature(&id, function.attached.code_signing.as_deref())?;
    lambda.check_quota(&id.scope, zip.len() as u64)?;

    let package = lambda.code.add(zip).await?;
    let code = Code {
        digest: package.digest,
        size: package.size,
    };
    let layers = &function.latest.settings.layers;
    if let Err(error) = lambda.check_unzipped_size(&code, layers).await {
        drop(package);
        lambda.collect_later(vec![code.digest]);
        return Err(error);
    }
    let update = Update {
        code,
        architectures: input.architectures,
        revision_id: input.revision_id,
        publish: input.publish == Some(true),
        now: lambda.clock.now(),
    };
    if input.dry_run == Some(true) {
        let mut preview = Function::clone(&function);
        let version = update.apply(&mut preview)?;
        drop(package);
        lambda.collect_later(vec![code.digest]);
        return Ok(answer(lambda, &preview, &version));
    }
    let before = function;
    let changed = lambda
        .functions
        .change(id, move |function| update.apply(function))
        .await;
    drop(package);
    let (function, version) = match changed {
        Ok(changed) => changed,
        Err(error) => {
            lambda.collect_later(vec![code.digest]);
            return Err(error);
        }
    };
    let old_digest = before.latest.code.digest;
    lambda.settle(function.id.clone(), lambda.replaced(&before, &function));
    if old_digest != code.digest {
        lambda.collect_later(vec![old_digest]);
    }
    Ok(answer(lambda, &function, &version))
}

struct Update {
    code: Code,
    architectures: Option<Vec<model::lambda::Architecture>>,
    revision_id: Option<String>,
    publish: bool,
    now: clock::Timestamp,
}

impl Update {
    /// Returns the version to answer with: the published one, or `$LATEST`.
    fn apply(&self, function: &mut Function) -> Result<Arc<Version>, Error> {
        function.check_revision(self.revision_id.as_deref())?;
        function.check_settled()?;
        let mut settings = function.latest.settings.clone();
        settings.set_architectures(self.architectures.as_ref());
        function.update_latest(settings, self.code, self.now);
        if self.publish {
            return Ok(function.publish(None, self.now));
        }
        Ok(Arc::clone(&function.latest))
    }
}

/// A published version is answered with its qualified ARN.
fn answer(lambda: &Lambda, function: &Function, version: &Version) -> UpdateFunctionCodeOutput {
    let qualifier = version.number.map(Qualifier::Version);
    configuration::of(
        function,
        version,
        qualifier.as_ref(),
        &lambda.state(version),
    )
}
