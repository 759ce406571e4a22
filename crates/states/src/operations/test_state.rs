use model::stepfunctions::{TestStateInput, TestStateOutput};
use protocol::Caller;

use crate::{Error, States, test_state};

pub async fn run(
    states: &States,
    caller: &Caller,
    input: TestStateInput,
) -> Result<TestStateOutput, Error> {
    test_state::run(&states.clock, &states.hooks.tasks, caller, input).await
}
