use model::lambda::{DeleteResourcePolicyInput, DeleteResourcePolicyOutput};
use protocol::Caller;

use super::put_resource_policy::resolve;
use crate::Lambda;
use crate::error::Error;
use crate::name::LATEST;
use crate::policies::PolicyError;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: DeleteResourcePolicyInput,
) -> Result<DeleteResourcePolicyOutput, Error> {
    let address = resolve(lambda, caller, "DeleteResourcePolicy", &input.resource_arn)?;
    let qualifier = address.qualifier;
    let delete = move |function: &mut crate::function::Function| {
        let qualifier = qualifier.as_ref();
        function.check_policy_revision(qualifier, input.revision_id.as_deref())?;
        let key = qualifier.map_or_else(|| LATEST.to_owned(), ToString::to_string);
        if !function.attached.policies.drop_qualifier(&key) {
            return Err(PolicyError::NoPolicy.into());
        }
        function.touch_policy(qualifier);
        Ok(())
    };
    lambda.functions.change(address.id, delete).await?;
    Ok(DeleteResourcePolicyOutput {})
}
