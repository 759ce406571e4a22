use model::lambda::{GetAliasInput, GetAliasOutput};
use protocol::Caller;

use crate::error::Error;
use crate::{Lambda, configuration};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetAliasInput,
) -> Result<GetAliasOutput, Error> {
    let id = lambda
        .resolve(caller, "GetAlias", &input.function_name, None)?
        .id;
    let function = lambda.functions.get(&id, None)?;
    match function.aliases.get(&input.name) {
        Some(alias) => Ok(configuration::alias(&function, &input.name, alias)),
        None => Err(Error::AliasNotFound {
            arn: function.alias_arn(&input.name),
        }),
    }
}
