use model::lambda::{AddPermissionInput, AddPermissionOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::name::Qualifier;
use crate::policies::{PolicyError, statement};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: AddPermissionInput,
) -> Result<AddPermissionOutput, Error> {
    let given = input.qualifier.as_deref();
    let address = lambda.resolve(caller, "AddPermission", &input.function_name, given)?;
    if address.qualifier == Some(Qualifier::Latest) {
        return Err(PolicyError::Latest.into());
    }
    let qualifier = address.qualifier;
    let add = move |function: &mut crate::function::Function| {
        let qualifier = qualifier.as_ref();
        function.check_policy_revision(qualifier, input.revision_id.as_deref())?;
        let statement = statement(&function.policy_arn(qualifier), &input)?;
        let text = statement.to_string();
        let policies = &mut function.attached.policies;
        policies.add(qualifier, &input.statement_id, statement)?;
        function.touch_policy(qualifier);
        Ok(text)
    };
    let (_, statement) = lambda.functions.change(address.id, add).await?;
    Ok(AddPermissionOutput {
        statement: Some(statement),
    })
}
