//! `firn layers`: publishes, lists and deletes layers.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Blob;
use model::lambda::{
    DeleteLayerVersionInput, GetLayerVersionInput, LayerVersionContentInput, LayerVersionsListItem,
    ListLayerVersionsInput, ListLayersInput, PublishLayerVersionInput, PublishLayerVersionOutput,
    Runtime,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::cli::Global;
use crate::client::Client;
use crate::failure::usage;
use crate::output;
use crate::package::{self, Sources, archive};
use crate::progress;

/// Flags of `firn layers`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Publish a version of a layer from a folder or a zip, whose content will be at /opt
    Publish {
        /// A folder with python/, nodejs/, bin/ or the like in it, or a zip of such
        #[arg(value_name = "DIR|ZIP")]
        path: PathBuf,
        /// The layer's name [default: the name of the folder or zip]
        #[arg(short, long)]
        name: Option<String>,
        /// A runtime that the layer is for; repeat for more
        #[arg(short, long = "runtime", value_name = "RUNTIME")]
        runtimes: Vec<String>,
        /// A few words on what the layer holds
        #[arg(long)]
        description: Option<String>,
        /// The licence, as an SPDX identifier or a URL
        #[arg(long)]
        license: Option<String>,
    },
    /// List the newest version of each layer, or all versions of one
    List {
        /// The layer
        name: Option<String>,
    },
    /// Delete a version; functions that use it go on
    Delete {
        /// NAME:VERSION, or the ARN of a version
        #[arg(value_name = "NAME:VERSION")]
        layer: String,
    },
}

pub async fn run(args: Args, global: &Global) -> Result<()> {
    let client = Client::new(global)?;
    let quiet = global.quiet || global.json;
    match args.command.unwrap_or(Command::List { name: None }) {
        Command::Publish {
            path,
            name,
            runtimes,
            description,
            license,
        } => {
            let name = name.map_or_else(|| name_of(&path), Ok)?;
            let input = PublishLayerVersionInput {
                layer_name: name,
                content: content(zip_of(&path, quiet)?),
                compatible_runtimes: (!runtimes.is_empty()).then(|| {
                    runtimes
                        .iter()
                        .map(|name| Runtime::from(name.as_str()))
                        .collect()
                }),
                description,
                license_info: license,
                ..PublishLayerVersionInput::default()
            };
            let published = publish(&client, &input, quiet).await?;
            tell(&published, global)
        }
        Command::List { name: None } => list(&client, global).await,
        Command::List { name: Some(name) } => list_versions(&client, name, global).await,
        Command::Delete { layer } => delete(&client, &layer, global).await,
    }
}

/// The ARN of a version with the content of this folder or zip: the newest one of the name if it has
/// that content, else one that is published now.
pub async fn version_of(client: &Client, path: &Path, quiet: bool) -> Result<String> {
    let (name, zip) = (name_of(path)?, zip_of(path, quiet)?);
    let input = ListLayerVersionsInput {
        layer_name: name.clone(),
        max_items: Some(1),
        ..ListLayerVersionsInput::default()
    };
    let newest = client.call(&input).await?.output.layer_versions;
    let newest = newest.and_then(|versions| versions.into_iter().next());
    if let Some(number) = newest.and_then(|newest| newest.version) {
        let input = GetLayerVersionInput {
            layer_name: name.clone(),
            version_number: number,
        };
        let found = client.call(&input).await?.output;
        let hash = STANDARD.encode(Sha256::digest(&zip));
        if found.content.and_then(|content| content.code_sha256) == Some(hash) {
            return found.layer_version_arn.context("the layer has no ARN");
        }
    }
    let input = PublishLayerVersionInput {
        layer_name: name,
        content: content(zip),
        ..PublishLayerVersionInput::default()
    };
    let published = publish(client, &input, quiet).await?;
    let arn = published
        .layer_version_arn
        .context("the layer has no ARN")?;
    if !quiet {
        eprintln!("published layer {arn}");
    }
    Ok(arn)
}

async fn publish(
    client: &Client,
    input: &PublishLayerVersionInput,
    quiet: bool,
) -> Result<PublishLayerVersionOutput> {
    let bytes = input.content.zip_file.as_ref().map_or(0, Blob::len) as u64;
    // The body holds the zip in base64, four bytes for three.
    let bar = progress::bytes(quiet, "uploading", bytes.div_ceil(3) * 4);
    let published = client.upload(input, Some(bar.clone())).await;
    bar.finish_and_clear();
    Ok(published?.output)
}

fn content(zip: Vec<u8>) -> LayerVersionContentInput {
    LayerVersionContentInput {
        zip_file: Some(Blob::from(zip)),
        ..LayerVersionContentInput::default()
    }
}

fn name_of(path: &Path) -> Result<String> {
    package::name_from_path(path)
        .ok_or_else(|| usage("cannot make a layer name of the path; pass --name"))
}

/// A zip of the same files is always the same, so that its hash tells whether anything is new.
fn zip_of(path: &Path, quiet: bool) -> Result<Vec<u8>> {
    match Sources::open(path).map_err(|err| usage(format!("{err:#}")))? {
        Sources::Zip(..) => {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        }
        Sources::Folder(files) => {
            let bar = progress::bytes(quiet, "zipping", files.iter().map(|file| file.size).sum());
            let mut temporary = tempfile::tempfile().context("cannot create a temporary file")?;
            let written = archive::write(&files, &mut temporary, &|n| bar.inc(n));
            bar.finish_and_clear();
            written?;
            let mut zip = Vec::new();
            temporary
                .rewind()
                .and_then(|()| temporary.read_to_end(&mut zip))
                .context("cannot read the zip back")?;
            Ok(zip)
        }
    }
}

fn tell(published: &PublishLayerVersionOutput, global: &Global) -> Result<()> {
    let arn = published.layer_version_arn.as_deref().unwrap_or_default();
    if global.json {
        let content = published.content.as_ref();
        return output::json(&json!({
            "LayerVersionArn": arn,
            "Version": published.version,
            "CodeSha256": content.and_then(|content| content.code_sha256.clone()),
            "CodeSize": content.and_then(|content| content.code_size),
        }));
    }
    output::line(arn)
}

async fn list(client: &Client, global: &Global) -> Result<()> {
    let mut input = ListLayersInput::default();
    let mut newest = Vec::new();
    loop {
        let page = client.call(&input).await?.output;
        let layers = page.layers.into_iter().flatten();
        newest.extend(layers.filter_map(|layer| layer.latest_matching_version));
        input.marker = page.next_marker;
        if input.marker.is_none() {
            return show(&newest, global);
        }
    }
}

async fn list_versions(client: &Client, name: String, global: &Global) -> Result<()> {
    let mut input = ListLayerVersionsInput {
        layer_name: name,
        ..ListLayerVersionsInput::default()
    };
    let mut versions = Vec::new();
    loop {
        let page = client.call(&input).await?.output;
        versions.extend(page.layer_versions.into_iter().flatten());
        input.marker = page.next_marker;
        if input.marker.is_none() {
            return show(&versions, global);
        }
    }
}

fn show(versions: &[LayerVersionsListItem], global: &Global) -> Result<()> {
    if global.json {
        let versions: Vec<_> = versions.iter().map(as_json).collect();
        return output::json(&json!(versions));
    }
    for version in versions {
        let arn = version.layer_version_arn.as_deref().unwrap_or_default();
        let runtimes = names(version).join(", ");
        let description = version.description.as_deref().unwrap_or_default();
        let line = [arn, &runtimes, description].join("  ");
        output::line(line.trim_end())?;
    }
    Ok(())
}

fn names(version: &LayerVersionsListItem) -> Vec<&str> {
    let runtimes = version.compatible_runtimes.iter().flatten();
    runtimes.map(Runtime::as_str).collect()
}

fn as_json(version: &LayerVersionsListItem) -> serde_json::Value {
    json!({
        "LayerVersionArn": version.layer_version_arn,
        "Version": version.version,
        "Description": version.description,
        "CreatedDate": version.created_date,
        "CompatibleRuntimes": names(version),
        "LicenseInfo": version.license_info,
    })
}

async fn delete(client: &Client, version: &str, global: &Global) -> Result<()> {
    let (name, number) = parse_version(version)?;
    let input = DeleteLayerVersionInput {
        layer_name: name,
        version_number: number,
    };
    client.call(&input).await?;
    if global.json {
        return output::json(&json!({ "deleted": version }));
    }
    output::line(format!("deleted {version}"))
}

fn parse_version(text: &str) -> Result<(String, i64)> {
    let parsed = text
        .rsplit_once(':')
        .and_then(|(name, number)| Some((name.to_owned(), number.parse().ok()?)));
    match parsed {
        Some((name, number)) if !name.is_empty() => Ok((name, number)),
        _ => bail!(usage("name a version, as in NAME:3")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_by_name_or_arn() {
        assert_eq!(parse_version("tools:3").unwrap(), ("tools".into(), 3));
        let arn = "arn:aws:lambda:us-east-1:123456789012:layer:tools";
        let parsed = parse_version(&format!("{arn}:12")).unwrap();
        assert_eq!(parsed, (arn.into(), 12));
        for bad in ["tools", "tools:x", ":3", ""] {
            assert!(parse_version(bad).is_err(), "{bad}");
        }
    }
}
