use std::ops::Bound;

use model::lambda::{ListFunctionUrlConfigsInput, ListFunctionUrlConfigsOutput};
use protocol::Caller;

use super::create_function_url_config::missing;
use crate::error::Error;
use crate::{Lambda, paging};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListFunctionUrlConfigsInput,
) -> Result<ListFunctionUrlConfigsOutput, Error> {
    let id = lambda
        .resolve(caller, "ListFunctionUrlConfigs", &input.function_name, None)?
        .id;
    let function = lambda.functions.get(&id, None).map_err(missing)?;
    let size = paging::size(input.max_items);
    let after = paging::read(input.marker.as_deref())?;
    let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let urls = &function.attached.urls;
    let urls = urls.range::<str, _>((start, Bound::Unbounded));
    let mut urls: Vec<_> = urls.take(size + 1).collect();
    let next_marker = paging::cut(&mut urls, size, |(key, _)| (*key).clone());
    let urls = urls.into_iter();
    Ok(ListFunctionUrlConfigsOutput {
        function_url_configs: urls
            .map(|(key, url)| lambda.describe_url(&function, key, url))
            .collect(),
        next_marker,
    })
}
