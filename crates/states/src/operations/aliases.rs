use std::collections::BTreeSet;
use std::sync::Arc;

use model::stepfunctions::{
    CreateStateMachineAliasInput, CreateStateMachineAliasOutput, DeleteStateMachineAliasInput,
    DeleteStateMachineAliasOutput, DescribeStateMachineAliasInput, DescribeStateMachineAliasOutput,
    ListStateMachineAliasesInput, ListStateMachineAliasesOutput, RoutingConfigurationListItem,
    StateMachineAliasListItem, UpdateStateMachineAliasInput, UpdateStateMachineAliasOutput, error,
};
use protocol::Caller;

use super::machines::limit;
use crate::machines::arn::{self, MachineArn, Qualifier};
use crate::machines::{self, Alias, Change, Machine, Route};
use crate::page::Wanted;
use crate::{Error, States};

const MAX_ALIASES: usize = 100;

pub async fn create(
    states: &States,
    caller: &Caller,
    input: CreateStateMachineAliasInput,
) -> Result<CreateStateMachineAliasOutput, Error> {
    let routing = Routing::read(&input.routing_configuration)?;
    let machine = routing.machine(states, caller)?;
    let now = states.clock.now();
    let created = states.machines.change(&machine.arn, |machine| {
        let mut machine = machine.cloned().ok_or_else(not_found)?;
        if machine.deleting {
            return Err(machines::deleting(&machine.arn));
        }
        routing.check(&machine)?;
        let description = described(input.description);
        let created = match machine.aliases.get(&input.name) {
            Some(alias) if alias.routes == routing.routes && alias.description == description => {
                alias.created
            }
            Some(_) => {
                return Err(Error::refused(
                    &error::CONFLICT,
                    "Failed to create alias because an alias with the same name and a different \
                     routing configuration already exists.",
                ));
            }
            None if machine.aliases.len() >= MAX_ALIASES => {
                return Err(limit(&error::SERVICE_QUOTA_EXCEEDED, "Alias"));
            }
            None => {
                let alias = Alias {
                    description,
                    routes: routing.routes,
                    created: now,
                    updated: now,
                };
                machine.aliases.insert(input.name.clone(), alias);
                now
            }
        };
        let result = CreateStateMachineAliasOutput {
            state_machine_alias_arn: machine.qualified(&input.name),
            creation_date: created,
        };
        Ok(Change {
            machine: Some(machine),
            revision: None,
            result,
        })
    });
    created.await
}

pub async fn update(
    states: &States,
    caller: &Caller,
    input: UpdateStateMachineAliasInput,
) -> Result<UpdateStateMachineAliasOutput, Error> {
    let (machine_arn, name) = named(&input.state_machine_alias_arn)?;
    if input.description.is_none() && input.routing_configuration.is_none() {
        return Err(Error::refused(
            &error::MISSING_REQUIRED_PARAMETER,
            "Either the description or the RoutingConfiguration must be specified",
        ));
    }
    let routing = input
        .routing_configuration
        .as_deref()
        .map(Routing::read)
        .transpose()?;
    let machine = states
        .machines
        .find(caller, &machine_arn)
        .ok_or_else(not_found)?;
    let now = states.clock.now();
    let updated = states.machines.change(&machine.arn, |machine| {
        let mut machine = machine.cloned().ok_or_else(not_found)?;
        if machine.deleting {
            return Err(machines::deleting(&machine.arn));
        }
        if let Some(routing) = &routing {
            routing.check(&machine)?;
        }
        let alias = machine.aliases.get_mut(&name).ok_or_else(not_found)?;
        if input.description.is_some() {
            alias.description = described(input.description);
        }
        if let Some(routing) = routing {
            alias.routes = routing.routes;
        }
        alias.updated = now;
        Ok(Change {
            machine: Some(machine),
            revision: None,
            result: UpdateStateMachineAliasOutput { update_date: now },
        })
    });
    updated.await
}

pub async fn delete(
    states: &States,
    caller: &Caller,
    input: DeleteStateMachineAliasInput,
) -> Result<DeleteStateMachineAliasOutput, Error> {
    let (machine_arn, name) = named(&input.state_machine_alias_arn)?;
    let Some(machine) = states.machines.find(caller, &machine_arn) else {
        return Ok(DeleteStateMachineAliasOutput {});
    };
    let deleted = states.machines.change(&machine.arn, |machine| {
        let mut machine = machine.cloned();
        if let Some(machine) = &mut machine {
            machine.aliases.remove(&name);
        }
        Ok(Change {
            machine,
            revision: None,
            result: DeleteStateMachineAliasOutput {},
        })
    });
    deleted.await
}

pub async fn describe(
    states: &States,
    caller: &Caller,
    input: DescribeStateMachineAliasInput,
) -> Result<DescribeStateMachineAliasOutput, Error> {
    let (machine_arn, name) = named(&input.state_machine_alias_arn)?;
    let machine = states
        .machines
        .find(caller, &machine_arn)
        .ok_or_else(not_found)?;
    let alias = machine.aliases.get(&name).ok_or_else(not_found)?;
    let routes = alias
        .routes
        .iter()
        .map(|route| RoutingConfigurationListItem {
            state_machine_version_arn: machine.qualified(route.version),
            weight: i32::from(route.weight),
        });
    Ok(DescribeStateMachineAliasOutput {
        state_machine_alias_arn: Some(machine.qualified(&name)),
        description: alias.description.clone(),
        routing_configuration: Some(routes.collect()),
        creation_date: Some(alias.created),
        update_date: Some(alias.updated),
        name: Some(name),
    })
}

pub async fn list(
    states: &States,
    caller: &Caller,
    input: ListStateMachineAliasesInput,
) -> Result<ListStateMachineAliasesOutput, Error> {
    let asked = &input.state_machine_arn;
    let missing = || machines::missing(asked);
    let named = MachineArn::parse(asked)?;
    // With a version's ARN, the aliases that lead to it.
    let version = match named.qualifier {
        None => None,
        Some(Qualifier::Version(number)) => Some(number),
        Some(Qualifier::Alias(_)) => return Err(missing()),
    };
    let machine = states
        .machines
        .find(caller, &named.machine)
        .filter(|machine| version.is_none_or(|number| machine.versions.contains_key(&number)))
        .ok_or_else(missing)?;
    let leads = |alias: &Alias| {
        version.is_none_or(|number| alias.routes.iter().any(|route| route.version == number))
    };
    let mut aliases: Vec<(&String, &Alias)> = machine
        .aliases
        .iter()
        .filter(|(_, alias)| leads(alias))
        .collect();
    let place =
        |(name, alias): &(&String, &Alias)| format!("{:020}/{name}", alias.created.as_micros());
    aliases.sort_by_key(place);
    let wanted = Wanted {
        list: "aliases",
        max_results: input.max_results,
        token: input.next_token.as_deref(),
    };
    let (page, next_token) = wanted.page(aliases, place)?;
    let items = page
        .into_iter()
        .map(|(name, alias)| StateMachineAliasListItem {
            state_machine_alias_arn: machine.qualified(name),
            creation_date: alias.created,
        });
    Ok(ListStateMachineAliasesOutput {
        state_machine_aliases: items.collect(),
        next_token,
    })
}

/// Where an alias leads, as far as the request itself can tell.
struct Routing {
    machine_arn: String,
    routes: Vec<Route>,
}

impl Routing {
    fn read(wire: &[RoutingConfigurationListItem]) -> Result<Self, Error> {
        let arns: Vec<&str> = wire
            .iter()
            .map(|item| item.state_machine_version_arn.as_str())
            .collect();
        let distinct: BTreeSet<&str> = arns.iter().copied().collect();
        if distinct.len() < arns.len() {
            return Err(Error::validation(format!(
                "Routing configuration must contain distinct state machine version ARNs. \
                 Received: [{}]",
                arns.join(", ")
            )));
        }
        let weights: Vec<i32> = wire.iter().map(|item| item.weight).collect();
        if weights.iter().map(|weight| i64::from(*weight)).sum::<i64>() != 100 {
            return Err(Error::validation(format!(
                "Sum of routing configuration weights must equal 100. Received: {weights:?}"
            )));
        }
        let mut machine_arn = None;
        let mut routes = Vec::with_capacity(wire.len());
        for (arn, weight) in arns.iter().zip(weights) {
            let parsed = MachineArn::parse(arn)?;
            let Some(Qualifier::Version(version)) = parsed.qualifier else {
                return Err(Error::validation(format!(
                    "Routing configuration must contain state machine version ARNs. Received: [{}]",
                    arns.join(", ")
                )));
            };
            let weight = u8::try_from(weight).unwrap_or_default();
            routes.push(Route { version, weight });
            let first = machine_arn.get_or_insert_with(|| parsed.machine.clone());
            if *first != parsed.machine {
                return Err(Error::validation(format!(
                    "Routing configuration must contain versions of the same state machine. \
                     Received: [{}]",
                    arns.join(", ")
                )));
            }
        }
        let machine_arn = machine_arn.ok_or_else(not_found)?;
        Ok(Self {
            machine_arn,
            routes,
        })
    }

    fn machine(&self, states: &States, caller: &Caller) -> Result<Arc<Machine>, Error> {
        states
            .machines
            .find(caller, &self.machine_arn)
            .ok_or_else(not_found)
    }

    /// The versions must be there, and those of the machine.
    fn check(&self, machine: &Machine) -> Result<(), Error> {
        if self.machine_arn != machine.arn {
            return Err(Error::validation(
                "Routing configuration must contain versions of the alias's state machine."
                    .to_owned(),
            ));
        }
        let there = |route: &Route| machine.versions.contains_key(&route.version);
        match self.routes.iter().all(there) {
            true => Ok(()),
            false => Err(not_found()),
        }
    }
}

/// The machine and the name of an alias's ARN.
fn named(asked: &str) -> Result<(String, String), Error> {
    let parsed = MachineArn::parse(asked)?;
    match parsed.qualifier {
        Some(Qualifier::Alias(name)) if parsed.test_case.is_none() => Ok((parsed.machine, name)),
        _ => Err(arn::invalid(&format!("Invalid ARN format: {asked}"))),
    }
}

fn described(description: Option<String>) -> Option<String> {
    description.filter(|description| !description.is_empty())
}

fn not_found() -> Error {
    Error::refused(
        &error::RESOURCE_NOT_FOUND,
        "Request references a resource that does not exist.",
    )
}
