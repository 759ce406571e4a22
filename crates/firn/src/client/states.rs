//! What commands ask of the Step Functions API beyond a single operation.

use anyhow::Result;
use model::stepfunctions::{
    DescribeExecutionInput, DescribeExecutionOutput, DescribeMapRunInput, DescribeMapRunOutput,
    GetExecutionHistoryInput, ListExecutionsInput, ListStateMachinesInput, StateMachineListItem,
};
use serde_json::Value;

use super::Client;
use crate::failure::usage;

/// As many as AWS gives at once.
const PAGE: i32 = 1000;

impl Client {
    /// All state machines, over all pages.
    pub async fn state_machines(&self) -> Result<Vec<StateMachineListItem>> {
        let mut all = Vec::new();
        let mut input = ListStateMachinesInput {
            max_results: Some(PAGE),
            ..ListStateMachinesInput::default()
        };
        loop {
            let page = self.call(&input).await?.output;
            all.extend(page.state_machines);
            input.next_token = page.next_token;
            if input.next_token.is_none() {
                return Ok(all);
            }
        }
    }

    /// The ARN of a machine, by ARN or by name. `:` and a version or alias, or `#` and a test case,
    /// may follow the name.
    pub async fn machine_arn(&self, reference: &str) -> Result<String> {
        if reference.starts_with("arn:") {
            return Ok(reference.to_owned());
        }
        let end = reference.find([':', '#']).unwrap_or(reference.len());
        let (name, qualifier) = reference.split_at(end);
        let machines = self.state_machines().await?;
        match machines.into_iter().find(|machine| machine.name == name) {
            Some(machine) => Ok(format!("{}{qualifier}", machine.state_machine_arn)),
            None => Err(usage(format!(
                "there is no state machine {name}; `firn states list` shows all"
            ))),
        }
    }

    /// The ARN of an execution: by ARN, as `MACHINE/EXECUTION`, or the newest one of `MACHINE`.
    pub async fn execution_arn(&self, reference: &str) -> Result<String> {
        if reference.contains(":execution:") || reference.contains(":express:") {
            return Ok(reference.to_owned());
        }
        let (machine, execution) = match reference.split_once('/') {
            Some((machine, execution)) if !machine.starts_with("arn:") => {
                (machine, Some(execution))
            }
            _ => (reference, None),
        };
        let arn = self.machine_arn(machine).await?;
        if let Some(execution) = execution {
            let base = arn.replacen(":stateMachine:", ":execution:", 1);
            return Ok(format!("{base}:{execution}"));
        }
        let input = ListExecutionsInput {
            state_machine_arn: Some(arn),
            max_results: Some(1),
            ..ListExecutionsInput::default()
        };
        let newest = self.call(&input).await?.output.executions;
        match newest.into_iter().next() {
            Some(newest) => Ok(newest.execution_arn),
            None => Err(usage(format!("{machine} has no executions yet"))),
        }
    }

    pub async fn execution(&self, arn: &str) -> Result<DescribeExecutionOutput> {
        let input = DescribeExecutionInput {
            execution_arn: arn.to_owned(),
            ..DescribeExecutionInput::default()
        };
        Ok(self.call(&input).await?.output)
    }

    pub async fn map_run(&self, arn: &str) -> Result<DescribeMapRunOutput> {
        let input = DescribeMapRunInput {
            map_run_arn: arn.to_owned(),
        };
        Ok(self.call(&input).await?.output)
    }

    /// The events of an execution that are newer than `seen`, as the service answers them, oldest
    /// first.
    pub async fn events_after(&self, arn: &str, seen: i64) -> Result<Vec<Value>> {
        let mut newest_first: Vec<Value> = Vec::new();
        let mut input = GetExecutionHistoryInput {
            execution_arn: arn.to_owned(),
            // Of a history that has been seen, the end alone is asked for.
            reverse_order: Some(seen > 0),
            max_results: Some(if seen > 0 { 100 } else { PAGE }),
            ..GetExecutionHistoryInput::default()
        };
        loop {
            let reply = self.call(&input).await?;
            let page = match reply.document()?.get_mut("events").map(Value::take) {
                Some(Value::Array(events)) => events,
                _ => Vec::new(),
            };
            let count = page.len();
            let new = page.into_iter().filter(|event| id(event) > seen);
            let before = newest_first.len();
            newest_first.extend(new);
            let all_new = newest_first.len() - before == count;
            input.next_token = reply.output.next_token;
            if input.next_token.is_none() || !all_new {
                break;
            }
        }
        newest_first.sort_by_key(id);
        Ok(newest_first)
    }
}

/// The number of an event.
pub fn id(event: &Value) -> i64 {
    event["id"].as_i64().unwrap_or_default()
}
