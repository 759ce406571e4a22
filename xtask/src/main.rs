//! Development tasks: `cargo xtask codegen`.
#![forbid(unsafe_code)]

mod codegen;

use std::path::Path;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of firn")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Generates crates/model from the facts in models/.
    Codegen {
        /// Fail if a generated file is not current, and write nothing.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask lies in the root of the workspace")?;
    match Arguments::parse().task {
        Task::Codegen { check } => codegen::run(root, check),
    }
}
