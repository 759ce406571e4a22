//! The command line: global flags and the table of commands. Each command's own flags stand with
//! its code under `commands/`.

use clap::{Parser, Subcommand};

use crate::commands;

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  the function answered with an error, or the execution did not succeed
  2  wrong usage, or input that cannot be read
  3  the service refused the request
  4  cannot connect to the server
  5  a local failure: a file, a port, a missing kernel feature";

/// Runs AWS Lambda functions on this machine, behind the AWS APIs.
#[derive(Debug, Parser)]
#[command(name = "firn", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// Write machine-readable JSON to standard output
    #[arg(long, global = true)]
    pub json: bool,

    /// The server to talk to [env: FIRN_ENDPOINT, then AWS_ENDPOINT_URL]
    /// [default: http://127.0.0.1:4566]
    #[arg(long, global = true, value_name = "URL")]
    pub endpoint: Option<String>,

    /// The AWS region to work in [env: AWS_REGION, then AWS_DEFAULT_REGION]
    /// [default: us-east-1]
    #[arg(long, global = true)]
    pub region: Option<String>,

    /// A 12-digit account to work in, on a server that accepts any credentials
    #[arg(long, global = true, value_name = "ID", value_parser = parse_account)]
    pub account: Option<String>,

    /// Show no progress bars or hints on standard error
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// What firn can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the server
    Serve(Box<commands::serve::Args>),
    /// Create or update a function from a folder or a zip
    Deploy(commands::deploy::Args),
    /// Run a function from a folder, and take up what is saved there
    Dev(Box<commands::dev::Args>),
    /// Call a function and print its answer
    Invoke(commands::invoke::Args),
    /// List functions, or show one
    Functions(commands::functions::Args),
    /// Show under which addresses functions can be called
    Urls(commands::urls::Args),
    /// Show what is frozen, where it lies and how fast it thaws
    Snapshots(commands::snapshots::Args),
    /// Deploy, run, watch and draw workflows
    States(commands::states::Args),
    /// Print or follow a function's log
    Logs(commands::logs::Args),
    /// Publish, list or delete layers
    Layers(commands::layers::Args),
    /// Delete a function
    Delete(commands::delete::Args),
    /// Show which interpreters serve which runtimes, or install one
    Runtimes(commands::runtimes::Args),
    /// Check what this machine offers, and what is missing
    Doctor(commands::doctor::Args),
    /// Manage the access keys of a server that verifies signatures
    Keys(commands::keys::Args),
    /// Show the effective configuration and where each value comes from
    Config(commands::config::Args),
    /// Print a completion script for a shell
    Completions(commands::completions::Args),
    /// Print the version
    Version,
}

fn parse_account(text: &str) -> Result<String, String> {
    if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    Err("an account is 12 digits".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_are_accepted_after_the_command() {
        let cli = Cli::try_parse_from(["firn", "functions", "--json", "--region", "eu-west-1"]);
        let global = cli.unwrap().global;
        assert!(global.json);
        assert_eq!(global.region.as_deref(), Some("eu-west-1"));
    }

    #[test]
    fn account_that_is_not_twelve_digits_is_refused() {
        assert!(Cli::try_parse_from(["firn", "functions", "--account", "12"]).is_err());
        assert!(Cli::try_parse_from(["firn", "functions", "--account", "123456789012"]).is_ok());
    }

    #[test]
    fn deploy_takes_repeated_environment_variables() {
        let cli = Cli::try_parse_from([
            "firn", "deploy", "dir", "--name", "f", "--env", "A=1", "--env", "B=x=y",
        ])
        .unwrap();
        let Command::Deploy(args) = cli.command else {
            panic!("not deploy")
        };
        assert_eq!(
            args.function.env,
            [("A".into(), "1".into()), ("B".into(), "x=y".into())]
        );
    }

    #[test]
    fn missing_command_is_a_usage_error() {
        assert_eq!(Cli::try_parse_from(["firn"]).unwrap_err().exit_code(), 2);
    }
}
