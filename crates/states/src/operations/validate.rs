use asl::definition::{Diagnostic, Severity};
use model::stepfunctions::{
    StateMachineType, ValidateStateMachineDefinitionDiagnostic,
    ValidateStateMachineDefinitionInput, ValidateStateMachineDefinitionOutput,
    ValidateStateMachineDefinitionResultCode, ValidateStateMachineDefinitionSeverity,
};
use protocol::Caller;

use crate::machines::{Kind, check};
use crate::{Error, States};

const MAX_RESULTS: usize = 100;

pub async fn run(
    _states: &States,
    _caller: &Caller,
    input: ValidateStateMachineDefinitionInput,
) -> Result<ValidateStateMachineDefinitionOutput, Error> {
    let kind = match input.type_ {
        Some(StateMachineType::Express) => Kind::Express,
        _ => Kind::Standard,
    };
    let mut found = check::diagnose(&input.definition, kind);
    let failed = found.iter().any(|one| one.severity == Severity::Error);
    // Warnings come along only if they are asked for.
    if input.severity != Some(ValidateStateMachineDefinitionSeverity::Warning) {
        found.retain(|one| one.severity == Severity::Error);
    }
    let most = match input.max_results.map(usize::try_from) {
        None | Some(Ok(0) | Err(_)) => MAX_RESULTS,
        Some(Ok(most)) => most.min(MAX_RESULTS),
    };
    let truncated = found.len() > most;
    found.truncate(most);
    Ok(ValidateStateMachineDefinitionOutput {
        result: match failed {
            true => ValidateStateMachineDefinitionResultCode::Fail,
            false => ValidateStateMachineDefinitionResultCode::Ok,
        },
        diagnostics: found.into_iter().map(wire).collect(),
        truncated: Some(truncated),
    })
}

fn wire(found: Diagnostic) -> ValidateStateMachineDefinitionDiagnostic {
    ValidateStateMachineDefinitionDiagnostic {
        severity: match found.severity {
            Severity::Error => ValidateStateMachineDefinitionSeverity::Error,
            Severity::Warning => ValidateStateMachineDefinitionSeverity::Warning,
        },
        code: found.code.to_owned(),
        message: found.message,
        location: found.location,
    }
}
