//! The operations, by what they are about.

pub(crate) mod activities;
mod aliases;
mod configuration;
mod events;
mod executions;
mod machines;
mod map_runs;
mod tags;
mod tasks;
mod test_state;
mod validate;
mod versions;

use protocol::operations;

use crate::States;

operations! { States:
    "CreateActivity" => activities::create,
    "CreateStateMachine" => machines::create,
    "CreateStateMachineAlias" => aliases::create,
    "DeleteActivity" => activities::delete,
    "DeleteStateMachine" => machines::delete,
    "DeleteStateMachineAlias" => aliases::delete,
    "DeleteStateMachineVersion" => versions::delete,
    "DescribeActivity" => activities::describe,
    "DescribeExecution" => executions::describe,
    "DescribeMapRun" => map_runs::describe,
    "DescribeStateMachine" => machines::describe,
    "DescribeStateMachineAlias" => aliases::describe,
    "DescribeStateMachineForExecution" => machines::describe_for_execution,
    "GetActivityTask" => tasks::fetch,
    "GetExecutionHistory" => executions::history,
    "ListActivities" => activities::list,
    "ListExecutions" => executions::list,
    "ListMapRuns" => map_runs::list,
    "ListStateMachineAliases" => aliases::list,
    "ListStateMachineVersions" => versions::list,
    "ListStateMachines" => machines::list,
    "ListTagsForResource" => tags::list,
    "PublishStateMachineVersion" => versions::publish,
    "RedriveExecution" => executions::redrive,
    "SendTaskFailure" => tasks::fail,
    "SendTaskHeartbeat" => tasks::heartbeat,
    "SendTaskSuccess" => tasks::succeed,
    "StartExecution" => executions::start,
    "StartSyncExecution" => executions::start_sync,
    "StopExecution" => executions::stop,
    "TagResource" => tags::add,
    "TestState" => test_state::run,
    "UntagResource" => tags::remove,
    "UpdateMapRun" => map_runs::update,
    "UpdateStateMachine" => machines::update,
    "UpdateStateMachineAlias" => aliases::update,
    "ValidateStateMachineDefinition" => validate::run,
}
