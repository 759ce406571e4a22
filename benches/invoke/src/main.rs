//! Tools of the invoke benchmark: a load generator that adds next to nothing to what it measures, and the floor that
//! firn is measured against. `benches/invoke/run.py` drives them; results are one JSON object on standard output.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "results go to standard output")]

mod burst;
mod connection;
mod floor;
mod latencies;
mod load;
mod runtime_loop;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keep a number of clients busy for a time, one request at a time each
    Load(load::Args),
    /// Send many requests at once, one connection each, while timing another path
    Burst(burst::Args),
    /// Serve a runtime client without sandbox, log or store
    Floor(floor::Args),
    /// Time a runtime client alone: from the event it is given to the answer it has posted
    RuntimeLoop(runtime_loop::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Load(args) => println!("{}", load::run(&args)?),
        Command::Burst(args) => println!("{}", burst::run(&args)?),
        Command::Floor(args) => floor::run(args)?,
        Command::RuntimeLoop(args) => println!("{}", runtime_loop::run(&args)?),
    }
    Ok(())
}
