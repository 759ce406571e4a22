use model::lambda::{UpdateAliasInput, UpdateAliasOutput};
use protocol::Caller;

use crate::error::Error;
use crate::function::{Alias, Function, new_id};
use crate::{Lambda, concurrency, configuration, routing};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: UpdateAliasInput,
) -> Result<UpdateAliasOutput, Error> {
    let id = lambda
        .resolve(caller, "UpdateAlias", &input.function_name, None)?
        .id;
    let name = input.name.clone();
    let (function, alias) = lambda
        .functions
        .change(id, move |function| update(function, &input))
        .await?;
    if function
        .attached
        .concurrency
        .provisioned
        .contains_key(&name)
    {
        lambda.capacity.provide(&function.id);
    }
    Ok(configuration::alias(&function, &name, &alias))
}

fn update(function: &mut Function, input: &UpdateAliasInput) -> Result<Alias, Error> {
    let Some(existing) = function.aliases.get(&input.name) else {
        return Err(Error::AliasToUpdateNotFound {
            arn: function.alias_arn(&input.name),
        });
    };
    if input
        .revision_id
        .as_ref()
        .is_some_and(|expected| *expected != existing.revision_id)
    {
        return Err(Error::RevisionMismatch);
    }
    let before = existing.target;
    let mut alias = existing.clone();
    if concurrency::in_transit(function, &input.name).is_some() {
        alias.weights.clear();
    }
    if let Some(version) = &input.function_version {
        alias.target = routing::target(function, version)?;
    }
    if let Some(description) = &input.description {
        alias.description.clone_from(description);
    }
    // An empty routing configuration takes the weights away.
    if let Some(routing) = &input.routing_config {
        let weights = routing
            .additional_version_weights
            .clone()
            .unwrap_or_default();
        alias.weights = routing::check(function, alias.target, &weights)?;
    } else if !alias.weights.is_empty() {
        let weights = alias
            .weights
            .iter()
            .map(|(number, weight)| (number.to_string(), *weight));
        routing::check(function, alias.target, &weights.collect())?;
    }
    let names_weights = input.routing_config.is_some();
    concurrency::settle_alias(function, &input.name, before, &mut alias, names_weights)?;
    // Even an update that changes nothing makes a new revision.
    alias.revision_id = new_id();
    function.aliases.insert(input.name.clone(), alias.clone());
    Ok(alias)
}
