use model::lambda::{DeleteEventSourceMappingInput, DeleteEventSourceMappingOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::event_sources::{Transition, of};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: DeleteEventSourceMappingInput,
) -> Result<DeleteEventSourceMappingOutput, Error> {
    let id = input.uuid;
    let (scope, _) = lambda.mapping(caller, &id)?;
    let now = lambda.clock.now();
    let settled = lambda.mapping_settles(now);
    let changed = lambda.mappings.change(&scope, &id, move |mapping| {
        mapping.check_settled(now, "delete")?;
        mapping.transition = Transition::Deleting;
        mapping.modified = now;
        mapping.settled = settled;
        Ok(())
    });
    let mapping = changed.await?.ok_or(Error::ResourceNotFound)?;
    let answer = of(&mapping, &scope, &id, mapping.transition.name());
    lambda.finish_deletion(scope, id, settled);
    Ok(answer)
}
