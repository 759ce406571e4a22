//! `firn doctor`: what this machine offers, what is missing, and what to do about it.

mod snapshots;

use anyhow::{Result, bail};
use sandbox::{Check, Status};
use serde_json::json;

use crate::cli::Global;
use crate::output::{self, Style};

/// Flags of `firn doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: Args, global: &Global) -> Result<()> {
    let mut checks = sandbox::doctor();
    checks.extend(snapshots::checks());
    if global.json {
        let list: Vec<_> = checks.iter().map(as_json).collect();
        output::json(&list)?;
    } else {
        let style = Style::stdout();
        checks.iter().try_for_each(|check| show(check, style))?;
    }
    let missing = checks
        .iter()
        .filter(|check| check.status == Status::Missing)
        .count();
    if missing > 0 {
        bail!("{missing} needed features are missing on this machine");
    }
    Ok(())
}

fn show(check: &Check, style: Style) -> Result<()> {
    let mark = match check.status {
        Status::Ok => style.good("ok      "),
        Status::Degraded => style.warning("degraded"),
        Status::Missing => style.error("missing "),
    };
    output::line(format!(
        "{mark}  {}  {}",
        style.strong(check.name),
        style.faint(&check.detail)
    ))?;
    for (label, text) in [("cost", check.cost), ("remedy", check.remedy)] {
        if !text.is_empty() {
            output::line(format!("          {label}: {text}"))?;
        }
    }
    Ok(())
}

fn as_json(check: &Check) -> serde_json::Value {
    let status = match check.status {
        Status::Ok => "ok",
        Status::Degraded => "degraded",
        Status::Missing => "missing",
    };
    json!({
        "name": check.name,
        "status": status,
        "detail": check.detail,
        "cost": check.cost,
        "remedy": check.remedy,
    })
}
