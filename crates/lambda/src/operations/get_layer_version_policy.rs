use model::lambda::{GetLayerVersionPolicyInput, GetLayerVersionPolicyOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::layers::{self, VersionId};
use crate::policies::PolicyError;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetLayerVersionPolicyInput,
) -> Result<GetLayerVersionPolicyOutput, Error> {
    let id = VersionId {
        number: layers::version_number(input.version_number)?,
        layer: layers::resolve(caller, "GetLayerVersionPolicy", &input.layer_name)?,
    };
    let version = lambda.layers.get(&id).ok_or_else(|| id.not_found())?;
    let policy = version.policy.as_ref().ok_or(PolicyError::NoPolicy)?;
    Ok(GetLayerVersionPolicyOutput {
        policy: Some(policy.json()),
        revision_id: Some(policy.revision_id.clone()),
    })
}
