use std::sync::Arc;

use model::lambda::{ListVersionsByFunctionInput, ListVersionsByFunctionOutput};
use protocol::Caller;

use crate::error::{Error, InvalidParameter};
use crate::function::Version;
use crate::{Lambda, configuration, paging};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListVersionsByFunctionInput,
) -> Result<ListVersionsByFunctionOutput, Error> {
    let address = lambda.resolve(caller, "ListVersionsByFunction", &input.function_name, None)?;
    let function = lambda.functions.get(&address.id, None)?;
    let size = paging::size(input.max_items);
    // The marker is the number of the last version, with 0 for `$LATEST`.
    let after = match paging::read(input.marker.as_deref())? {
        Some(text) => Some(text.parse::<u64>().map_err(|_| InvalidParameter::Marker)?),
        None => None,
    };
    let is_next = |version: &&Arc<Version>| {
        after.is_none_or(|after| version.number.is_some_and(|number| number > after))
    };
    let mut versions: Vec<&Arc<Version>> = function
        .all_versions()
        .filter(is_next)
        .take(size + 1)
        .collect();
    let next_marker = paging::cut(&mut versions, size, |version| {
        version.number.unwrap_or(0).to_string()
    });
    let describe = |version: &Arc<Version>| {
        configuration::in_list(
            &function,
            version,
            function.id.qualified_arn(version.name()),
        )
    };
    Ok(ListVersionsByFunctionOutput {
        versions: Some(versions.into_iter().map(describe).collect()),
        next_marker,
    })
}
