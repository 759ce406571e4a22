//! `firn`: runs AWS Lambda functions on this machine, behind the AWS APIs.
//!
//! This crate is the command line, the configuration and the assembly of the server; it alone names
//! the concrete parts. Everything a client command does goes over HTTP to a server, so it works the
//! same on a remote one.
#![forbid(unsafe_code)]

mod admin;
mod assembly;
mod buckets;
mod cli;
mod client;
mod commands;
mod config;
mod development;
mod execution_metrics;
mod failure;
mod logging;
mod map_objects;
mod measurements;
mod output;
mod package;
mod progress;
mod server_key;
mod status_events;
mod tasks;
mod workflow;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // The server runs this same executable again as the spawner of sandboxes, before there are
    // threads. In that case this does not return.
    sandbox::spawner_main();
    // And once more for JSONata expressions that may become large; that does not return, either.
    evaluators::worker_main();
    evaluators::install();

    let cli = cli::Cli::parse();
    let json = cli.global.json;
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => failure::report(&err, json),
    }
}
