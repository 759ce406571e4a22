//! How results look: colour and tables on a terminal, plain text in a pipe, JSON on request.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::failure::Failure;

/// Whether a stream gets colour. `NO_COLOR` wins, as <https://no-color.org> asks.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// For text on standard output.
    pub fn stdout() -> Self {
        Self {
            colour: std::io::stdout().is_terminal() && colour_allowed(),
        }
    }

    /// For text on standard error.
    pub fn stderr() -> Self {
        Self {
            colour: std::io::stderr().is_terminal() && colour_allowed(),
        }
    }

    #[cfg(test)]
    pub const fn plain() -> Self {
        Self { colour: false }
    }

    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

fn colour_allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes one line to standard output. A closed pipe ends the command quietly.
pub fn line(text: impl AsRef<str>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    write_or_closed(out.write_all(text.as_ref().as_bytes()))?;
    write_or_closed(out.write_all(b"\n"))
}

/// Writes bytes to standard output as they are.
pub fn bytes(data: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    write_or_closed(out.write_all(data))?;
    write_or_closed(out.flush())
}

/// Writes a value as indented JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    line(serde_json::to_string_pretty(value).context("cannot write the result as JSON")?)
}

fn write_or_closed(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::Closed.into()),
        other => other.context("cannot write to standard output"),
    }
}

/// Writes rows under a header: aligned columns on a terminal, tab-separated in a pipe, so that
/// `cut` and `awk` work.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Result<()> {
    if !std::io::stdout().is_terminal() {
        return rows.iter().try_for_each(|row| line(row.join("\t")));
    }
    line(render(header, rows, Style::stdout()))
}

/// Pads columns to their widest cell. Only the header is styled, and cells of the last column may
/// be: escape codes have no width, so a styled cell cannot be padded.
fn render<const N: usize>(header: [&str; N], rows: &[[String; N]], style: Style) -> String {
    let mut widths = header.map(|title| title.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    if let Some(last) = widths.last_mut() {
        *last = 0;
    }
    let line = |cells: &[String; N]| {
        let padded = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let title = style.strong(&line(&header.map(str::to_owned)));
    std::iter::once(title)
        .chain(rows.iter().map(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `1.5 MB`, with decimal units as AWS's console shows them.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    #[expect(clippy::cast_precision_loss, reason = "a rounded number for a human")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_style_adds_no_escape_codes() {
        assert_eq!(Style::plain().error("x"), "x");
        assert_eq!(Style { colour: true }.good("x"), "\u{1b}[32mx\u{1b}[0m");
    }

    #[test]
    fn bytes_are_shown_with_one_decimal() {
        assert_eq!(human_bytes(999), "999 B");
        assert_eq!(human_bytes(1500), "1.5 kB");
        assert_eq!(human_bytes(50_000_000), "50.0 MB");
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            ["a".to_owned(), "1".to_owned()],
            ["longer".to_owned(), "2".to_owned()],
        ];
        let text = render(["NAME", "N"], &rows, Style::plain());
        assert_eq!(text, "NAME    N\na       1\nlonger  2");
    }
}
