use model::lambda::{ListEventSourceMappingsInput, ListEventSourceMappingsOutput};
use protocol::Caller;

use crate::error::Error;
use crate::event_sources::{Mapping, of};
use crate::function::Scope;
use crate::service::Address;
use crate::{Lambda, paging};

/// AWS gives no more than this, whatever is asked for.
const MAX_PAGE: usize = 100;

/// A function that is not there has no mappings; asking for them is no error.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListEventSourceMappingsInput,
) -> Result<ListEventSourceMappingsOutput, Error> {
    let scope = Scope {
        account: caller.account,
        region: caller.region.clone(),
    };
    let action = "ListEventSourceMappings";
    let named = |name: &String| lambda.resolve(caller, action, name, None);
    let address = input.function_name.as_ref().map(named).transpose()?;
    let function = address.map(|Address { id, qualifier }| match qualifier {
        Some(qualifier) => id.qualified_arn(qualifier),
        None => id.arn(),
    });
    let wanted = |mapping: &Mapping| {
        let source = input.event_source_arn.as_deref();
        source.is_none_or(|arn| mapping.source.arn() == Some(arn))
            && function
                .as_ref()
                .is_none_or(|arn| mapping.function_arn == *arn)
    };
    let size = input
        .max_items
        .and_then(|count| usize::try_from(count).ok());
    let size = size.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let after = paging::read(input.marker.as_deref())?;
    let mut found = lambda
        .mappings
        .list(&scope, after.as_deref(), size + 1, wanted);
    let next_marker = paging::cut(&mut found, size, |(id, _)| id.clone());
    let now = lambda.clock.now();
    let answer = |(id, mapping): &(String, std::sync::Arc<Mapping>)| {
        of(mapping, &scope, id, mapping.state(now))
    };
    Ok(ListEventSourceMappingsOutput {
        next_marker,
        event_source_mappings: Some(found.iter().map(answer).collect()),
    })
}
