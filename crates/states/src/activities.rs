//! Activities: names under which workers ask for tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use clock::Timestamp;
use protocol::Caller;
use serde::{Deserialize, Serialize};
use store::{Expect, Store, Table};

use crate::machines::{Tags, arn};
use crate::{Error, lock, record};

const PREFIX: &str = "a/";
const WHAT: &str = "activity";

/// An activity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    pub arn: String,
    pub name: String,
    pub created: Timestamp,
    pub tags: Tags,
    /// A client has said that the service's own key is to be used.
    pub own_key: bool,
}

/// All activities, in memory and on disk.
#[derive(Debug)]
pub struct Activities {
    table: Table,
    /// By ARN.
    all: RwLock<BTreeMap<String, Arc<Activity>>>,
    /// Changes happen one after the other, each on what the one before has left.
    changing: tokio::sync::Mutex<()>,
}

impl Activities {
    pub(crate) fn open(store: &Store) -> Result<Self, Error> {
        let table = store.table("states-activities")?;
        let mut all = BTreeMap::new();
        record::scan(&table, PREFIX, |stored| {
            let activity: Activity = record::decode(WHAT, &stored.value)?;
            all.insert(activity.arn.clone(), Arc::new(activity));
            Ok(())
        })?;
        Ok(Self {
            table,
            all: RwLock::new(all),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// The activity with this ARN, if it is the caller's.
    pub fn find(&self, caller: &Caller, activity_arn: &str) -> Option<Arc<Activity>> {
        arn::belongs_to(activity_arn, caller)
            .then(|| self.get(activity_arn))
            .flatten()
    }

    pub fn get(&self, activity_arn: &str) -> Option<Arc<Activity>> {
        let all = lock::read(&self.all);
        all.get(activity_arn).cloned()
    }

    /// The caller's activities, by name.
    pub fn list(&self, caller: &Caller) -> Vec<Arc<Activity>> {
        let all = lock::read(&self.all);
        all.values()
            .filter(|activity| arn::belongs_to(&activity.arn, caller))
            .cloned()
            .collect()
    }

    /// Changes an activity on disk, then in memory. `change` gives what it shall be, or `None` if
    /// it shall go.
    pub(crate) async fn change<T>(
        &self,
        activity_arn: &str,
        change: impl FnOnce(Option<&Activity>) -> Result<(Option<Activity>, T), Error>,
    ) -> Result<T, Error> {
        let _one_at_a_time = self.changing.lock().await;
        let before = self.get(activity_arn);
        let (after, result) = change(before.as_deref())?;
        if after.as_ref() == before.as_deref() {
            return Ok(result);
        }
        let key = format!("{PREFIX}{activity_arn}");
        match &after {
            Some(activity) => {
                let value = record::encode(WHAT, activity)?;
                self.table.put(key, value, Expect::Any).await?;
            }
            None => self.table.delete(key, Expect::Any).await?,
        }
        let mut all = lock::write(&self.all);
        match after {
            Some(activity) => all.insert(activity_arn.to_owned(), Arc::new(activity)),
            None => all.remove(activity_arn),
        };
        Ok(result)
    }
}
