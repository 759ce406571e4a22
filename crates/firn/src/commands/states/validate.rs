//! `firn states validate`: what is wrong with definitions, like a compiler says it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use asl::definition::{Definition, Severity};
use serde_json::{Value, json};

use super::deploy::parse_pair;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output::{self, Style};
use crate::workflow::source::{Parameters, Source};

/// Flags of `firn states validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Definitions: JSON, or YAML in files that end in .yaml or .yml
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What ${Name} in the definitions stands for; repeat for more
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = parse_pair)]
    params: Vec<(String, String)>,
}

/// One thing that is wrong, and where in the file.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    line: Option<usize>,
    severity: Severity,
    code: String,
    message: String,
    location: Option<String>,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let parameters: Parameters = args.params.iter().cloned().collect();
    let mut documents = Vec::new();
    let mut errors = 0;
    for file in &args.files {
        let source = super::read_source(file, &parameters)?;
        let findings = findings(&source);
        errors += findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .count();
        if global.json {
            documents.extend(findings.iter().map(|finding| as_json(file, finding)));
        } else {
            tell(file, &findings, global)?;
        }
    }
    if global.json {
        output::json(&documents)?;
    }
    match errors {
        0 => Ok(()),
        1 => Err(Failure::Usage("1 error".into()).into()),
        more => Err(Failure::Usage(format!("{more} errors")).into()),
    }
}

fn findings(source: &Source) -> Vec<Finding> {
    let diagnostics = Definition::diagnose(&source.text);
    let finding = |diagnostic: asl::definition::Diagnostic| Finding {
        line: diagnostic
            .location
            .as_deref()
            .and_then(|location| source.line(location)),
        severity: diagnostic.severity,
        code: diagnostic.code.to_owned(),
        message: diagnostic.message,
        location: diagnostic.location,
    };
    diagnostics.into_iter().map(finding).collect()
}

/// `order.asl.json:7: error: Missing 'Next' target: B [MISSING_TRANSITION_TARGET] at /States/A/Next`.
fn tell(file: &Path, findings: &[Finding], global: &Global) -> Result<()> {
    let style = Style::stdout();
    for finding in findings {
        let line = finding
            .line
            .map_or_else(String::new, |line| format!(":{line}"));
        let severity = match finding.severity {
            Severity::Error => style.error("error"),
            Severity::Warning => style.warning("warning"),
        };
        let place = finding.location.as_deref();
        let place = place.map_or_else(String::new, |place| format!(" at {place}"));
        let behind = style.faint(&format!("[{}]{place}", finding.code));
        output::line(format!(
            "{}{line}: {severity}: {} {behind}",
            file.display(),
            finding.message
        ))?;
    }
    if findings.is_empty() && !global.quiet {
        output::line(format!("{}: {}", file.display(), style.good("no errors")))?;
    }
    Ok(())
}

fn as_json(file: &Path, finding: &Finding) -> Value {
    json!({
        "file": file.display().to_string(),
        "line": finding.line,
        "severity": match finding.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
        },
        "code": finding.code,
        "message": finding.message,
        "location": finding.location,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_has_the_line_that_it_is_in() {
        let text = "StartAt: A\nStates:\n  A:\n    Type: Pass\n    Next: B\n";
        let source = Source::read(Path::new("a.yaml"), text, &Parameters::new()).unwrap();
        let findings = findings(&source);
        let missing = findings
            .iter()
            .find(|finding| finding.code == "MISSING_TRANSITION_TARGET")
            .unwrap();
        assert_eq!(missing.line, Some(5));
        assert_eq!(missing.severity, Severity::Error);
    }
}
