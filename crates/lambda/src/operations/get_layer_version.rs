use model::lambda::{GetLayerVersionInput, GetLayerVersionResponse};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::layers::{self, VersionId};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetLayerVersionInput,
) -> Result<GetLayerVersionResponse, Error> {
    let id = VersionId {
        number: layers::version_number(input.version_number)?,
        layer: layers::any(caller, &input.layer_name),
    };
    show(lambda, caller, &id)
}

/// The answer for a version of the caller's own, or for one that its policy lets the caller see.
pub fn show(
    lambda: &Lambda,
    caller: &Caller,
    id: &VersionId,
) -> Result<GetLayerVersionResponse, Error> {
    let scope = &id.layer.scope;
    let found = lambda.layers.get(id);
    let found = found.filter(|_| scope.region == caller.region);
    if scope.account != caller.account {
        let allowed = found.as_ref().is_some_and(|version| {
            let policy = version.policy.as_ref();
            policy.is_some_and(|policy| policy.allows(caller.account))
        });
        if !allowed {
            return Err(layers::denied(caller, "GetLayerVersion", id.arn()));
        }
    }
    let version = found.ok_or(Error::ResourceNotFound)?;
    let location = lambda.download_url(&version.code.digest);
    Ok(layers::of(id, &version, location))
}
