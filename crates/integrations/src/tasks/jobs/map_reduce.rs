//! EMR, whose actions are not its operations.

use asl::failure::Failure;
use serde_json::{Value, json};

use crate::support::{Action, Optimised};
use crate::tasks::Task;

impl Task<'_> {
    /// EMR's actions, which are not named as its operations.
    pub async fn map_reduce(
        &self,
        known: &'static Optimised,
        action: &Action,
    ) -> Result<Value, Failure> {
        let given = &*self.call.input;
        let of = |name: &str| given.get(name).cloned().unwrap_or(Value::Null);
        match action.name {
            "createCluster" => {
                let mut made = self.operate(known, "runJobFlow", given).await?;
                rename(&mut made, "JobFlowId", "ClusterId");
                Ok(made)
            }
            "addStep" => {
                let ask = json!({"JobFlowId": of("ClusterId"), "Steps": [of("Step")]});
                let mut made = self.operate(known, "addJobFlowSteps", &ask).await?;
                let step = made.pointer("/StepIds/0").cloned().unwrap_or(Value::Null);
                made["StepId"] = step;
                if let Some(made) = made.as_object_mut() {
                    made.shift_remove("StepIds");
                }
                Ok(made)
            }
            "cancelStep" => {
                let ask = json!({"ClusterId": of("ClusterId"), "StepIds": [of("StepId")]});
                self.operate(known, "cancelSteps", &ask).await
            }
            "terminateCluster" => {
                let ask = json!({"JobFlowIds": [of("ClusterId")]});
                self.operate(known, "terminateJobFlows", &ask).await
            }
            _ => {
                let ask = json!({
                    "JobFlowIds": [of("ClusterId")],
                    "TerminationProtected": of("TerminationProtected"),
                });
                self.operate(known, "setTerminationProtection", &ask).await
            }
        }
    }
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(object) = object.as_object_mut()
        && let Some(value) = object.shift_remove(from)
    {
        object.insert(to.to_owned(), value);
    }
}
