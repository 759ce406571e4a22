use model::lambda::{DeleteLayerVersionInput, DeleteLayerVersionOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::layers::{self, VersionId};

/// Deleting a version that is not there is no error, as on AWS. Functions that use it go on.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: DeleteLayerVersionInput,
) -> Result<DeleteLayerVersionOutput, Error> {
    let id = VersionId {
        number: layers::version_number(input.version_number)?,
        layer: layers::resolve(caller, "DeleteLayerVersion", &input.layer_name)?,
    };
    if let Some(deleted) = lambda.layers.delete(id).await? {
        lambda.collect_later(vec![deleted.code.digest]);
    }
    Ok(DeleteLayerVersionOutput {})
}
