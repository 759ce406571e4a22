use model::lambda::{PublishVersionInput, PublishVersionOutput};
use protocol::Caller;

use super::source::refuse;
use crate::error::Error;
use crate::name::Qualifier;
use crate::{Lambda, configuration};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: PublishVersionInput,
) -> Result<PublishVersionOutput, Error> {
    let id = lambda.resolve_function(caller, "PublishVersion", &input.function_name)?;
    refuse(&[("PublishTo", input.publish_to.is_some())])?;
    let function = lambda.functions.get(&id, None)?;
    lambda.check_quota(&id.scope, function.latest.code.size)?;
    let now = lambda.clock.now();
    let (function, version) = lambda
        .functions
        .change(id, move |function| {
            function.check_revision(input.revision_id.as_deref())?;
            function.check_code_sha256(input.code_sha256.as_deref())?;
            function.check_settled()?;
            Ok(function.publish(input.description.clone(), now))
        })
        .await?;
    if version.waits_for_snapshot() {
        lambda.settle(function.id.clone(), Vec::new());
    }
    let qualifier = version.number.map(Qualifier::Version);
    Ok(configuration::of(
        &function,
        &version,
        qualifier.as_ref(),
        &lambda.state(&version),
    ))
}
