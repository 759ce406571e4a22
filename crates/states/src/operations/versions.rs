use model::stepfunctions::{
    DeleteStateMachineVersionInput, DeleteStateMachineVersionOutput, ListStateMachineVersionsInput,
    ListStateMachineVersionsOutput, PublishStateMachineVersionInput,
    PublishStateMachineVersionOutput, StateMachineVersionListItem, error,
};
use protocol::Caller;

use super::machines::{publish as publish_version, unqualified};
use crate::machines::arn::{MachineArn, Qualifier};
use crate::machines::{self, Change};
use crate::page::Wanted;
use crate::{Error, States};

/// How clients name the revision that came with the machine.
const INITIAL: &str = "INITIAL";

pub async fn publish(
    states: &States,
    caller: &Caller,
    input: PublishStateMachineVersionInput,
) -> Result<PublishStateMachineVersionOutput, Error> {
    let machine = unqualified(states, caller, &input.state_machine_arn)?;
    let now = states.clock.now();
    let published = states.machines.change(&machine.arn, |machine| {
        let mut machine = machine
            .cloned()
            .ok_or_else(|| machines::missing(&input.state_machine_arn))?;
        if machine.deleting {
            return Err(machines::deleting(&machine.arn));
        }
        let current = states.machines.revision(&machine.revision)?;
        let current = current.public_id().unwrap_or(INITIAL);
        if let Some(wanted) = &input.revision_id
            && wanted != current
        {
            let text = format!(
                "Failed to publish the State Machine version for revision {wanted}. The current \
                 State Machine revision is {current}."
            );
            return Err(Error::refused(&error::CONFLICT, text));
        }
        let number = publish_version(&mut machine, input.description, now)?;
        let result = PublishStateMachineVersionOutput {
            creation_date: machine.versions[&number].created,
            state_machine_version_arn: machine.qualified(number),
        };
        Ok(Change {
            machine: Some(machine),
            revision: None,
            result,
        })
    });
    published.await
}

pub async fn delete(
    states: &States,
    caller: &Caller,
    input: DeleteStateMachineVersionInput,
) -> Result<DeleteStateMachineVersionOutput, Error> {
    let named = MachineArn::parse(&input.state_machine_version_arn)?;
    let Some(Qualifier::Version(number)) = named.qualifier else {
        return Err(Error::validation(format!(
            "The ARN must be that of a state machine version: '{}'",
            input.state_machine_version_arn
        )));
    };
    let Some(machine) = states.machines.find(caller, &named.machine) else {
        return Ok(DeleteStateMachineVersionOutput {});
    };
    let deleted = states.machines.change(&machine.arn, |machine| {
        let mut machine = machine.cloned();
        if let Some(machine) = &mut machine {
            let aliases = machine.aliases_of(number);
            if !aliases.is_empty() {
                let text = format!(
                    "Version to be deleted must not be referenced by an alias. Current list of \
                     aliases referencing this version: [{}]",
                    aliases.join(", ")
                );
                return Err(Error::refused(&error::CONFLICT, text));
            }
            machine.versions.remove(&number);
        }
        Ok(Change {
            machine,
            revision: None,
            result: DeleteStateMachineVersionOutput {},
        })
    });
    deleted.await
}

pub async fn list(
    states: &States,
    caller: &Caller,
    input: ListStateMachineVersionsInput,
) -> Result<ListStateMachineVersionsOutput, Error> {
    let asked = &input.state_machine_arn;
    let named = MachineArn::parse(asked)?;
    // Unlike its siblings, this operation does not know an error for machines that do not exist.
    let missing = || Error::refused(&error::INVALID_ARN, format!("Invalid arn: {asked}"));
    if named.machine != *asked {
        return Err(missing());
    }
    let machine = states.machines.find(caller, asked).ok_or_else(missing)?;
    let wanted = Wanted {
        list: "versions",
        max_results: input.max_results,
        token: input.next_token.as_deref(),
    };
    // Newest first: a place counts down, so that what is published meanwhile does not move it.
    let place = |number: u64| format!("{:020}", u64::MAX - number);
    let versions = machine.versions.iter().rev();
    let (page, next_token) = wanted.page(versions, |(number, _)| place(**number))?;
    let items = page
        .into_iter()
        .map(|(number, version)| StateMachineVersionListItem {
            state_machine_version_arn: machine.qualified(number),
            creation_date: version.created,
        });
    Ok(ListStateMachineVersionsOutput {
        state_machine_versions: items.collect(),
        next_token,
    })
}
