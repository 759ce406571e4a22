use model::lambda::{Architecture, LayersListItem, ListLayersInput, ListLayersOutput, Runtime};
use protocol::Caller;

use crate::error::Error;
use crate::function::Scope;
use crate::layers::{self, LayerId, VersionId};
use crate::{Lambda, paging};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListLayersInput,
) -> Result<ListLayersOutput, Error> {
    let scope = Scope {
        account: caller.account,
        region: caller.region.clone(),
    };
    let size = paging::size(input.max_items);
    let after = paging::read(input.marker.as_deref())?;
    let runtime = input.compatible_runtime.as_ref().map(Runtime::as_str);
    let architecture = input
        .compatible_architecture
        .as_ref()
        .map(Architecture::as_str);
    let mut found = lambda
        .layers
        .list(&scope, after.as_deref(), size + 1, |version| {
            version.fits(runtime, architecture)
        });
    let next_marker = paging::cut(&mut found, size, |(name, _)| name.clone());
    let layers = found.into_iter().map(|(name, (number, version))| {
        let scope = scope.clone();
        let layer = LayerId { scope, name };
        let id = VersionId { layer, number };
        LayersListItem {
            layer_arn: Some(id.layer.arn()),
            latest_matching_version: Some(layers::in_list(&id, &version)),
            layer_name: Some(id.layer.name),
        }
    });
    Ok(ListLayersOutput {
        layers: Some(layers.collect()),
        next_marker,
    })
}
