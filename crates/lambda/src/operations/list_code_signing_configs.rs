use model::lambda::{ListCodeSigningConfigsInput, ListCodeSigningConfigsOutput};
use protocol::Caller;

use crate::error::Error;
use crate::function::Scope;
use crate::{Lambda, paging};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListCodeSigningConfigsInput,
) -> Result<ListCodeSigningConfigsOutput, Error> {
    let scope = Scope {
        account: caller.account,
        region: caller.region.clone(),
    };
    let size = paging::size(input.max_items);
    let after = paging::read(input.marker.as_deref())?;
    let configs = &lambda.signing_configs;
    let mut found = configs.list(&scope, after.as_deref(), size + 1, |_| true);
    let next_marker = paging::cut(&mut found, size, |(id, _)| id.clone());
    let answers = found.iter().map(|(id, config)| config.answer(&scope, id));
    Ok(ListCodeSigningConfigsOutput {
        next_marker,
        code_signing_configs: Some(answers.collect()),
    })
}
