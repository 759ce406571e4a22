//! The server's configuration: one section per crate, which owns its keys and defaults, layered
//! from defaults, a TOML file, `FIRN_…` variables and flags.

pub mod layers;
mod places;
pub mod snapstart;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::failure::usage;
use layers::Layers;
use snapstart::SnapStart;

/// Everything an operator can change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the AWS APIs. Port 0 takes any free port. Default 127.0.0.1:4566.
    pub listen: SocketAddr,
    /// Where everything is kept. Default: see [`places::data_dir`].
    pub data: PathBuf,
    /// Who may call. Default any.
    pub auth: Auth,
    pub log: Log,
    pub gateway: gateway::Config,
    pub cloudwatch: cloudwatch::Config,
    pub invoker: invoker::Config,
    pub lambda: lambda::Config,
    pub runtimes: Runtimes,
    pub s3: s3::Config,
    pub sandbox: sandbox::Config,
    pub snapstart: SnapStart,
    /// What the tasks of workflows call.
    pub integrations: integrations::Config,
    pub states: states::Config,
    /// Where services are that this server does not serve itself.
    pub upstream: upstream::Config,
    /// Not written out by serde: the store's section has no serialised form.
    #[serde(skip_serializing)]
    pub store: store::Config,
}

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Any credentials are accepted: for development on one's own machine
    #[default]
    Any,
    /// Requests must be signed with a key made by `firn keys create`
    Enforce,
}

/// What is logged, to standard error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Levels by target, in the syntax of tracing's `EnvFilter`. Default info; `gateway=debug` adds
    /// a line per request.
    pub filter: String,
    /// Default text.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Where interpreters are found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtimes {
    /// What `firn runtimes install` fills. Default: `runtimes` in the data directory.
    pub dir: PathBuf,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".into(),
            format: LogFormat::Text,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4566)),
            data: PathBuf::new(),
            auth: Auth::default(),
            log: Log::default(),
            gateway: gateway::Config::default(),
            cloudwatch: cloudwatch::Config::default(),
            invoker: invoker::Config::default(),
            lambda: lambda::Config::default(),
            runtimes: Runtimes::default(),
            s3: s3::Config::default(),
            sandbox: sandbox::Config::default(),
            snapstart: SnapStart::default(),
            integrations: integrations::Config::default(),
            states: states::Config::default(),
            upstream: upstream::Config::default(),
            store: store::Config::default(),
        }
    }
}

/// Flags of the server that overwrite the configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Overrides {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:4566]
    #[arg(short, long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where to keep everything [default: /var/lib/firn as root, else ~/.local/share/firn]
    #[arg(short, long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A TOML file with settings [env: FIRN_CONFIG]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Accept any credentials, or only requests signed with a key of `firn keys create`
    #[arg(long, value_enum)]
    pub auth: Option<Auth>,
    /// Give functions no network outside of their environment
    #[arg(long)]
    pub no_egress: bool,
    /// Which functions are frozen after their init: aws (published versions that ask for it), eager
    /// (every function when it is deployed), auto (every function after its first cold start)
    #[arg(long, value_name = "MODE", value_parser = ["aws", "eager", "auto"])]
    pub snapstart: Option<String>,
    /// Run although this protection is missing; repeat for more. See `firn doctor`
    #[arg(long, value_name = "FEATURE", value_enum)]
    pub allow_missing: Vec<Feature>,
    /// What to log, such as info, debug, gateway=debug
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// The form of log lines
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

/// A protection that may be absent when the operator says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Feature {
    /// Memory and process limits
    Cgroup,
    /// Freezing that functions cannot notice
    Freezer,
    /// User namespaces
    Userns,
    /// The system call filter
    Seccomp,
    /// All of them
    All,
}

impl Feature {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Cgroup => &["sandbox.allow.no_cgroup"],
            Self::Freezer => &["sandbox.allow.no_freezer"],
            Self::Userns => &["sandbox.allow.no_userns"],
            Self::Seccomp => &["sandbox.allow.no_seccomp"],
            Self::All => &[
                "sandbox.allow.no_cgroup",
                "sandbox.allow.no_freezer",
                "sandbox.allow.no_userns",
                "sandbox.allow.no_seccomp",
            ],
        }
    }
}

/// The effective configuration and how it came about.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub layers: Layers,
    /// Things to tell the operator once logging is set up.
    pub warnings: Vec<String>,
}

/// Names that begin with `FIRN_` but belong to client commands.
const CLIENT_VARIABLES: [&str; 2] = ["FIRN_CONFIG", "FIRN_ENDPOINT"];

/// Keys without a default.
const OPTIONAL: [&str; 4] = [
    "sandbox.freezer",
    "upstream.*",
    "integrations.connections.**",
    "states.mock_config",
];

/// Reads all layers.
pub fn load(overrides: Overrides) -> Result<Loaded> {
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let file = overrides
        .config
        .clone()
        .or_else(|| std::env::var_os("FIRN_CONFIG").map(PathBuf::from))
        .map(|path| (path, true))
        .or_else(|| places::config_file().map(|path| (path, false)));
    let text = match file {
        Some((path, named)) => match std::fs::read_to_string(&path) {
            Ok(text) => Some((path, text)),
            Err(err) if !named && err.kind() == std::io::ErrorKind::NotFound => None,
            Err(err) => return Err(usage(format!("cannot read {}: {err}", path.display()))),
        },
        None => None,
    };
    merge(text, variables, overrides).map_err(|err| usage(format!("{err:#}")))
}

fn merge(
    file: Option<(PathBuf, String)>,
    variables: Vec<(String, String)>,
    overrides: Overrides,
) -> Result<Loaded> {
    let mut layers = Layers::new(defaults()?, &OPTIONAL);
    if let Some((path, text)) = file {
        layers.apply_file(path, &text)?;
    }
    let variables = mock_variable(variables)
        .into_iter()
        .filter(|(name, _)| !CLIENT_VARIABLES.contains(&name.as_str()));
    let unknown = layers.apply_environment(variables)?;
    apply_flags(&mut layers, overrides)?;
    default_places(&mut layers)?;
    let config = Config::deserialize(Value::Table(layers.values().clone()))
        .context("the configuration does not fit together")?;
    let warnings = unknown
        .into_iter()
        .map(|name| format!("the environment variable {name} is no setting of firn"))
        .collect();
    Ok(Loaded {
        config,
        layers,
        warnings,
    })
}

/// Step Functions Local takes its mocks from a variable of this name; ours wins.
fn mock_variable(mut variables: Vec<(String, String)>) -> Vec<(String, String)> {
    const OWN: &str = "FIRN_STATES_MOCK_CONFIG";
    let has_own = variables.iter().any(|(name, _)| name == OWN);
    if let Some((name, _)) = variables
        .iter_mut()
        .find(|(name, _)| name == "SFN_MOCK_CONFIG")
        && !has_own
    {
        OWN.clone_into(name);
    }
    variables
}

fn defaults() -> Result<Table> {
    let config = Config::default();
    let mut table = Table::try_from(&config).context("the defaults cannot be written as TOML")?;
    let store = &config.store;
    let sizes = [
        ("cache_bytes", store.cache_bytes),
        ("memtable_bytes", store.memtable_bytes),
        ("relaxed_bytes", store.relaxed_bytes as u64),
        ("queue_bytes", store.queue_bytes as u64),
        ("sync_interval_ms", store.sync_interval_ms),
        ("verify_at_open_bytes", store.verify_at_open_bytes),
    ];
    let mut section = Table::new();
    for (name, value) in sizes {
        section.insert(name.into(), Value::Integer(i64::try_from(value)?));
    }
    table.insert("store".into(), Value::Table(section));
    // It has a section of its own.
    if let Some(Value::Table(invoker)) = table.get_mut("invoker") {
        invoker.remove("snapstart");
    }
    Ok(table)
}

fn apply_flags(layers: &mut Layers, flags: Overrides) -> Result<()> {
    if let Some(listen) = flags.listen {
        layers.apply_flag("--listen", "listen", listen.to_string());
    }
    if let Some(data) = &flags.data {
        layers.apply_flag("--data", "data", text_of(data)?);
    }
    if let Some(auth) = flags.auth {
        layers.apply_flag("--auth", "auth", Value::try_from(auth)?);
    }
    if flags.no_egress {
        layers.apply_flag("--no-egress", "sandbox.egress", "deny");
    }
    if let Some(mode) = flags.snapstart {
        layers.apply_flag("--snapstart", "snapstart.mode", mode);
    }
    for key in flags.allow_missing.into_iter().flat_map(Feature::keys) {
        layers.apply_flag("--allow-missing", key, true);
    }
    if let Some(filter) = flags.log {
        layers.apply_flag("--log", "log.filter", filter);
    }
    if let Some(format) = flags.log_format {
        layers.apply_flag("--log-format", "log.format", Value::try_from(format)?);
    }
    Ok(())
}

/// Defaults that depend on the machine or on another value.
fn default_places(layers: &mut Layers) -> Result<()> {
    let data = match layers
        .get("data")
        .and_then(Value::as_str)
        .filter(|data| !data.is_empty())
    {
        Some(data) => PathBuf::from(data),
        None => places::data_dir()
            .ok_or_else(|| anyhow!("cannot tell where to keep data: pass --data or set HOME"))?,
    };
    // The sandboxes mount parts of it elsewhere, so it must not depend on the current directory.
    let data = std::path::absolute(&data).context("cannot find the current directory")?;
    layers.replace("data", text_of(&data)?);
    for (key, name) in [
        ("runtimes.dir", "runtimes"),
        ("snapstart.store", "snapshots"),
        ("snapstart.key_file", "snapshots.key"),
        ("snapstart.cache_dir", "snapshot-cache"),
    ] {
        layers.default_to(key, text_of(&data.join(name))?);
    }
    Ok(())
}

fn text_of(path: &std::path::Path) -> Result<String> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("{} is not UTF-8", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(file: &str, env: &[(&str, &str)], flags: Overrides) -> Result<Loaded> {
        let variables = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let data = flags.data.clone().unwrap_or_else(|| "/d".into());
        merge(
            Some(("firn.toml".into(), file.to_owned())),
            variables,
            Overrides {
                data: Some(data),
                ..flags
            },
        )
    }

    #[test]
    fn defaults_alone_are_a_whole_configuration() {
        let config = loaded("", &[], Overrides::default()).unwrap().config;
        assert_eq!(config.listen.port(), 4566);
        assert_eq!(config.auth, Auth::Any);
        assert_eq!(config.runtimes.dir, PathBuf::from("/d/runtimes"));
        assert_eq!(
            config.store.cache_bytes,
            store::Config::default().cache_bytes
        );
    }

    #[test]
    fn sections_belong_to_their_crates() {
        let file = "[invoker]\nidle_timeout_s = 5\n[store]\ncache_bytes = 1048576\n";
        let config = loaded(file, &[], Overrides::default()).unwrap().config;
        assert_eq!(config.invoker.idle_timeout_s, 5);
        assert_eq!(config.store.cache_bytes, 1 << 20);
    }

    #[test]
    fn snapshots_have_one_section_for_use_and_store() {
        let file = "[snapstart]\nmode = 'eager'\ncache_mb = 7\n";
        let env = [("FIRN_SNAPSTART_KEY_FILE", "/k")];
        let config = loaded(file, &env, Overrides::default()).unwrap().config;
        let snapstart = &config.snapstart;
        assert_eq!(snapstart.use_of.mode, invoker::SnapStartMode::Eager);
        assert_eq!(snapstart.images.cache_mb, 7);
        assert_eq!(snapstart.images.key_file, PathBuf::from("/k"));
        assert_eq!(snapstart.images.store, "/d/snapshots");
        let flags = Overrides {
            snapstart: Some("auto".into()),
            ..Overrides::default()
        };
        let config = loaded(file, &env, flags).unwrap().config;
        assert_eq!(config.snapstart.use_of.mode, invoker::SnapStartMode::Auto);
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_refused() {
        for bad in [
            "nonsense = 1",
            "[invoker]\nidle = 5",
            "listen = 5",
            "[gateway]\nlisten = 'x'",
            "[invoker.snapstart]\nmode = 'eager'",
            "[snapstart]\nmodes = 'eager'",
            "[snapstart]\nmode = 'never'",
        ] {
            assert!(loaded(bad, &[], Overrides::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_reach_the_sections_of_other_crates() {
        let flags = Overrides {
            no_egress: true,
            allow_missing: vec![Feature::Cgroup],
            auth: Some(Auth::Enforce),
            ..Overrides::default()
        };
        let env = [("FIRN_AUTH", "any"), ("FIRN_ENDPOINT", "http://x")];
        let loaded = loaded("", &env, flags).unwrap();
        assert_eq!(loaded.config.sandbox.egress, sandbox::Egress::Deny);
        assert!(loaded.config.sandbox.allow.no_cgroup);
        assert!(!loaded.config.sandbox.allow.no_seccomp);
        assert_eq!(loaded.config.auth, Auth::Enforce);
        assert!(loaded.warnings.is_empty());
    }

    #[test]
    fn keys_without_a_default_can_be_set() {
        let file = "[sandbox]\nfreezer = 'V1'\n";
        let config = loaded(file, &[], Overrides::default()).unwrap().config;
        assert_eq!(config.sandbox.freezer, Some(sandbox::Freezer::V1));
        let env = [("FIRN_SANDBOX_FREEZER", "V2")];
        let config = loaded(file, &env, Overrides::default()).unwrap().config;
        assert_eq!(config.sandbox.freezer, Some(sandbox::Freezer::V2));
    }

    #[test]
    fn unknown_variable_is_a_warning() {
        let loaded = loaded("", &[("FIRN_LISTENN", "x")], Overrides::default()).unwrap();
        assert!(loaded.warnings[0].contains("FIRN_LISTENN"));
    }

    #[test]
    fn every_key_is_in_the_guide() {
        let guide = include_str!("../../../docs/guide/configuration.md");
        let layers = Layers::new(defaults().unwrap(), &OPTIONAL);
        let optional = OPTIONAL.into_iter();
        for key in layers.entries().map(|(key, _, _)| key).chain(optional) {
            let shown = key.split_once('.').map_or(key, |(_, rest)| rest);
            let documented = [key, shown]
                .iter()
                .any(|name| guide.contains(&format!("`{name}`")));
            assert!(
                documented,
                "docs/guide/configuration.md does not mention {key}"
            );
        }
    }

    #[test]
    fn relative_data_directory_becomes_absolute() {
        let flags = Overrides {
            data: Some("here".into()),
            ..Overrides::default()
        };
        let config = loaded("", &[], flags).unwrap().config;
        assert!(config.data.is_absolute());
        assert_eq!(config.runtimes.dir, config.data.join("runtimes"));
    }
}
