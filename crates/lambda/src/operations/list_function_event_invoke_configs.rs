use model::lambda::{ListFunctionEventInvokeConfigsInput, ListFunctionEventInvokeConfigsOutput};
use protocol::Caller;

use crate::error::Error;
use crate::{Lambda, paging};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListFunctionEventInvokeConfigsInput,
) -> Result<ListFunctionEventInvokeConfigsOutput, Error> {
    let action = "ListFunctionEventInvokeConfigs";
    let id = lambda
        .resolve(caller, action, &input.function_name, None)?
        .id;
    let function = lambda
        .functions
        .get(&id, None)
        .map_err(|_| Error::NoSuchFunction)?;
    let size = paging::size(input.max_items);
    let after = paging::read(input.marker.as_deref())?;
    let mut configs: Vec<_> = function
        .attached
        .event_invoke
        .iter()
        .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
        .take(size + 1)
        .collect();
    let next_marker = paging::cut(&mut configs, size, |(key, _)| (*key).clone());
    let shown = configs
        .into_iter()
        .map(|(key, config)| config.describe(&id, key));
    Ok(ListFunctionEventInvokeConfigsOutput {
        function_event_invoke_configs: Some(shown.collect()),
        next_marker,
    })
}
