//! `firn version`.

use anyhow::Result;

use crate::cli::Global;
use crate::output;

pub fn run(global: &Global) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if global.json {
        return output::json(&serde_json::json!({ "version": version }));
    }
    output::line(format!("firn {version}"))
}
