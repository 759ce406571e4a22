//! `firn deploy`: zips a folder, creates or updates the function, and waits until it is usable.

use std::io::{IsTerminal, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use model::Blob;
use model::lambda::{
    CreateFunctionInput, Environment, EphemeralStorage, FunctionCode, FunctionConfiguration,
    FunctionUrlAuthType, GetFunctionConfigurationInput, InvokeMode, LastUpdateStatus,
    PublishVersionInput, Runtime, SnapStart, State, UpdateFunctionCodeInput,
    UpdateFunctionConfigurationInput,
};
use serde_json::Value;

use crate::cli::Global;
use crate::client::Client;
use crate::commands::layers;
use crate::failure::usage;
use crate::output::{self, Style, human_bytes};
use crate::package::guess::{self, Family};
use crate::package::{self, Sources, archive};
use crate::progress;

mod concurrency;

const POLL: Duration = Duration::from_millis(50);
const WAIT_LIMIT: Duration = Duration::from_secs(300);

/// Flags of `firn deploy`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder with the function's files, or a zip of them
    #[arg(value_name = "DIR|ZIP")]
    path: PathBuf,
    #[command(flatten)]
    pub function: FunctionFlags,
    /// Take a snapshot of each published version after its init, and start it from there
    #[arg(long, value_name = "on|off", num_args = 0..=1, default_missing_value = "on",
          value_parser = ["on", "off"])]
    snap_start: Option<String>,
    /// Publish a version of what is deployed
    #[arg(long)]
    publish: bool,
    /// Point this alias at the published version (implies --publish)
    #[arg(long)]
    alias: Option<String>,
    /// Give the function, or its alias, a URL: `none` for everybody, `iam` for signed requests
    #[arg(long, value_name = "none|iam", num_args = 0..=1, default_missing_value = "none",
          value_parser = ["none", "iam"])]
    url: Option<String>,
    /// Let the URL pass the answer on while the function writes it
    #[arg(long, requires = "url")]
    url_stream: bool,
    /// Reserve this much of the account's concurrency for the function
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    reserved: Option<i32>,
    /// Keep so many environments of the alias, else of the published version, initialised; 0 keeps
    /// none (implies --publish)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    provisioned: Option<i32>,
    /// Do not wait until the function is usable
    #[arg(long)]
    no_wait: bool,
}

/// What a function is to be, beside its code.
#[derive(Clone, Debug, clap::Args)]
pub struct FunctionFlags {
    /// The function's name [default: the name of the folder or zip]
    #[arg(short, long)]
    name: Option<String>,
    /// Where the code starts, as in app.handler [default: found in the files]
    #[arg(long)]
    handler: Option<String>,
    /// A Lambda runtime such as python3.13, nodejs22.x, provided.al2023 [default: found in the files]
    #[arg(short, long)]
    runtime: Option<String>,
    /// Memory in MB
    #[arg(short, long, value_name = "MB")]
    memory: Option<i32>,
    /// Seconds that one call may take
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<i32>,
    /// An environment variable; repeat for more. Replaces all variables the function had
    #[arg(short, long, value_name = "K=V", value_parser = parse_variable)]
    pub env: Vec<(String, String)>,
    /// The execution role [default: a role named firn-default in the caller's account]
    #[arg(long, value_name = "ARN")]
    role: Option<String>,
    /// A few words on what the function does
    #[arg(long)]
    description: Option<String>,
    /// Size of /tmp in MB
    #[arg(long, value_name = "MB")]
    ephemeral_storage: Option<i32>,
    /// A layer: the ARN of a version, or a folder or zip, of which one is published if its content is
    /// new; repeat for more, later ones over earlier ones. Replaces all layers the function had
    #[arg(short, long = "layer", value_name = "ARN|DIR|ZIP")]
    layers: Vec<String>,
}

pub async fn run(args: Args, global: &Global) -> Result<()> {
    let client = Client::new(global)?;
    let sources = Sources::open(&args.path).map_err(|err| usage(format!("{err:#}")))?;
    let name = name(&args.path, &args.function)?;
    let found = client.find_function(&name).await?;
    let mut deployment = Deployment {
        client,
        path: args.path,
        flags: args.function,
        snap_start: args.snap_start,
        sources,
        name,
        layers: None,
        global,
    };
    let zip = deployment.zip()?;
    deployment.find_layers().await?;
    match &found {
        Some(found) => deployment.update(found, zip).await?,
        None => deployment.create(zip).await?,
    }
    let publishes = args.publish || args.alias.is_some() || args.provisioned.is_some();
    if publishes || !args.no_wait {
        deployment.wait_until_usable().await?;
    }
    if let Some(reserved) = args.reserved {
        concurrency::reserve(&deployment.client, &deployment.name, reserved).await?;
    }
    if publishes {
        let version = deployment.publish(args.alias.as_deref()).await?;
        if let Some(provisioned) = args.provisioned {
            let place = (
                &*deployment.name,
                args.alias.as_ref().unwrap_or(&version).as_str(),
            );
            concurrency::provision(&deployment.client, place, provisioned, !args.no_wait).await?;
        }
    }
    let url = match args.url.as_deref() {
        Some(auth) => {
            let alias = args.alias.as_deref();
            let given = deployment.give_url(auth, args.url_stream, alias);
            Some(given.await?)
        }
        None => None,
    };
    deployment.tell(found.is_some()).await?;
    match url {
        Some(url) if !global.json => output::line(format!("URL {url}")),
        _ => Ok(()),
    }
}

fn name(path: &Path, flags: &FunctionFlags) -> Result<String> {
    match &flags.name {
        Some(name) => Ok(name.clone()),
        None => package::name_from_path(path)
            .ok_or_else(|| usage("cannot make a function name of the path; pass --name")),
    }
}

/// A function that is there to be worked on.
#[derive(Debug)]
pub struct Prepared {
    pub name: String,
    pub arn: String,
    pub runtime: String,
    /// Whether there was none before.
    pub created: bool,
}

/// Makes sure that there is a function of this configuration. One that has to be made gets a package
/// that only says so: the code comes by another way.
pub async fn prepare_for_development(
    path: &Path,
    flags: FunctionFlags,
    global: &Global,
) -> Result<Prepared> {
    let client = Client::new(global)?;
    let sources = Sources::open(path).map_err(|err| usage(format!("{err:#}")))?;
    let name = name(path, &flags)?;
    let found = client.find_function(&name).await?;
    let mut deployment = Deployment {
        client,
        path: path.to_owned(),
        flags,
        snap_start: None,
        sources,
        name,
        layers: None,
        global,
    };
    deployment.find_layers().await?;
    match &found {
        Some(found) => deployment.configure(found).await?,
        None => deployment.create(placeholder()?).await?,
    }
    deployment.wait_until_usable().await?;
    let now = deployment.client.find_function(&deployment.name).await?;
    let now = now.context("the function has been deleted")?;
    Ok(Prepared {
        name: deployment.name,
        arn: now.function_arn.context("the function has no ARN")?,
        runtime: now
            .runtime
            .map_or_else(String::new, |runtime| runtime.as_str().to_owned()),
        created: found.is_none(),
    })
}

/// What is left of a function whose `firn dev` could not clean up.
fn placeholder() -> Result<Vec<u8>> {
    const TEXT: &[u8] = b"The code of this function is served by `firn dev` while that runs.\n";
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("README", zip::write::SimpleFileOptions::default())?;
    zip.write_all(TEXT)?;
    Ok(zip.finish()?.into_inner())
}

/// One run of the command.
#[derive(Debug)]
struct Deployment<'a> {
    client: Client,
    path: PathBuf,
    flags: FunctionFlags,
    snap_start: Option<String>,
    sources: Sources,
    name: String,
    /// The ARNs of the layers that the flags name.
    layers: Option<Vec<String>>,
    global: &'a Global,
}

impl Deployment<'_> {
    async fn create(&self, zip: Vec<u8>) -> Result<()> {
        let (runtime, handler) = self.runtime_and_handler().await?;
        let role = self.flags.role.clone().unwrap_or_else(|| {
            let account = self.client.likely_account();
            format!("arn:aws:iam::{account}:role/firn-default")
        });
        let bar = self.upload_bar(&zip);
        let input = CreateFunctionInput {
            function_name: self.name.clone(),
            runtime: Some(Runtime::from(runtime.as_str())),
            handler: Some(handler),
            role,
            code: FunctionCode {
                zip_file: Some(Blob::from(zip)),
                ..FunctionCode::default()
            },
            description: self.flags.description.clone(),
            timeout: self.flags.timeout,
            memory_size: self.flags.memory,
            environment: self.environment(),
            ephemeral_storage: self
                .flags
                .ephemeral_storage
                .map(|size| EphemeralStorage { size }),
            snap_start: self.snap_start(),
            layers: self.layers.clone(),
            ..CreateFunctionInput::default()
        };
        let created = self.client.upload(&input, Some(bar.clone())).await;
        bar.finish_and_clear();
        created.map(drop)
    }

    async fn update(&self, found: &FunctionConfiguration, zip: Vec<u8>) -> Result<()> {
        let bar = self.upload_bar(&zip);
        let input = UpdateFunctionCodeInput {
            function_name: self.name.clone(),
            zip_file: Some(Blob::from(zip)),
            ..UpdateFunctionCodeInput::default()
        };
        let updated = self.client.upload(&input, Some(bar.clone())).await;
        bar.finish_and_clear();
        updated?;
        self.configure(found).await
    }

    async fn configure(&self, found: &FunctionConfiguration) -> Result<()> {
        let input = UpdateFunctionConfigurationInput {
            function_name: self.name.clone(),
            runtime: self.flags.runtime.as_deref().map(Runtime::from),
            handler: self
                .flags
                .handler
                .clone()
                .or_else(|| self.handler_of_new_language(found)),
            role: self.flags.role.clone(),
            description: self.flags.description.clone(),
            timeout: self.flags.timeout,
            memory_size: self.flags.memory,
            environment: self.environment(),
            ephemeral_storage: self
                .flags
                .ephemeral_storage
                .map(|size| EphemeralStorage { size }),
            snap_start: self.snap_start(),
            layers: self.layers.clone(),
            ..UpdateFunctionConfigurationInput::default()
        };
        let unchanged = UpdateFunctionConfigurationInput {
            function_name: self.name.clone(),
            ..UpdateFunctionConfigurationInput::default()
        };
        if input == unchanged {
            return Ok(());
        }
        // A change of the configuration is refused while the code's is under way.
        self.wait_until_usable().await?;
        self.client.call(&input).await.map(drop)
    }

    /// Publishes the layers that are given as folders, if they are new.
    async fn find_layers(&mut self) -> Result<()> {
        if self.flags.layers.is_empty() {
            return Ok(());
        }
        let mut arns = Vec::new();
        for layer in &self.flags.layers {
            arns.push(match layer.starts_with("arn:") {
                true => layer.clone(),
                false => layers::version_of(&self.client, Path::new(layer), self.quiet()).await?,
            });
        }
        self.layers = Some(arns);
        Ok(())
    }

    /// A handler of the old language would not be found after a change of the runtime.
    fn handler_of_new_language(&self, found: &FunctionConfiguration) -> Option<String> {
        let new = guess::family_of(self.flags.runtime.as_deref()?)?;
        let old = found
            .runtime
            .as_ref()
            .and_then(|runtime| guess::family_of(runtime.as_str()));
        (old != Some(new))
            .then(|| guess::handler_for(&self.sources, new))
            .flatten()
    }

    fn environment(&self) -> Option<Environment> {
        let variables = self.flags.env.iter().cloned().collect();
        (!self.flags.env.is_empty()).then_some(Environment {
            variables: Some(variables),
        })
    }

    fn snap_start(&self) -> Option<SnapStart> {
        let wanted = self.snap_start.as_deref()?;
        let apply_on = if wanted == "on" {
            "PublishedVersions"
        } else {
            "None"
        };
        Some(SnapStart {
            apply_on: Some(apply_on.into()),
        })
    }

    async fn publish(&self, alias: Option<&str>) -> Result<String> {
        let input = PublishVersionInput {
            function_name: self.name.clone(),
            ..PublishVersionInput::default()
        };
        let version = self
            .client
            .call(&input)
            .await?
            .output
            .version
            .unwrap_or_default();
        // An alias must not move to a version that is not ready, or never will be.
        self.wait_until(Some(&version)).await?;
        if let Some(alias) = alias {
            self.client.put_alias(&self.name, alias, &version).await?;
        }
        if !self.global.json {
            let alias = alias.map(|alias| format!(", alias {alias} points at it"));
            output::line(format!(
                "published version {version}{}",
                alias.unwrap_or_default()
            ))?;
        }
        Ok(version)
    }

    async fn give_url(&self, auth: &str, stream: bool, alias: Option<&str>) -> Result<String> {
        let auth_type = match auth {
            "iam" => FunctionUrlAuthType::AwsIam,
            _ => FunctionUrlAuthType::None,
        };
        let mode = stream.then_some(InvokeMode::ResponseStream);
        self.client
            .put_url(&self.name, alias, auth_type, mode)
            .await
    }

    async fn runtime_and_handler(&self) -> Result<(String, String)> {
        let args = &self.flags;
        let guessed = guess::guess(&self.sources);
        let runtime = match (&args.runtime, &guessed) {
            (Some(runtime), _) => runtime.clone(),
            (None, Some(guess)) => {
                self.newest_runtime(guess.family, guess.version.as_deref())
                    .await?
            }
            (None, None) => {
                return Err(usage(
                    "cannot tell the runtime from the files (looked for bootstrap, index.mjs, \
                     app.py and the like); pass --runtime and --handler",
                ));
            }
        };
        let family = guess::family_of(&runtime);
        let handler = args
            .handler
            .clone()
            .or_else(|| guess::handler_for(&self.sources, family?))
            .ok_or_else(|| {
                usage(format!(
                    "cannot find a handler for {runtime} in the files; pass --handler, as in {}",
                    example_handler(family)
                ))
            })?;
        let guessed_any = args.runtime.is_none() || args.handler.is_none();
        if guessed_any && !self.global.quiet && !self.global.json {
            eprintln!("using runtime {runtime}, handler {handler}");
        }
        Ok((runtime, handler))
    }

    /// The runtime of the version that the sources ask for, else the newest one that the server has
    /// the very interpreter of.
    async fn newest_runtime(&self, family: Family, version: Option<&str>) -> Result<String> {
        if let Some(version) = version {
            return Ok(family.runtime(version));
        }
        if family == Family::Provided {
            return Ok(family.newest().to_owned());
        }
        let runtimes = self.client.page("/_firn/runtimes").await?;
        let exact = runtimes
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|row| row.get("exact").and_then(Value::as_bool) == Some(true));
        let newest = exact
            .filter_map(|row| row.get("runtime")?.as_str())
            .filter(|runtime| guess::family_of(runtime) == Some(family))
            .max_by_key(|runtime| guess::release_of(runtime));
        Ok(newest.unwrap_or_else(|| family.newest()).to_owned())
    }

    /// The bytes of the zip; a folder is zipped in a temporary file first, so that the compressor
    /// and a growing buffer do not hold the package twice.
    fn zip(&self) -> Result<Vec<u8>> {
        let path = &self.path;
        let files = match &self.sources {
            Sources::Zip(..) => {
                return std::fs::read(path)
                    .with_context(|| format!("cannot read {}", path.display()));
            }
            Sources::Folder(files) => files,
        };
        let total = files.iter().map(|file| file.size).sum();
        let bar = progress::bytes(self.quiet(), "zipping", total);
        let mut temporary = tempfile::tempfile().context("cannot create a temporary file")?;
        let written = archive::write(files, &mut temporary, &|n| bar.inc(n));
        bar.finish_and_clear();
        written?;
        temporary.rewind().context("cannot read the zip back")?;
        let mut zip = Vec::new();
        temporary
            .read_to_end(&mut zip)
            .context("cannot read the zip back")?;
        Ok(zip)
    }

    fn quiet(&self) -> bool {
        self.global.quiet || self.global.json
    }

    /// The body holds the zip in base64, four bytes for three.
    fn upload_bar(&self, zip: &[u8]) -> ProgressBar {
        progress::bytes(
            self.quiet(),
            "uploading",
            (zip.len() as u64).div_ceil(3) * 4,
        )
    }

    async fn wait_until_usable(&self) -> Result<()> {
        self.wait_until(None).await
    }

    /// Waits for `$LATEST`, or for a published version, which may be waiting for its snapshot.
    async fn wait_until(&self, version: Option<&str>) -> Result<()> {
        let name = match version {
            Some(version) => format!("{}:{version}", self.name),
            None => self.name.clone(),
        };
        let what = if version.is_some() {
            "waiting until the version is active"
        } else {
            "waiting until the function is active"
        };
        let spinner = progress::spinner(self.quiet(), what);
        let waited = tokio::time::timeout(WAIT_LIMIT, async {
            while !is_usable(self.client.find_function(&name).await?)? {
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        });
        let waited = waited.await;
        spinner.finish_and_clear();
        match waited {
            Ok(result) => result,
            Err(_) => bail!(
                "the function is not active after {} s",
                WAIT_LIMIT.as_secs()
            ),
        }
    }

    async fn tell(&self, existed: bool) -> Result<()> {
        let input = GetFunctionConfigurationInput {
            function_name: self.name.clone(),
            ..GetFunctionConfigurationInput::default()
        };
        let reply = self.client.call(&input).await?;
        if self.global.json {
            return output::json(&reply.document()?);
        }
        let function = reply.output;
        let style = Style::stdout();
        output::line(format!(
            "{} {} ({}, {}, {} MB, code {})",
            style.good(if existed { "updated" } else { "created" }),
            style.strong(&self.name),
            function
                .runtime
                .map(|runtime| runtime.to_string())
                .unwrap_or_default(),
            function.handler.unwrap_or_default(),
            function.memory_size.unwrap_or_default(),
            human_bytes(
                function
                    .code_size
                    .unwrap_or_default()
                    .try_into()
                    .unwrap_or_default()
            ),
        ))?;
        output::line(function.function_arn.unwrap_or_default())?;
        if !self.global.quiet && std::io::stderr().is_terminal() {
            eprintln!("try: firn invoke {} -p '{{}}' --tail", self.name);
        }
        Ok(())
    }
}

fn is_usable(function: Option<FunctionConfiguration>) -> Result<bool> {
    let Some(function) = function else {
        bail!("the function disappeared while it was being deployed");
    };
    let or_none = |reason: Option<String>| reason.unwrap_or_else(|| "no reason given".to_owned());
    let state = function.state.unwrap_or(State::Active);
    let update = function
        .last_update_status
        .unwrap_or(LastUpdateStatus::Successful);
    match (state, update) {
        (State::Failed, _) => bail!("the function failed: {}", or_none(function.state_reason)),
        (_, LastUpdateStatus::Failed) => {
            bail!(
                "the update failed: {}",
                or_none(function.last_update_status_reason)
            )
        }
        (State::Active | State::Inactive, LastUpdateStatus::Successful) => Ok(true),
        _ => Ok(false),
    }
}

const fn example_handler(family: Option<Family>) -> &'static str {
    match family {
        Some(Family::Python) => "app.handler",
        Some(Family::Node) => "index.handler",
        Some(Family::Provided) | None => "bootstrap",
    }
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("give a variable as NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_keeps_equal_signs_of_its_value() {
        assert_eq!(parse_variable("A=b=c").unwrap(), ("A".into(), "b=c".into()));
        assert!(parse_variable("A").is_err());
        assert!(parse_variable("=x").is_err());
    }
}
