use model::lambda::{PutResourcePolicyInput, PutResourcePolicyOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::name::Qualifier;
use crate::policies::{Policy, PolicyError};
use crate::service::Address;

/// Nothing recorded shows these operations; they follow AWS's description of them.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: PutResourcePolicyInput,
) -> Result<PutResourcePolicyOutput, Error> {
    let address = resolve(lambda, caller, "PutResourcePolicy", &input.resource_arn)?;
    if address.qualifier == Some(Qualifier::Latest) {
        return Err(PolicyError::Latest.into());
    }
    let qualifier = address.qualifier.clone();
    let put = move |function: &mut crate::function::Function| {
        let qualifier = qualifier.as_ref();
        function.check_policy_revision(qualifier, input.revision_id.as_deref())?;
        let policy = Policy::parse(&input.policy, &function.policy_arn(qualifier))?;
        let denies = policy.denies_anything();
        let text = policy.json();
        function.attached.policies.put(qualifier, policy);
        function.touch_policy(qualifier);
        Ok((text, denies))
    };
    let (function, (policy, denies)) = lambda.functions.change(address.id, put).await?;
    if denies {
        lambda.note_denial();
    }
    let revision_id = function.policy_revision(address.qualifier.as_ref())?;
    Ok(PutResourcePolicyOutput {
        policy: Some(policy),
        revision_id: Some(revision_id.to_owned()),
    })
}

/// The function, version or alias that an ARN names. Runtimes have ARNs, too, but no policies here.
pub fn resolve(
    lambda: &Lambda,
    caller: &Caller,
    action: &'static str,
    arn: &str,
) -> Result<Address, Error> {
    if !arn.contains(":function:") {
        return Err(Error::NotSupported {
            what: "policies of runtimes",
            advice: "",
        });
    }
    lambda.resolve(caller, action, arn, None)
}
