//! Tools of the benchmarks: load generators that add next to nothing to what they measure, and the floor that firn's
//! invokes are measured against. The `run.py` of each benchmark drives them; results are one JSON object on standard
//! output.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "results go to standard output")]

mod answer;
mod burst;
mod connection;
mod drive;
mod floor;
mod follow;
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
    /// The same from one thread, in a closed loop or at a rate, to an end by time or by count
    Drive(drive::Args),
    /// Start executions of a state machine, each watched until it is over before the next
    Follow(follow::Args),
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
        Command::Drive(args) => println!("{}", drive::run(args)?),
        Command::Follow(args) => println!("{}", follow::run(&args)?),
        Command::Burst(args) => println!("{}", burst::run(&args)?),
        Command::Floor(args) => floor::run(args)?,
        Command::RuntimeLoop(args) => println!("{}", runtime_loop::run(&args)?),
    }
    Ok(())
}
