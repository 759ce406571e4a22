use model::lambda::{GetEventSourceMappingInput, GetEventSourceMappingOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::event_sources::of;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetEventSourceMappingInput,
) -> Result<GetEventSourceMappingOutput, Error> {
    let (scope, mapping) = lambda.mapping(caller, &input.uuid)?;
    let state = mapping.state(lambda.clock.now());
    Ok(of(&mapping, &scope, &input.uuid, state))
}
