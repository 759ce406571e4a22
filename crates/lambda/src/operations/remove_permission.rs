use model::lambda::{RemovePermissionInput, RemovePermissionOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::policies::PolicyError;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: RemovePermissionInput,
) -> Result<RemovePermissionOutput, Error> {
    let given = input.qualifier.as_deref();
    let address = lambda.resolve(caller, "RemovePermission", &input.function_name, given)?;
    if lambda.functions.get(&address.id, None).is_err() {
        let arn = address.id.arn();
        return Err(PolicyError::NoFunction { arn }.into());
    }
    let qualifier = address.qualifier;
    let remove = move |function: &mut crate::function::Function| {
        let qualifier = qualifier.as_ref();
        // A qualifier that leads nowhere is told before the revision is looked at, and a statement
        // that is not there, too.
        function.check_policy_revision(qualifier, None)?;
        let mut policies = function.attached.policies.clone();
        policies.remove(qualifier, &input.statement_id)?;
        function.check_policy_revision(qualifier, input.revision_id.as_deref())?;
        function.attached.policies = policies;
        function.touch_policy(qualifier);
        Ok(())
    };
    lambda.functions.change(address.id, remove).await?;
    Ok(RemovePermissionOutput {})
}
