//! How a layer version appears in answers.

use model::lambda as wire;

use super::{LayerVersion, VersionId};
use crate::configuration::last_modified;

/// The answer of `GetLayerVersion`; `location` is where the archive can be downloaded.
pub fn of(
    id: &VersionId,
    version: &LayerVersion,
    location: String,
) -> wire::GetLayerVersionResponse {
    wire::GetLayerVersionResponse {
        content: Some(content(version, location)),
        layer_arn: Some(id.layer.arn()),
        layer_version_arn: Some(id.arn()),
        description: Some(version.description.clone()),
        created_date: Some(last_modified(version.created)),
        version: Some(number(id)),
        compatible_architectures: architectures(version),
        compatible_runtimes: runtimes(version),
        license_info: version.license.clone(),
    }
}

/// The answer of `PublishLayerVersion`: the same, under another name.
pub fn published(
    id: &VersionId,
    version: &LayerVersion,
    location: String,
) -> wire::PublishLayerVersionOutput {
    let all = of(id, version, location);
    wire::PublishLayerVersionOutput {
        content: all.content,
        layer_arn: all.layer_arn,
        layer_version_arn: all.layer_version_arn,
        description: all.description,
        created_date: all.created_date,
        version: all.version,
        compatible_architectures: all.compatible_architectures,
        compatible_runtimes: all.compatible_runtimes,
        license_info: all.license_info,
    }
}

/// The answer in lists, which tells nothing of the content.
pub fn in_list(id: &VersionId, version: &LayerVersion) -> wire::LayerVersionsListItem {
    wire::LayerVersionsListItem {
        layer_version_arn: Some(id.arn()),
        version: Some(number(id)),
        description: Some(version.description.clone()),
        created_date: Some(last_modified(version.created)),
        compatible_architectures: architectures(version),
        compatible_runtimes: runtimes(version),
        license_info: version.license.clone(),
    }
}

impl LayerVersion {
    /// Whether it was published for a runtime and an architecture, as far as those are asked for.
    pub fn fits(&self, runtime: Option<&str>, architecture: Option<&str>) -> bool {
        let holds = |list: &Option<Vec<String>>, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| list.iter().flatten().any(|one| one == wanted))
        };
        holds(&self.runtimes, runtime) && holds(&self.architectures, architecture)
    }
}

fn content(version: &LayerVersion, location: String) -> wire::LayerVersionContentOutput {
    wire::LayerVersionContentOutput {
        location: Some(location),
        code_sha256: Some(version.code.sha256()),
        code_size: Some(i64::try_from(version.code.size).unwrap_or(i64::MAX)),
        ..wire::LayerVersionContentOutput::default()
    }
}

fn number(id: &VersionId) -> i64 {
    i64::try_from(id.number).unwrap_or(i64::MAX)
}

fn runtimes(version: &LayerVersion) -> Option<Vec<wire::Runtime>> {
    let list = version.runtimes.as_ref()?;
    Some(list.iter().map(|name| name.as_str().into()).collect())
}

fn architectures(version: &LayerVersion) -> Option<Vec<wire::Architecture>> {
    let list = version.architectures.as_ref()?;
    Some(list.iter().map(|name| name.as_str().into()).collect())
}
