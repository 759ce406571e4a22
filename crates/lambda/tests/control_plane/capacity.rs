//! Workers that note what functions are given, and whose environments come when the test says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use invoker::{ProvisionedStatus, Share};
use lambda::{FunctionId, Workers};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub struct Capacity {
    functions: BTreeMap<String, Given>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Given {
    forgotten: bool,
    reserved: Option<u32>,
    /// By version: whether it counts, and how far it is.
    shares: BTreeMap<String, (bool, ProvisionedStatus)>,
}

impl Capacity {
    /// What a function has, in words.
    pub fn given(&self, name: &str) -> String {
        let Some(given) = self.functions.get(name) else {
            return String::new();
        };
        if given.forgotten {
            return "forgotten".to_owned();
        }
        let reserved = given
            .reserved
            .map(|reserved| format!("reserved {reserved}"));
        let shares = given.shares.iter().map(|(version, (counted, status))| {
            let counted = if *counted { "" } else { " uncounted" };
            format!("{version}: {}{counted}", status.wanted)
        });
        reserved
            .into_iter()
            .chain(shares)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// So many environments of a version are there.
    pub fn allocate(&mut self, name: &str, version: &str, allocated: u32) {
        let given = self.functions.get_mut(name).unwrap();
        given.shares.get_mut(version).unwrap().1.allocated = allocated;
        self.changed.notify_waiters();
    }

    pub fn fail(&mut self, name: &str, version: &str, reason: &str) {
        let given = self.functions.get_mut(name).unwrap();
        given.shares.get_mut(version).unwrap().1.failure = Some(reason.into());
    }

    /// As workers that were started anew.
    pub fn clear(&mut self) {
        self.functions.clear();
    }

    fn set(&mut self, name: &str, reserved: Option<u32>, shares: &[Share]) {
        let given = self.functions.entry(name.to_owned()).or_default();
        given.reserved = reserved;
        let before = std::mem::take(&mut given.shares);
        for share in shares {
            let version = &share.function.version;
            let mut status = before.get(version).cloned().unwrap_or_default().1;
            status.wanted = share.wanted;
            given
                .shares
                .insert(version.clone(), (share.counted, status));
        }
        self.changed.notify_waiters();
    }

    fn forget(&mut self, name: &str) {
        let given = self.functions.entry(name.to_owned()).or_default();
        given.forgotten = true;
        self.changed.notify_waiters();
    }

    fn status(&self, function: &invoker::Function) -> Option<ProvisionedStatus> {
        let given = self.functions.get(&function.name)?;
        Some(given.shares.get(&function.version)?.1.clone())
    }
}

/// Workers that give to `capacity`.
pub fn give(workers: Workers, capacity: &Arc<Mutex<Capacity>>) -> Workers {
    let of = || Arc::clone(capacity);
    let (setting, forgetting, telling, waiting) = (of(), of(), of(), of());
    workers.with_capacity(
        move |id: &FunctionId, reserved, shares| {
            setting.lock().unwrap().set(&id.name, reserved, shares);
        },
        move |id| forgetting.lock().unwrap().forget(&id.name),
        move |function| telling.lock().unwrap().status(function),
        move |function| {
            let capacity = Arc::clone(&waiting);
            async move {
                loop {
                    let changed = Arc::clone(&capacity.lock().unwrap().changed);
                    let changed = changed.notified();
                    match capacity.lock().unwrap().status(&function) {
                        None => return false,
                        Some(status) if status.is_ready() => return true,
                        Some(_) => {}
                    }
                    changed.await;
                }
            }
        },
    )
}
