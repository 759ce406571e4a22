//! What is told of a state that has been run.

use std::sync::Arc;

use asl::failure::Failure;
use asl::machine::trial::{Ended, Inspection, Mock};
use model::stepfunctions::{
    InspectionData, InspectionErrorDetails, InspectionLevel, TestExecutionStatus, TestStateOutput,
};
use serde_json::{Map, Value};

use super::request::Request;

pub fn output(request: &Request, inspection: &Inspection, ended: Ended) -> TestStateOutput {
    let mut output = TestStateOutput {
        inspection_data: match request.level {
            InspectionLevel::Info => None,
            _ => Some(data(request, inspection)),
        },
        ..TestStateOutput::default()
    };
    let mut details = None;
    match ended {
        Ended::Succeeded { output: made, next } => {
            output.status = Some(TestExecutionStatus::Succeeded);
            output.output = Some(text(request, &made));
            output.next_state = next;
        }
        Ended::Failed(failure) => {
            output.status = Some(TestExecutionStatus::Failed);
            tell(&mut output, failure);
        }
        Ended::Retriable {
            failure,
            retrier,
            seconds,
        } => {
            output.status = Some(TestExecutionStatus::Retriable);
            tell(&mut output, failure);
            details = Some(InspectionErrorDetails {
                retry_index: i32::try_from(retrier).ok(),
                retry_backoff_interval_seconds: Some(whole(seconds)),
                ..InspectionErrorDetails::default()
            });
        }
        Ended::Caught {
            failure,
            catcher,
            output: made,
            next,
        } => {
            output.status = Some(TestExecutionStatus::CaughtError);
            tell(&mut output, failure);
            output.output = Some(made.to_string());
            output.next_state = Some(next);
            details = Some(InspectionErrorDetails {
                catch_index: i32::try_from(catcher).ok(),
                ..InspectionErrorDetails::default()
            });
        }
    }
    if let Some(data) = &mut output.inspection_data {
        data.error_details = details;
    }
    output
}

/// Recorded on AWS: a mocked result that nothing has changed is shown in the letters that it was
/// given in.
fn text(request: &Request, value: &Value) -> String {
    match (&request.mock, &request.mocked_text) {
        (Some(Mock::Result(result)), Some(text)) if result == value => text.clone(),
        _ => value.to_string(),
    }
}

fn tell(output: &mut TestStateOutput, failure: Failure) {
    output.error = failure.error;
    output.cause = failure.cause;
}

fn data(request: &Request, inspection: &Inspection) -> InspectionData {
    let text = |value: &Option<Arc<Value>>| value.as_ref().map(|value| text(request, value));
    let count = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
    let variables = &inspection.variables;
    InspectionData {
        input: Some(request.input.to_string()),
        after_arguments: text(&inspection.after_arguments),
        after_input_path: text(&inspection.after_input_path),
        after_parameters: text(&inspection.after_parameters),
        result: text(&inspection.result),
        after_result_selector: text(&inspection.after_result_selector),
        after_result_path: text(&inspection.after_result_path),
        after_items_path: text(&inspection.after_items_path),
        after_item_selector: text(&inspection.after_item_selector),
        variables: (!variables.is_empty()).then(|| {
            let shown: Map<String, Value> = variables
                .iter()
                .map(|(name, value)| (name.to_string(), Value::clone(value)))
                .collect();
            Value::Object(shown).to_string()
        }),
        tolerated_failure_count: inspection.tolerated_count.map(count),
        tolerated_failure_percentage: inspection.tolerated_percentage,
        max_concurrency: inspection.max_concurrency.map(count),
        ..InspectionData::default()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "floats beyond the range become its end"
)]
fn whole(seconds: f64) -> i32 {
    seconds as i32
}
