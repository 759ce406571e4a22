//! Revisions: what executions run, kept for as long as one of them may ask for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use asl::Definition;
use asl::definition::{FlowId, MapMode};
use clock::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Batch, Expect, Table};

use super::check::each_state;
use super::{Kind, Logging};
use crate::lock::lock;
use crate::{Error, record};

const PREFIX: &str = "r/";
const WHAT: &str = "revision of a state machine";
/// How many are held in memory without anybody using them.
const MAX_KEPT: usize = 1_000;
/// How many go in one write when they are not needed any more.
const SWEEP_BATCH: usize = 1_000;

/// What executions run. It never changes: an update of a machine makes another one, and executions
/// that run keep theirs, also when the machine is deleted.
#[derive(Clone, Debug)]
pub struct Revision {
    pub id: String,
    pub machine_arn: String,
    pub machine_name: String,
    pub kind: Kind,
    pub role_arn: String,
    pub definition_text: Arc<str>,
    pub definition: Arc<Definition>,
    pub logging: Option<Arc<Logging>>,
    pub tracing: bool,
    pub created: Timestamp,
    /// Made together with the machine: clients do not see the id of such a revision.
    pub first: bool,
}

impl Revision {
    /// The member `revisionId`.
    pub fn public_id(&self) -> Option<&str> {
        (!self.first).then_some(&self.id)
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    id: String,
    machine_arn: String,
    machine_name: String,
    kind: Kind,
    role_arn: String,
    definition: String,
    logging: Option<Logging>,
    tracing: bool,
    created: Timestamp,
    first: bool,
}

/// All revisions, each read and parsed when it is first needed.
#[derive(Debug)]
pub(super) struct Revisions {
    table: Table,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Grows with every use.
    uses: u64,
    /// Those to keep, with their last use.
    kept: HashMap<String, (Arc<Revision>, u64)>,
    /// All that somebody may still have.
    alive: HashMap<String, Weak<Revision>>,
}

impl Revisions {
    pub(super) fn new(table: Table) -> Self {
        let known = Mutex::default();
        Self { table, known }
    }

    pub(super) fn get(&self, id: &str) -> Result<Arc<Revision>, Error> {
        if let Some(known) = self.known().find(id) {
            return Ok(known);
        }
        let revision = Arc::new(match derivation(id) {
            Some((parent, processor, label)) => derived(&*self.get(parent)?, processor, label)?,
            None => {
                let found = self.table.get(format!("{PREFIX}{id}"))?;
                read(&found.ok_or_else(|| missing(id))?.value)?
            }
        });
        // Another thread may have been faster; all are to have the same one.
        let mut known = self.known();
        if let Some(known) = known.find(id) {
            return Ok(known);
        }
        known.keep(Arc::clone(&revision));
        Ok(revision)
    }

    /// What the children of a distributed map run. `label` is that of the map run's ARN.
    pub(super) fn derived(
        &self,
        parent: &Revision,
        processor: FlowId,
        label: &str,
    ) -> Result<Arc<Revision>, Error> {
        self.get(&format!("{}/{}/{label}", parent.id, processor.0))
    }

    /// Adds what puts a new revision on disk. It can be found once [`Revisions::written`] is told.
    pub(super) fn put(batch: Batch, revision: &Revision) -> Result<Batch, Error> {
        let stored = Stored {
            id: revision.id.clone(),
            machine_arn: revision.machine_arn.clone(),
            machine_name: revision.machine_name.clone(),
            kind: revision.kind,
            role_arn: revision.role_arn.clone(),
            definition: revision.definition_text.to_string(),
            logging: revision.logging.as_deref().cloned(),
            tracing: revision.tracing,
            created: revision.created,
            first: revision.first,
        };
        let value = record::encode(WHAT, &stored)?;
        Ok(batch.put(format!("{PREFIX}{}", revision.id), value, Expect::Absent))
    }

    pub(super) fn written(&self, revision: Arc<Revision>) {
        self.known().keep(revision);
    }

    /// Deletes what neither a machine (`named`) nor an execution (`in_use`) needs. Nobody may make
    /// a machine name another revision meanwhile.
    pub(super) async fn sweep(
        &self,
        named: impl Fn(&str) -> bool,
        in_use: impl Fn(&str) -> bool,
    ) -> Result<usize, Error> {
        let mut swept = 0;
        let mut after = None;
        loop {
            let keys = self.table.keys(PREFIX, after.as_deref(), SWEEP_BATCH)?;
            let done = keys.len() < SWEEP_BATCH;
            after = keys.last().cloned();
            let mut ids: Vec<&str> = keys.iter().filter_map(|key| id_of(key)).collect();
            ids.retain(|id| !named(id));
            // An execution that begins right now holds its revision until its own record can be
            // seen. Therefore what is held is looked at before what is recorded.
            {
                let mut known = self.known();
                ids.retain(|id| !known.is_held(id));
            }
            ids.retain(|id| !in_use(id));
            swept += ids.len();
            let batch = ids.iter().fold(Batch::new(), |batch, id| {
                batch.delete(format!("{PREFIX}{id}"), Expect::Any)
            });
            if !batch.is_empty() {
                self.table.write(batch).await?;
            }
            if done {
                return Ok(swept);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

impl Known {
    fn find(&mut self, id: &str) -> Option<Arc<Revision>> {
        if let Some((revision, used)) = self.kept.get_mut(id) {
            self.uses += 1;
            *used = self.uses;
            return Some(Arc::clone(revision));
        }
        let revision = self.alive.get(id)?.upgrade()?;
        self.keep(Arc::clone(&revision));
        Some(revision)
    }

    fn keep(&mut self, revision: Arc<Revision>) {
        self.uses += 1;
        let id = revision.id.clone();
        self.alive.insert(id.clone(), Arc::downgrade(&revision));
        self.kept.insert(id, (revision, self.uses));
        if self.kept.len() <= MAX_KEPT {
            return;
        }
        // The older half goes at once, so that this happens seldom.
        let mut uses: Vec<u64> = self.kept.values().map(|(_, used)| *used).collect();
        let middle = uses.len() / 2;
        let (_, limit, _) = uses.select_nth_unstable(middle);
        let limit = *limit;
        self.kept.retain(|_, (_, used)| *used >= limit);
        self.alive.retain(|_, revision| revision.strong_count() > 0);
    }

    /// Whether somebody has it; forgets it otherwise.
    fn is_held(&mut self, id: &str) -> bool {
        self.kept.remove(id);
        let held = self
            .alive
            .get(id)
            .is_some_and(|revision| revision.strong_count() > 0);
        if !held {
            self.alive.remove(id);
        }
        held
    }
}

fn read(value: &[u8]) -> Result<Revision, Error> {
    let stored: Stored = record::decode(WHAT, value)?;
    // It was valid when it was stored; a later firn may be stricter, though.
    let definition = super::check::parse(&stored.definition).map_err(|invalid| Error::Record {
        what: WHAT,
        source: serde::de::Error::custom(invalid),
    })?;
    Ok(Revision {
        id: stored.id,
        machine_arn: stored.machine_arn,
        machine_name: stored.machine_name,
        kind: stored.kind,
        role_arn: stored.role_arn,
        definition_text: stored.definition.into(),
        definition: Arc::new(definition),
        logging: stored.logging.map(Arc::new),
        tracing: stored.tracing,
        created: stored.created,
        first: stored.first,
    })
}

/// The parts of the id of a derived revision: that of its parent, which may be derived itself, the
/// processor and the label.
fn derivation(id: &str) -> Option<(&str, FlowId, &str)> {
    let (rest, label) = id.rsplit_once('/')?;
    let (parent, processor) = rest.rsplit_once('/')?;
    Some((parent, FlowId(processor.parse().ok()?), label))
}

/// What the children of a distributed map run: its item processor, as a machine of its own.
fn derived(parent: &Revision, processor: FlowId, label: &str) -> Result<Revision, Error> {
    let id = format!("{}/{}/{label}", parent.id, processor.0);
    let map = parent
        .definition
        .states()
        .find_map(|state| match &state.kind {
            asl::definition::Kind::Map(map) if map.processor == processor => Some((state, map)),
            _ => None,
        });
    let (state, map) = map.ok_or_else(|| missing(&id))?;
    let express = matches!(map.mode, MapMode::Distributed { express: true });
    let text = processor_text(&parent.definition_text, &state.name).ok_or_else(|| missing(&id))?;
    Ok(Revision {
        id,
        machine_arn: format!("{}/{label}", parent.machine_arn),
        machine_name: format!("{}/{label}", parent.machine_name),
        kind: match express {
            true => Kind::Express,
            false => Kind::Standard,
        },
        definition_text: text.into(),
        definition: Arc::new(parent.definition.processor(processor)),
        ..parent.clone()
    })
}

/// The text of the item processor of the map with this name.
fn processor_text(definition: &str, map: &str) -> Option<String> {
    let definition = serde_json::from_str(definition).ok()?;
    let mut found = None;
    each_state(&definition, "", &mut |state, location| {
        let named = location.rsplit_once("/States/");
        if found.is_none() && named.is_some_and(|(_, name)| name == map) {
            let processor = state.get("ItemProcessor").or_else(|| state.get("Iterator"));
            found = processor.map(serde_json::Value::to_string);
        }
    });
    found
}

fn missing(id: &str) -> Error {
    Error::Record {
        what: WHAT,
        source: serde::de::Error::custom(format!("there is no record of {id}")),
    }
}

fn id_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(PREFIX.as_bytes())?).ok()
}
