//! Progress on standard error, for a human who waits. In a pipe, or with `--quiet`, nothing shows.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts bytes up to `total`.
pub fn bytes(quiet: bool, what: &str, total: u64) -> ProgressBar {
    let bar = if shows(quiet) {
        ProgressBar::new(total)
    } else {
        ProgressBar::hidden()
    };
    let template = "{msg:12} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
    bar.with_style(style(template))
        .with_message(what.to_owned())
}

/// A spinner for a wait of unknown length.
pub fn spinner(quiet: bool, what: &str) -> ProgressBar {
    let bar = if shows(quiet) {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    bar.enable_steady_tick(Duration::from_millis(100));
    bar.with_message(what.to_owned())
}

fn shows(quiet: bool) -> bool {
    !quiet && std::io::stderr().is_terminal()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
