use model::lambda::{CreateAliasInput, CreateAliasOutput};
use protocol::Caller;

use crate::error::Error;
use crate::function::{Alias, new_id};
use crate::name::Qualifier;
use crate::{Lambda, configuration, routing};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: CreateAliasInput,
) -> Result<CreateAliasOutput, Error> {
    let id = lambda
        .resolve(caller, "CreateAlias", &input.function_name, None)?
        .id;
    // Without the function, AWS misses the version.
    let version = Qualifier::from(input.function_version.as_str());
    lambda.functions.get(&id, Some(&version))?;
    let name = input.name.clone();
    let (function, alias) = lambda
        .functions
        .change(id, move |function| {
            let target = routing::target(function, &input.function_version)?;
            if function.aliases.contains_key(&input.name) {
                return Err(Error::AliasExists {
                    arn: function.alias_arn(&input.name),
                });
            }
            let routing = input.routing_config.as_ref();
            let weights = routing.and_then(|config| config.additional_version_weights.as_ref());
            let alias = Alias {
                description: input.description.clone().unwrap_or_default(),
                target,
                weights: match weights {
                    Some(weights) => routing::check(function, target, weights)?,
                    None => Default::default(),
                },
                revision_id: new_id(),
            };
            function.aliases.insert(input.name.clone(), alias.clone());
            Ok(alias)
        })
        .await?;
    Ok(configuration::alias(&function, &name, &alias))
}
