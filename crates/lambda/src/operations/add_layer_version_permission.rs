use model::lambda::{AddLayerVersionPermissionInput, AddLayerVersionPermissionOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::layers::{self, Policy, Statement, VersionId};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: AddLayerVersionPermissionInput,
) -> Result<AddLayerVersionPermissionOutput, Error> {
    let id = VersionId {
        number: layers::version_number(input.version_number)?,
        layer: layers::resolve(caller, "AddLayerVersionPermission", &input.layer_name)?,
    };
    let statement = Statement {
        id: input.statement_id,
        action: input.action,
        principal: input.principal,
        organization: input.organization_id,
        resource: id.arn(),
    };
    statement.check()?;
    let added = lambda.layers.change_policy(id, move |policy| {
        Policy::add(policy, statement, input.revision_id.as_deref())
    });
    let (statement, revision_id) = added.await?;
    Ok(AddLayerVersionPermissionOutput {
        statement: Some(statement),
        revision_id: Some(revision_id),
    })
}
