use model::lambda::{GetPolicyInput, GetPolicyOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;

/// A function that is not there has no policy either, and the answer is the same.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetPolicyInput,
) -> Result<GetPolicyOutput, Error> {
    let given = input.qualifier.as_deref();
    let address = lambda.resolve(caller, "GetPolicy", &input.function_name, given)?;
    let qualifier = address.qualifier.as_ref();
    let Ok(function) = lambda.functions.get(&address.id, None) else {
        return Err(Error::ResourceNotFound);
    };
    let policy = function.attached.policies.get(qualifier);
    let policy = policy.ok_or(Error::ResourceNotFound)?;
    Ok(GetPolicyOutput {
        policy: Some(policy.json()),
        revision_id: Some(function.policy_revision(qualifier)?.to_owned()),
    })
}
