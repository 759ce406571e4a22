use model::lambda::{GetResourcePolicyInput, GetResourcePolicyOutput};
use protocol::Caller;

use super::put_resource_policy::resolve;
use crate::Lambda;
use crate::error::Error;
use crate::policies::PolicyError;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetResourcePolicyInput,
) -> Result<GetResourcePolicyOutput, Error> {
    let address = resolve(lambda, caller, "GetResourcePolicy", &input.resource_arn)?;
    let qualifier = address.qualifier.as_ref();
    let function = lambda.functions.get(&address.id, None)?;
    let policy = function.attached.policies.get(qualifier);
    let policy = policy.ok_or(PolicyError::NoPolicy)?;
    Ok(GetResourcePolicyOutput {
        policy: Some(policy.json()),
        revision_id: Some(function.policy_revision(qualifier)?.to_owned()),
    })
}
