//! Tells the workers what functions have, and sees aliases through their moves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clock::Clock;
use invoker::Share;

use super::Concurrency;
use super::shares::shares;
use crate::error::Error;
use crate::function::{Function, FunctionId, Scope, Target};
use crate::functions::Functions;
use crate::package::CodeStore;
use crate::service::runnable;
use crate::tasks::Tasks;
use crate::workers::Workers;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Keeper {
    functions: Arc<Functions>,
    code: CodeStore,
    workers: Workers,
    clock: Clock,
    /// Held from a check of what an account has left to the write that relies on it.
    pub changes: Arc<tokio::sync::Mutex<()>>,
    /// Held while the workers are told, so that they hear the newest last.
    telling: Arc<Mutex<()>>,
    tasks: Arc<Tasks>,
}

/// An invocation that has just been led to the old version reaches an environment within this time.
const STRAGGLERS: Duration = Duration::from_secs(2);

impl Keeper {
    pub fn new(functions: Arc<Functions>, code: CodeStore, workers: Workers, clock: Clock) -> Self {
        Self {
            functions,
            code,
            workers,
            clock,
            changes: Arc::default(),
            telling: Arc::default(),
            tasks: Arc::default(),
        }
    }

    pub async fn shutdown(&self) {
        self.tasks.shutdown().await;
    }

    /// Takes up what is stored: what is reserved at once, what is provisioned in the background.
    pub fn resume(&self) {
        for function in self.functions.all() {
            let concurrency = &function.attached.concurrency;
            if concurrency.is_empty() {
                continue;
            }
            self.workers
                .set_capacity(&function.id, concurrency.reserved, &[]);
            if !concurrency.provisioned.is_empty() {
                self.provide(&function.id);
            }
        }
    }

    /// Has the workers make and end environments as a function's configuration wants it, in the
    /// background, and goes on with moves of its aliases.
    pub fn provide(&self, id: &FunctionId) {
        let (keeper, id) = (self.clone(), id.clone());
        self.tasks.spawn(async move {
            keeper.unpack(&id).await;
            keeper.tell(&id);
            keeper.follow_moves(&id);
        });
    }

    /// Tells the workers at once. For changes that need no new environment.
    pub fn tell(&self, id: &FunctionId) {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(function) = self.functions.get(id, None) else {
            self.workers.forget_capacity(id);
            return;
        };
        let shares: Vec<_> = shares(&function)
            .into_iter()
            .filter_map(|(number, share)| {
                let version = function.versions.get(&number)?;
                Some(Share {
                    function: runnable(&self.code, &function, version),
                    wanted: share.wanted,
                    counted: share.counted,
                })
            })
            .collect();
        let reserved = function.attached.concurrency.reserved;
        self.workers.set_capacity(id, reserved, &shares);
    }

    /// What functions of an account have for themselves.
    pub fn set_aside(&self, scope: &Scope, counts: impl Fn(&Function) -> bool) -> u32 {
        let functions = self.functions.list(scope, None, usize::MAX);
        functions
            .iter()
            .filter(|function| counts(function))
            .map(|function| function.attached.concurrency.set_aside())
            .fold(0, u32::saturating_add)
    }

    async fn unpack(&self, id: &FunctionId) {
        let Ok(function) = self.functions.get(id, None) else {
            return;
        };
        for number in shares(&function).into_keys() {
            let Some(version) = function.versions.get(&number) else {
                continue;
            };
            for digest in version.digests() {
                if let Err(error) = self.code.ensure(digest).await {
                    // The starts will fail and say so.
                    tracing::error!(
                        function = id.arn(),
                        error = &error as &dyn std::error::Error,
                        "the code of a function cannot be unpacked for its provisioned environments"
                    );
                }
            }
        }
    }

    fn follow_moves(&self, id: &FunctionId) {
        let Ok(function) = self.functions.get(id, None) else {
            return;
        };
        let Concurrency { provisioned, .. } = &function.attached.concurrency;
        for (alias, _) in provisioned.iter().filter(|(_, one)| one.moving.is_some()) {
            let (keeper, id, alias) = (self.clone(), id.clone(), alias.clone());
            self.tasks.spawn(async move {
                if let Err(error) = keeper.follow_move(&id, &alias).await {
                    tracing::warn!(
                        function = id.arn(),
                        alias,
                        error = &error as &dyn std::error::Error,
                        "an alias stays on its old version until the next start"
                    );
                }
            });
        }
    }

    /// Leads an alias to its new version once that has its environments. Where a later update has
    /// given it yet another one, whoever follows that does it.
    async fn follow_move(&self, id: &FunctionId, alias: &str) -> Result<(), Error> {
        let Ok(function) = self.functions.get(id, None) else {
            return Ok(());
        };
        let provisioned = function.attached.concurrency.provisioned.get(alias);
        let Some(moving) = provisioned.and_then(|one| one.moving) else {
            return Ok(());
        };
        if !moving.arrived {
            let Some((number, version)) = target_of(&function, alias) else {
                return Ok(());
            };
            let new = runnable(&self.code, &function, version);
            if !self.workers.provisioned_ready(new).await {
                return Ok(());
            }
            let arrived = self.arrive(id, alias, (moving.from, number)).await?;
            if !arrived {
                return Ok(());
            }
            tracing::info!(
                function = id.arn(),
                alias,
                version = number,
                "an alias has moved"
            );
            self.tell(id);
        }
        self.clock.sleep_until(self.clock.now() + STRAGGLERS).await;
        self.leave(id, alias, moving.from).await?;
        self.tell(id);
        Ok(())
    }

    /// From here on invocations go to the new version. False if that is no longer what is wanted.
    async fn arrive(
        &self,
        id: &FunctionId,
        alias: &str,
        (from, to): (u64, u64),
    ) -> Result<bool, Error> {
        let name = alias.to_owned();
        let changed = self.functions.change(id.clone(), move |function| {
            if super::in_transit(function, &name) != Some(from) {
                return Ok(false);
            }
            // The revision stays the one that the update has answered: what it asked for is done.
            let alias = function.aliases.get_mut(&name);
            let Some(alias) = alias.filter(|alias| alias.target == Target::Version(to)) else {
                return Ok(false);
            };
            alias.weights.clear();
            let provisioned = function.attached.concurrency.provisioned.get_mut(&name);
            if let Some(moving) = provisioned.and_then(|one| one.moving.as_mut()) {
                moving.arrived = true;
            }
            Ok(true)
        });
        match changed.await {
            Ok((_, arrived)) => Ok(arrived),
            Err(Error::FunctionNotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn leave(&self, id: &FunctionId, alias: &str, from: u64) -> Result<(), Error> {
        let name = alias.to_owned();
        let changed = self.functions.change(id.clone(), move |function| {
            let provisioned = function.attached.concurrency.provisioned.get_mut(&name);
            if let Some(one) = provisioned {
                one.moving = one
                    .moving
                    .filter(|moving| !moving.arrived || moving.from != from);
            }
            Ok(())
        });
        match changed.await {
            Ok(_) | Err(Error::FunctionNotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn target_of<'f>(
    function: &'f Function,
    alias: &str,
) -> Option<(u64, &'f Arc<crate::function::Version>)> {
    let Target::Version(number) = function.aliases.get(alias)?.target else {
        return None;
    };
    Some((number, function.versions.get(&number)?))
}
