//! State machines: their revisions, versions and aliases.
//!
//! All machines are in memory and on disk; what they run ([`Revision`]) is read when it is needed.
//! A change is on disk before it can be seen.

pub mod arn;
pub mod check;
mod machine;
pub mod references;
mod revisions;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use asl::definition::FlowId;
use model::stepfunctions::error;
use protocol::Caller;
use serde::{Deserialize, Serialize};
use store::{Batch, Expect, Store, Table};
use uuid::Uuid;

use crate::{Error, lock, record};
use arn::{MachineArn, Qualifier};
use revisions::Revisions;

pub use machine::{Alias, Creation, Machine, Route, Tags, Version};
pub use revisions::Revision;

const PREFIX: &str = "m/";
const WHAT: &str = "state machine";

/// Whether an execution's history is kept, and for how long it can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Standard,
    Express,
}

/// Which events of executions are logged, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    pub level: LogLevel,
    pub include_execution_data: bool,
    /// ARNs of log groups, as they were given.
    pub destinations: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    All,
    Error,
    Fatal,
    Off,
}

/// What an ARN to start leads to.
#[derive(Clone, Debug)]
pub struct Target {
    pub revision: Arc<Revision>,
    pub version_arn: Option<String>,
    pub alias_arn: Option<String>,
    /// The part behind `#`: the mocks to use.
    pub test_case: Option<String>,
}

/// All state machines.
#[derive(Debug)]
pub struct Machines {
    table: Table,
    revisions: Revisions,
    /// By ARN.
    all: RwLock<HashMap<String, Arc<Machine>>>,
    /// Changes happen one after the other, each on what the one before has left.
    changing: tokio::sync::Mutex<()>,
}

/// What a change makes of a machine.
#[derive(Debug)]
pub struct Change<T> {
    /// `None` deletes it.
    pub machine: Option<Machine>,
    /// A new revision that the machine names now.
    pub revision: Option<Revision>,
    pub result: T,
}

impl Machines {
    pub(crate) fn open(store: &Store) -> Result<Self, Error> {
        let table = store.table("states-machines")?;
        let mut all = HashMap::new();
        record::scan(&table, PREFIX, |stored| {
            let machine: Machine = record::decode(WHAT, &stored.value)?;
            all.insert(machine.arn.clone(), Arc::new(machine));
            Ok(())
        })?;
        Ok(Self {
            revisions: Revisions::new(table.clone()),
            table,
            all: RwLock::new(all),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// What an execution of `arn` runs: the ARN of a machine, a version or an alias, with a test
    /// case behind `#` or without.
    pub fn resolve(&self, caller: &Caller, arn: &str) -> Result<Target, Error> {
        let named = MachineArn::parse(arn)?;
        let plain = arn.split('#').next().unwrap_or_default();
        if named.label.is_some() {
            return Err(missing(plain));
        }
        let machine = self
            .find(caller, &named.machine)
            .ok_or_else(|| missing(plain))?;
        if machine.deleting {
            return Err(deleting(&machine.arn));
        }
        let (version, alias_arn) = match &named.qualifier {
            None => (None, None),
            Some(Qualifier::Version(number)) => (Some(*number), None),
            Some(Qualifier::Alias(name)) => {
                let alias = machine.aliases.get(name).ok_or_else(|| missing(plain))?;
                (alias.version(percentile()), Some(machine.qualified(name)))
            }
        };
        let revision = match version {
            None => &machine.revision,
            Some(number) => {
                let version = machine.versions.get(&number);
                &version.ok_or_else(|| missing(plain))?.revision
            }
        };
        Ok(Target {
            revision: self.revision(revision)?,
            version_arn: version.map(|number| machine.qualified(number)),
            alias_arn,
            test_case: named.test_case,
        })
    }

    /// The revision with this id. It is there for as long as somebody names it; see
    /// [`Machines::sweep`].
    pub fn revision(&self, id: &str) -> Result<Arc<Revision>, Error> {
        self.revisions.get(id)
    }

    /// What the children of a distributed map run; `label` is that of the map run's ARN. Its id
    /// leads back to it, too.
    pub fn derived(
        &self,
        parent: &Revision,
        processor: FlowId,
        label: &str,
    ) -> Result<Arc<Revision>, Error> {
        self.revisions.derived(parent, processor, label)
    }

    /// The machine with exactly this ARN, if it is the caller's.
    pub fn find(&self, caller: &Caller, machine_arn: &str) -> Option<Arc<Machine>> {
        arn::belongs_to(machine_arn, caller)
            .then(|| self.get(machine_arn))
            .flatten()
    }

    /// The machine with exactly this ARN.
    pub fn get(&self, machine_arn: &str) -> Option<Arc<Machine>> {
        let all = lock::read(&self.all);
        all.get(machine_arn).cloned()
    }

    /// The caller's machines, in no order.
    pub fn list(&self, caller: &Caller) -> Vec<Arc<Machine>> {
        let all = lock::read(&self.all);
        all.values()
            .filter(|machine| arn::belongs_to(&machine.arn, caller))
            .cloned()
            .collect()
    }

    /// Whether a machine waits for its last execution to end, and its executions are to end at
    /// their next transition.
    pub fn is_deleting(&self, machine_arn: &str) -> bool {
        self.get(machine_arn)
            .is_some_and(|machine| machine.deleting)
    }

    /// Those that wait for their last execution.
    pub fn deleting(&self) -> Vec<String> {
        let all = lock::read(&self.all);
        all.values()
            .filter(|machine| machine.deleting)
            .map(|machine| machine.arn.clone())
            .collect()
    }

    /// Deletes a machine that waits for its last execution, which has ended. Does nothing to other
    /// machines.
    pub async fn finish_delete(&self, machine_arn: &str) -> Result<(), Error> {
        if !self.is_deleting(machine_arn) {
            return Ok(());
        }
        self.change(machine_arn, |machine| {
            Ok(Change {
                machine: machine.filter(|machine| !machine.deleting).cloned(),
                revision: None,
                result: (),
            })
        })
        .await
    }

    /// Deletes the revisions that no machine, no version and no execution names. `in_use` says
    /// whether an execution does; it is asked on the state that it has then.
    pub async fn sweep(&self, in_use: impl Fn(&str) -> bool) -> Result<usize, Error> {
        // With this, no machine comes to name a revision meanwhile.
        let _one_at_a_time = self.changing.lock().await;
        let machines: Vec<Arc<Machine>> = {
            let all = lock::read(&self.all);
            all.values().cloned().collect()
        };
        let named: std::collections::HashSet<&str> = machines
            .iter()
            .flat_map(|machine| {
                let versions = machine.versions.values();
                versions
                    .map(|version| version.revision.as_str())
                    .chain([machine.revision.as_str()])
            })
            .collect();
        self.revisions
            .sweep(|revision| named.contains(revision), in_use)
            .await
    }

    /// A revision of a standard machine that has no other entry.
    #[cfg(test)]
    pub(crate) async fn add_for_test(
        &self,
        machine_arn: &str,
        definition: &serde_json::Value,
    ) -> Arc<Revision> {
        let text = definition.to_string();
        let revision = Revision {
            id: uuid::Uuid::new_v4().to_string(),
            machine_arn: machine_arn.to_owned(),
            machine_name: machine_arn.rsplit(':').next().unwrap().to_owned(),
            kind: Kind::Standard,
            role_arn: "arn:aws:iam::123456789012:role/r".into(),
            definition: Arc::new(check::parse(&text).unwrap()),
            definition_text: text.into(),
            logging: None,
            tracing: false,
            created: clock::Timestamp::from_secs(0),
            first: true,
        };
        let batch = Revisions::put(Batch::new(), &revision).unwrap();
        self.table.write(batch).await.unwrap();
        let revision = Arc::new(revision);
        self.revisions.written(Arc::clone(&revision));
        revision
    }

    /// Changes a machine on disk, then in memory.
    pub(crate) async fn change<T>(
        &self,
        machine_arn: &str,
        change: impl FnOnce(Option<&Machine>) -> Result<Change<T>, Error>,
    ) -> Result<T, Error> {
        let _one_at_a_time = self.changing.lock().await;
        let before = self.get(machine_arn);
        let Change {
            machine: after,
            revision,
            result,
        } = change(before.as_deref())?;
        if revision.is_none() && after.as_ref() == before.as_deref() {
            return Ok(result);
        }
        let key = format!("{PREFIX}{machine_arn}");
        let mut batch = Batch::new();
        if let Some(revision) = &revision {
            batch = Revisions::put(batch, revision)?;
        }
        batch = match &after {
            Some(machine) => batch.put(key, record::encode(WHAT, machine)?, Expect::Any),
            None => batch.delete(key, Expect::Any),
        };
        self.table.write(batch).await?;
        if let Some(revision) = revision {
            self.revisions.written(Arc::new(revision));
        }
        let mut all = lock::write(&self.all);
        match after {
            Some(machine) => all.insert(machine_arn.to_owned(), Arc::new(machine)),
            None => all.remove(machine_arn),
        };
        Ok(result)
    }
}

/// Chance, for the weights of an alias.
fn percentile() -> u8 {
    u8::try_from(Uuid::new_v4().as_u128() % 100).unwrap_or_default()
}

pub(crate) fn missing(arn: &str) -> Error {
    let text = format!("State Machine Does Not Exist: '{arn}'");
    Error::refused(&error::STATE_MACHINE_DOES_NOT_EXIST, text)
}

pub(crate) fn deleting(arn: &str) -> Error {
    let text = format!("State Machine is being deleted: '{arn}'");
    Error::refused(&error::STATE_MACHINE_DELETING, text)
}
