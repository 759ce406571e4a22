use model::lambda::{GetLayerVersionByArnInput, GetLayerVersionResponse};
use protocol::Caller;

use super::get_layer_version::show;
use crate::Lambda;
use crate::error::{Error, InvalidParameter};
use crate::layers::VersionId;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetLayerVersionByArnInput,
) -> Result<GetLayerVersionResponse, Error> {
    // The other forms that the interface takes name layers that only AWS itself has.
    let id = VersionId::parse(&input.arn).ok_or(Error::ResourceNotFound)?;
    if id.number == 0 {
        return Err(InvalidParameter::LayerVersionTooSmall.into());
    }
    show(lambda, caller, &id)
}
