//! `firn keys`: access keys for a server started with `--auth enforce`. Works on the data directory
//! itself, since the first key must exist before anybody can sign a request.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clock::Clock;
use gateway::keys::KeyFile;
use model::AccountId;
use serde_json::json;

use crate::cli::Global;
use crate::config::{self, Overrides};
use crate::failure::usage;
use crate::output::{self, Style};

/// Flags of `firn keys`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// The server's data directory [default: as `firn serve`]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The server's configuration file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key for the account of --account [default: 000000000000]; its secret shows only now
    Create,
    /// List keys without their secrets
    List,
    /// Delete a key; a running server refuses it within a second
    Delete {
        /// The access key id
        access_key: String,
    },
}

pub fn run(args: Args, global: &Global) -> Result<()> {
    let overrides = Overrides {
        data: args.data,
        config: args.config,
        ..Overrides::default()
    };
    let data = config::load(overrides)?.config.data;
    let file = KeyFile::in_dir(&data);
    match args.action {
        Action::Create => {
            std::fs::create_dir_all(&data)
                .with_context(|| format!("cannot create {}", data.display()))?;
            create(&file, global)
        }
        Action::List => list(&file, global),
        Action::Delete { access_key } => {
            file.delete(&access_key).map_err(|err| match err {
                gateway::keys::KeysError::NoSuchKey(_) => usage(err.to_string()),
                other => other.into(),
            })?;
            output::line(format!("deleted {access_key}"))
        }
    }
}

fn create(file: &KeyFile, global: &Global) -> Result<()> {
    let account: AccountId = match &global.account {
        Some(account) => account.parse()?,
        None => AccountId::DEVELOPMENT,
    };
    let key = file.create(account, Clock::system().now().to_string())?;
    let secret = key.secret_key.reveal();
    if global.json {
        return output::json(&json!({
            "AccessKeyId": key.access_key,
            "SecretAccessKey": secret,
            "Account": key.account,
        }));
    }
    if !global.quiet {
        let style = Style::stderr();
        eprintln!(
            "{}",
            style.faint("the secret is not shown again; put both into the environment:")
        );
    }
    output::line(format!("export AWS_ACCESS_KEY_ID={}", key.access_key))?;
    output::line(format!("export AWS_SECRET_ACCESS_KEY={secret}"))
}

fn list(file: &KeyFile, global: &Global) -> Result<()> {
    let keys = file.list()?;
    if global.json {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| {
                json!({
                    "AccessKeyId": key.access_key,
                    "Account": key.account,
                    "Created": key.created,
                })
            })
            .collect();
        return output::json(&keys);
    }
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            [
                key.access_key.clone(),
                key.account.to_string(),
                key.created.clone(),
            ]
        })
        .collect();
    output::table(["ACCESS KEY", "ACCOUNT", "CREATED"], &rows)
}
