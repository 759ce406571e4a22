use model::lambda::{Architecture, ListLayerVersionsInput, ListLayerVersionsOutput, Runtime};
use protocol::Caller;

use crate::error::Error;
use crate::layers::{self, VersionId};
use crate::{Lambda, paging};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListLayerVersionsInput,
) -> Result<ListLayerVersionsOutput, Error> {
    let id = layers::resolve(caller, "ListLayerVersions", &input.layer_name)?;
    let size = paging::size(input.max_items);
    let before = paging::read(input.marker.as_deref())?.and_then(|text| text.parse().ok());
    let runtime = input.compatible_runtime.as_ref().map(Runtime::as_str);
    let architecture = input
        .compatible_architecture
        .as_ref()
        .map(Architecture::as_str);
    let mut found = lambda.layers.versions(&id, before, size + 1, |version| {
        version.fits(runtime, architecture)
    });
    let next_marker = paging::cut(&mut found, size, |(number, _)| number.to_string());
    let versions = found.into_iter().map(|(number, version)| {
        let layer = id.clone();
        layers::in_list(&VersionId { layer, number }, &version)
    });
    Ok(ListLayerVersionsOutput {
        layer_versions: Some(versions.collect()),
        next_marker,
    })
}
