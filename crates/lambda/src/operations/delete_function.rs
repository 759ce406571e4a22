use model::lambda::{DeleteFunctionInput, DeleteFunctionOutput};
use protocol::Caller;

use crate::error::{Error, InvalidParameter};
use crate::function::FunctionId;
use crate::name::Qualifier;
use crate::{Lambda, concurrency};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: DeleteFunctionInput,
) -> Result<DeleteFunctionOutput, Error> {
    let name = &input.function_name;
    let address = lambda.resolve(caller, "DeleteFunction", name, input.qualifier.as_deref())?;
    match address.qualifier {
        None => delete_all(lambda, address.id).await?,
        Some(Qualifier::Latest) => return Err(InvalidParameter::DeleteLatest.into()),
        Some(Qualifier::Version(number)) => delete_version(lambda, address.id, number).await?,
        Some(Qualifier::Alias(_)) => return Err(InvalidParameter::DeleteAliasAsVersion.into()),
    }
    Ok(DeleteFunctionOutput {
        status_code: Some(204),
    })
}

async fn delete_all(lambda: &Lambda, id: FunctionId) -> Result<(), Error> {
    let deleted = lambda.functions.delete(id).await?;
    lambda.capacity.tell(&deleted.id);
    for version in deleted.all_versions() {
        lambda.workers.retire(&lambda.runnable(&deleted, version));
    }
    lambda.collect_later(
        deleted
            .all_versions()
            .flat_map(|version| version.digests())
            .collect(),
    );
    Ok(())
}

/// Deleting a version that is not there is no error, as on AWS.
async fn delete_version(lambda: &Lambda, id: FunctionId, number: u64) -> Result<(), Error> {
    if !lambda
        .functions
        .get(&id, None)?
        .versions
        .contains_key(&number)
    {
        return Ok(());
    }
    let removed = lambda.functions.change(id, move |function| {
        let removed = function.remove_version(number)?;
        concurrency::forget(function, &Qualifier::Version(number));
        Ok(removed)
    });
    if let (function, Some(version)) = removed.await? {
        lambda.capacity.tell(&function.id);
        lambda.workers.retire(&lambda.runnable(&function, &version));
        lambda.collect_later(version.digests().collect());
    }
    Ok(())
}
