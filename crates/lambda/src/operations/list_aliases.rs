use std::ops::Bound;

use model::lambda::{ListAliasesInput, ListAliasesOutput};
use protocol::Caller;

use crate::error::Error;
use crate::{Lambda, configuration, paging};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListAliasesInput,
) -> Result<ListAliasesOutput, Error> {
    let id = lambda
        .resolve(caller, "ListAliases", &input.function_name, None)?
        .id;
    let function = lambda.functions.get(&id, None)?;
    let size = paging::size(input.max_items);
    let after = paging::read(input.marker.as_deref())?;
    let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let version = input.function_version.as_deref();
    let mut aliases: Vec<_> = function
        .aliases
        .range::<str, _>((start, Bound::Unbounded))
        .filter(|(_, alias)| version.is_none_or(|version| alias.target.to_string() == version))
        .take(size + 1)
        .collect();
    let next_marker = paging::cut(&mut aliases, size, |(name, _)| (*name).clone());
    let describe = |(name, alias): (&String, _)| configuration::alias(&function, name, alias);
    Ok(ListAliasesOutput {
        aliases: Some(aliases.into_iter().map(describe).collect()),
        next_marker,
    })
}
