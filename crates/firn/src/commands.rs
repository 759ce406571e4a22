//! One file per command: its flags and its code.

pub mod completions;
pub mod config;
pub mod delete;
pub mod deploy;
pub mod dev;
pub mod doctor;
pub mod functions;
pub mod invoke;
pub mod keys;
pub mod layers;
pub mod logs;
pub mod runtimes;
pub mod serve;
pub mod snapshots;
pub mod states;
pub mod urls;
mod version;

use anyhow::Result;

use crate::cli::{Cli, Command};

/// Runs the chosen command to its end.
pub fn run(cli: Cli) -> Result<()> {
    let global = cli.global;
    match cli.command {
        Command::Serve(args) => serve::run(*args),
        Command::Deploy(args) => block_on(deploy::run(args, &global)),
        Command::Dev(args) => block_on(dev::run(*args, &global)),
        Command::Invoke(args) => block_on(invoke::run(args, &global)),
        Command::Functions(args) => block_on(functions::run(args, &global)),
        Command::Urls(args) => block_on(urls::run(args, &global)),
        Command::Snapshots(args) => block_on(snapshots::run(args, &global)),
        Command::States(args) => block_on(states::run(args, &global)),
        Command::Logs(args) => block_on(logs::run(args, &global)),
        Command::Layers(args) => block_on(layers::run(args, &global)),
        Command::Delete(args) => block_on(delete::run(args, &global)),
        Command::Runtimes(args) => runtimes::run(args, &global),
        Command::Doctor(args) => doctor::run(args, &global),
        Command::Keys(args) => keys::run(args, &global),
        Command::Config(args) => config::run(args, &global),
        Command::Completions(args) => completions::run(args),
        Command::Version => version::run(&global),
    }
}

/// Client commands wait for one answer at a time, so they need no worker threads.
fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(command)
}
