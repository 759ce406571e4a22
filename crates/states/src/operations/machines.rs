use std::collections::BTreeMap;
use std::sync::Arc;

use asl::Definition;
use asl::definition::FlowId;
use model::stepfunctions::{
    CreateStateMachineInput, CreateStateMachineOutput, DeleteStateMachineInput,
    DeleteStateMachineOutput, DescribeStateMachineForExecutionInput,
    DescribeStateMachineForExecutionOutput, DescribeStateMachineInput, DescribeStateMachineOutput,
    IncludedData, ListStateMachinesInput, ListStateMachinesOutput, StateMachineListItem,
    StateMachineStatus, StateMachineType, UpdateStateMachineInput, UpdateStateMachineOutput, error,
};
use protocol::Caller;
use uuid::Uuid;

use super::{configuration, tags};
use crate::machines::arn::{self, MachineArn, Qualifier};
use crate::machines::{
    self, Change, Creation, Kind, Logging, Machine, Revision, check, references,
};
use crate::page::Wanted;
use crate::{Error, States};

const MAX_MACHINES: usize = 100_000;
const MAX_VERSIONS: usize = 1_000;

pub async fn create(
    states: &States,
    caller: &Caller,
    input: CreateStateMachineInput,
) -> Result<CreateStateMachineOutput, Error> {
    arn::check_name(&input.name)?;
    check_role(&input.role_arn)?;
    let creation = creation(input.publish, input.version_description)?;
    let kind = kind(input.type_.as_ref());
    let wanted = Wishes {
        definition: check::definition(&input.definition, kind)?.into(),
        definition_text: input.definition.into(),
        role_arn: input.role_arn,
        logging: configuration::logging(states, caller, input.logging_configuration)
            .await?
            .map(Arc::new),
        tracing: configuration::tracing(input.tracing_configuration.as_ref()),
    };
    let own_key = configuration::own_key(input.encryption_configuration.as_ref())?;
    let tags = tags::checked(input.tags.unwrap_or_default())?;
    if states.machines.list(caller).len() >= MAX_MACHINES {
        return Err(limit(&error::STATE_MACHINE_LIMIT_EXCEEDED, "State machine"));
    }
    let machine_arn = arn::of(caller, "stateMachine", &input.name);
    let now = states.clock.now();
    let created = states.machines.change(&machine_arn, |before| {
        if let Some(machine) = before {
            return repeated(states, machine, kind, &wanted, &creation, own_key);
        }
        let revision = Revision {
            id: Uuid::new_v4().to_string(),
            machine_arn: machine_arn.clone(),
            machine_name: input.name.clone(),
            kind,
            role_arn: wanted.role_arn,
            definition_text: wanted.definition_text,
            definition: wanted.definition,
            logging: wanted.logging,
            tracing: wanted.tracing,
            created: now,
            first: true,
        };
        let (arn, id) = (machine_arn.clone(), revision.id.clone());
        let mut machine = Machine::new(arn, input.name, kind, id, now);
        machine.tags = tags;
        machine.own_key = own_key;
        if creation.publish {
            machine.publish(creation.description.clone(), now);
        }
        machine.creation = creation;
        Ok(Change {
            result: machine.clone(),
            machine: Some(machine),
            revision: Some(revision),
        })
    });
    let machine = created.await?;
    let version = machine.version_of(&machine.revision);
    let version = version.filter(|_| machine.creation.publish);
    Ok(CreateStateMachineOutput {
        creation_date: machine.created,
        state_machine_version_arn: version.map(|number| machine.qualified(number)),
        state_machine_arn: machine.arn,
    })
}

/// What an update, or a second creation, asks for.
struct Wishes {
    definition_text: Arc<str>,
    definition: Arc<Definition>,
    role_arn: String,
    logging: Option<Arc<Logging>>,
    tracing: bool,
}

/// A machine that exists is created again: the same request succeeds, also with another role and
/// with other tags, which are ignored.
fn repeated(
    states: &States,
    machine: &Machine,
    kind: Kind,
    wanted: &Wishes,
    creation: &Creation,
    own_key: bool,
) -> Result<Change<Machine>, Error> {
    if machine.deleting {
        return Err(machines::deleting(&machine.arn));
    }
    let current = states.machines.revision(&machine.revision)?;
    let same = machine.kind == kind
        && machine.creation == *creation
        && machine.own_key == own_key
        && current.definition_text == wanted.definition_text
        && current.logging == wanted.logging
        && current.tracing == wanted.tracing;
    if !same {
        let text = format!("State Machine Already Exists: '{}'", machine.arn);
        return Err(Error::refused(&error::STATE_MACHINE_ALREADY_EXISTS, text));
    }
    Ok(Change {
        machine: Some(machine.clone()),
        revision: None,
        result: machine.clone(),
    })
}

pub async fn update(
    states: &States,
    caller: &Caller,
    input: UpdateStateMachineInput,
) -> Result<UpdateStateMachineOutput, Error> {
    let before = unqualified(states, caller, &input.state_machine_arn)?;
    let anything = input.definition.is_some()
        || input.role_arn.is_some()
        || input.logging_configuration.is_some()
        || input.tracing_configuration.is_some()
        || input.encryption_configuration.is_some();
    if !anything {
        return Err(Error::refused(
            &error::MISSING_REQUIRED_PARAMETER,
            "Either the definition, the role ARN, the LoggingConfiguration, or the \
             TracingConfiguration must be specified",
        ));
    }
    let creation = creation(input.publish, input.version_description)?;
    if let Some(role) = &input.role_arn {
        check_role(role)?;
    }
    let definition = match input.definition {
        Some(text) => Some((check::definition(&text, before.kind)?, text)),
        None => None,
    };
    let logging = match input.logging_configuration {
        Some(wire) => Some(configuration::logging(states, caller, Some(wire)).await?),
        None => None,
    };
    let tracing = input.tracing_configuration.as_ref();
    let own_key = configuration::own_key(input.encryption_configuration.as_ref())?;
    let now = states.clock.now();
    let updated = states.machines.change(&before.arn, |machine| {
        let mut machine = machine
            .cloned()
            .ok_or_else(|| machines::missing(&before.arn))?;
        if machine.deleting {
            return Err(machines::deleting(&machine.arn));
        }
        let current = states.machines.revision(&machine.revision)?;
        let mut next = Revision::clone(&current);
        if let Some((definition, text)) = definition
            && *text != *current.definition_text
        {
            next.definition_text = text.into();
            next.definition = Arc::new(definition);
        }
        if let Some(role) = input.role_arn {
            next.role_arn = role;
        }
        if let Some(logging) = logging {
            next.logging = logging.map(Arc::new);
        }
        if let Some(tracing) = tracing {
            next.tracing = configuration::tracing(Some(tracing));
        }
        machine.own_key |= own_key;
        let changed = next.definition_text != current.definition_text
            || next.role_arn != current.role_arn
            || next.logging != current.logging
            || next.tracing != current.tracing;
        let revision = changed.then(|| Revision {
            id: Uuid::new_v4().to_string(),
            created: now,
            first: false,
            ..next
        });
        if let Some(revision) = &revision {
            machine.revision.clone_from(&revision.id);
        }
        let version = creation
            .publish
            .then(|| publish(&mut machine, creation.description, now))
            .transpose()?;
        let public_id = revision.as_ref().unwrap_or(&current).public_id();
        let result = UpdateStateMachineOutput {
            update_date: now,
            revision_id: public_id.map(str::to_owned),
            state_machine_version_arn: version.map(|number| machine.qualified(number)),
        };
        Ok(Change {
            machine: Some(machine),
            revision,
            result,
        })
    });
    updated.await
}

pub async fn delete(
    states: &States,
    caller: &Caller,
    input: DeleteStateMachineInput,
) -> Result<DeleteStateMachineOutput, Error> {
    let named = MachineArn::parse(&input.state_machine_arn)?;
    if named.label.is_some() || named.qualifier.is_some() {
        return Err(Error::validation(format!(
            "The state machine ARN must not be qualified: '{}'",
            input.state_machine_arn
        )));
    }
    let Some(machine) = states.machines.find(caller, &named.machine) else {
        return Ok(DeleteStateMachineOutput {});
    };
    // From now on none begins. Those that run end at their next transition, and the last of them
    // takes the machine with it.
    states
        .machines
        .change(&machine.arn, |machine| {
            let mut machine = machine.cloned();
            if let Some(machine) = &mut machine {
                machine.deleting = true;
            }
            Ok(Change {
                machine,
                revision: None,
                result: (),
            })
        })
        .await?;
    if !states.executions.running_of(&machine.arn) {
        states.machines.finish_delete(&machine.arn).await?;
    }
    Ok(DeleteStateMachineOutput {})
}

pub async fn describe(
    states: &States,
    caller: &Caller,
    input: DescribeStateMachineInput,
) -> Result<DescribeStateMachineOutput, Error> {
    let asked = &input.state_machine_arn;
    let named = MachineArn::parse(asked)?;
    let missing = || machines::missing(asked);
    if named.test_case.is_some() {
        return Err(missing());
    }
    let machine = states
        .machines
        .find(caller, &named.machine)
        .ok_or_else(missing)?;
    let version = match named.qualifier {
        None => None,
        Some(Qualifier::Version(number)) => {
            Some(machine.versions.get(&number).ok_or_else(missing)?)
        }
        Some(Qualifier::Alias(_)) => return Err(missing()),
    };
    let revision = version.map_or(&machine.revision, |version| &version.revision);
    let mut revision = states.machines.revision(revision)?;
    if let Some(label) = &named.label {
        let processor = labelled(&revision, label).ok_or_else(missing)?;
        revision = states.machines.derived(&revision, processor, label)?;
    }
    let status = match machine.deleting {
        true => StateMachineStatus::Deleting,
        false => StateMachineStatus::Active,
    };
    let all = input.included_data != Some(IncludedData::MetadataOnly);
    Ok(DescribeStateMachineOutput {
        state_machine_arn: asked.clone(),
        name: revision.machine_name.clone(),
        status: Some(status),
        definition: definition_text(&revision, all),
        role_arn: revision.role_arn.clone(),
        type_: wire_kind(revision.kind),
        creation_date: version.map_or(machine.created, |version| version.created),
        logging_configuration: Some(configuration::wire_logging(revision.logging.as_deref())),
        tracing_configuration: Some(configuration::wire_tracing(revision.tracing)),
        label: named.label,
        revision_id: revision.public_id().map(str::to_owned),
        description: version.and_then(|version| version.description.clone()),
        encryption_configuration: configuration::wire_encryption(machine.own_key),
        variable_references: read_variables(&revision, all),
    })
}

pub async fn describe_for_execution(
    states: &States,
    caller: &Caller,
    input: DescribeStateMachineForExecutionInput,
) -> Result<DescribeStateMachineForExecutionOutput, Error> {
    let asked = &input.execution_arn;
    arn::resource(asked, &["execution"])?;
    let about = match arn::belongs_to(asked, caller) {
        true => states.executions.describe(asked)?,
        false => None,
    };
    let about = about.map(|described| described.about).ok_or_else(|| {
        let text = format!("Execution Does Not Exist: '{asked}'");
        Error::refused(&error::EXECUTION_DOES_NOT_EXIST, text)
    })?;
    let revision = &about.revision;
    let all = input.included_data != Some(IncludedData::MetadataOnly);
    let label = revision.machine_arn.split_once('/').map(|(_, label)| label);
    Ok(DescribeStateMachineForExecutionOutput {
        state_machine_arn: revision.machine_arn.clone(),
        name: revision.machine_name.clone(),
        definition: definition_text(revision, all),
        role_arn: revision.role_arn.clone(),
        update_date: revision.created,
        logging_configuration: Some(configuration::wire_logging(revision.logging.as_deref())),
        tracing_configuration: Some(configuration::wire_tracing(revision.tracing)),
        map_run_arn: about.map_run_arn.clone(),
        label: label.map(str::to_owned),
        revision_id: revision.public_id().map(str::to_owned),
        encryption_configuration: None,
        variable_references: read_variables(revision, all),
    })
}

/// The item processor of the distributed map with this label.
fn labelled(revision: &Revision, label: &str) -> Option<FlowId> {
    revision
        .definition
        .states()
        .find_map(|state| match &state.kind {
            asl::definition::Kind::Map(map) if map.label.as_deref() == Some(label) => {
                Some(map.processor)
            }
            _ => None,
        })
}

fn read_variables(revision: &Revision, all: bool) -> Option<BTreeMap<String, Vec<String>>> {
    all.then(|| references::of(&revision.definition_text))
        .filter(|references| !references.is_empty())
}

/// The definition, which stays out of an answer that is to have metadata only.
pub fn definition_text(revision: &Revision, all: bool) -> String {
    match all {
        true => revision.definition_text.to_string(),
        false => String::new(),
    }
}

pub async fn list(
    states: &States,
    caller: &Caller,
    input: ListStateMachinesInput,
) -> Result<ListStateMachinesOutput, Error> {
    let mut machines = states.machines.list(caller);
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    let wanted = Wanted {
        list: "machines",
        max_results: input.max_results,
        token: input.next_token.as_deref(),
    };
    let (page, next_token) = wanted.page(machines, |machine| machine.name.clone())?;
    let items = page.into_iter().map(|machine| StateMachineListItem {
        state_machine_arn: machine.arn.clone(),
        name: machine.name.clone(),
        type_: wire_kind(machine.kind),
        creation_date: machine.created,
    });
    Ok(ListStateMachinesOutput {
        state_machines: items.collect(),
        next_token,
    })
}

/// The machine that an ARN names, which may not be that of a version or an alias.
pub fn unqualified(states: &States, caller: &Caller, asked: &str) -> Result<Arc<Machine>, Error> {
    let named = MachineArn::parse(asked)?;
    if named.machine != asked {
        return Err(machines::missing(asked));
    }
    states
        .machines
        .find(caller, asked)
        .ok_or_else(|| machines::missing(asked))
}

/// Publishes the current revision.
pub fn publish(
    machine: &mut Machine,
    description: Option<String>,
    now: clock::Timestamp,
) -> Result<u64, Error> {
    let exists = machine.version_of(&machine.revision).is_some();
    if !exists && machine.versions.len() >= MAX_VERSIONS {
        return Err(limit(&error::SERVICE_QUOTA_EXCEEDED, "Version"));
    }
    Ok(machine.publish(description, now))
}

pub fn limit(shape: &'static model::ErrorShape, what: &str) -> Error {
    Error::refused(shape, format!("{what} limit exceeded"))
}

fn creation(publish: Option<bool>, description: Option<String>) -> Result<Creation, Error> {
    let publish = publish.unwrap_or_default();
    let description = description.filter(|description| !description.is_empty());
    if description.is_some() && !publish {
        return Err(Error::validation(
            "Version description can only be set when publish is true",
        ));
    }
    Ok(Creation {
        publish,
        description,
    })
}

/// A role must at least have the form of one.
fn check_role(role: &str) -> Result<(), Error> {
    let mut parts = role.splitn(6, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (scheme, partition, service, _, account, resource) =
        (next(), next(), next(), next(), next(), next());
    let why = if scheme != "arn" || !partition.starts_with("aws") {
        format!("Invalid ARN prefix: {role}")
    } else if service != "iam" || account.len() != 12 {
        format!("Invalid ARN format: {role}")
    } else {
        match resource.split_once('/') {
            Some(("role", name)) if !name.is_empty() => return Ok(()),
            Some((kind, _)) if kind != "role" => {
                format!("Resource type not valid in this context: {kind}")
            }
            _ => format!("Invalid ARN format: {role}"),
        }
    };
    let text = format!("Invalid Role Arn: '{why}'");
    Err(Error::refused(&error::INVALID_ARN, text))
}

fn kind(wire: Option<&StateMachineType>) -> Kind {
    match wire {
        Some(StateMachineType::Express) => Kind::Express,
        None | Some(StateMachineType::Standard | StateMachineType::Unknown(_)) => Kind::Standard,
    }
}

pub fn wire_kind(kind: Kind) -> StateMachineType {
    match kind {
        Kind::Standard => StateMachineType::Standard,
        Kind::Express => StateMachineType::Express,
    }
}
