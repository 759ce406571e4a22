use model::lambda::{RemoveLayerVersionPermissionInput, RemoveLayerVersionPermissionOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::layers::{self, Policy, VersionId};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: RemoveLayerVersionPermissionInput,
) -> Result<RemoveLayerVersionPermissionOutput, Error> {
    let id = VersionId {
        number: layers::version_number(input.version_number)?,
        layer: layers::resolve(caller, "RemoveLayerVersionPermission", &input.layer_name)?,
    };
    let removed = lambda.layers.change_policy(id, move |policy| {
        let revision_id = input.revision_id.as_deref();
        Policy::remove(policy, &input.statement_id, revision_id)
    });
    removed.await?;
    Ok(RemoveLayerVersionPermissionOutput {})
}
