//! The service: what its operations have in common, and the work behind them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clock::{Clock, Timestamp};
use invoker::LogFormat;
use protocol::Caller;
use store::{Digest, Store};

use crate::catalog::Catalog;
use crate::code_signing::SigningConfig;
use crate::concurrency::Keeper;
use crate::config::Config;
use crate::development::Developments;
use crate::download::{self, Links};
use crate::error::{Constraint, Error, InvalidParameter};
use crate::event_sources::Mapping;
use crate::events::Events;
use crate::function::{Function, FunctionId, Scope, Snapshot, State, Version};
use crate::functions::Functions;
use crate::layers::{LayerUse, Layers};
use crate::name::{FunctionReference, Qualifier};
use crate::objects::Objects;
use crate::package::CodeStore;
use crate::policies::{self, Policies, PolicyError};
use crate::settings::Settings;
use crate::snapshots::Snapshots;
use crate::tasks::Tasks;
use crate::urls::{Addresses, UrlIndex};
use crate::workers::Workers;

/// AWS Lambda: the control plane, and the one way in to invoke.
#[derive(Debug)]
pub struct Lambda {
    pub(crate) config: Config,
    pub(crate) functions: Arc<Functions>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) developments: Developments,
    pub(crate) signing_configs: Arc<Catalog<SigningConfig>>,
    pub(crate) mappings: Arc<Catalog<Mapping>>,
    pub(crate) code: CodeStore,
    pub(crate) workers: Workers,
    pub(crate) capacity: Keeper,
    pub(crate) clock: Clock,
    pub(crate) events: Arc<Events>,
    pub(crate) urls: UrlIndex,
    pub(crate) url_addresses: Addresses,
    /// Whether any policy denies anything.
    denials: AtomicBool,
    pub(crate) objects: Objects,
    snapshots: Snapshots,
    links: Links,
    pub(crate) tasks: Tasks,
    started: Timestamp,
}

/// The function that a request names, and the version of it.
#[derive(Debug, Clone)]
pub struct Address {
    pub id: FunctionId,
    pub qualifier: Option<Qualifier>,
}

impl Lambda {
    /// Opens the service on what the store and the directory `code_dir` hold, and resumes what an
    /// earlier run did not finish.
    ///
    /// Must be called within a Tokio runtime.
    pub async fn open(
        config: Config,
        code_dir: &Path,
        store: &Store,
        workers: impl Into<Workers>,
        clock: Clock,
    ) -> Result<Arc<Self>, Error> {
        let table = |name| {
            let action = "open a table";
            store
                .table(name)
                .map_err(|cause| Error::Store { action, cause })
        };
        let functions = Arc::new(Functions::open(table("lambda")?).await?);
        let layers = Arc::new(Layers::open(table("lambda-layers")?)?);
        let signing_configs = Arc::new(Catalog::open(table("lambda-code-signing")?)?);
        let mappings = Arc::new(Catalog::open(table("lambda-event-sources")?)?);
        let used = {
            let (functions, layers) = (Arc::clone(&functions), Arc::clone(&layers));
            Arc::new(move || {
                let mut digests = functions.used_digests();
                digests.extend(layers.used_digests());
                digests
            })
        };
        let packages = table("lambda-packages")?;
        let code = CodeStore::open(code_dir.to_owned(), store.blobs(), packages, used)
            .map_err(Error::CodeDirectory)?;
        let links = Links::new()?;
        let started = clock.now();
        let tasks = Tasks::default();
        let workers = workers.into();
        let all = functions.all();
        let mut policies = all.iter().map(|function| &function.attached.policies);
        let denials = AtomicBool::new(policies.any(Policies::deny_anything));
        let snapshots = Snapshots::new(
            config.snap_start,
            Arc::clone(&functions),
            code.clone(),
            workers.clone(),
        );
        let events = Events::new(
            config.events.clone(),
            config.upstream.clone(),
            table("lambda-events")?,
            clock.clone(),
        )?;
        let capacity = Keeper::new(
            Arc::clone(&functions),
            code.clone(),
            workers.clone(),
            clock.clone(),
        );
        let urls = UrlIndex::of(&functions);
        let url_addresses = Addresses::new(&config.function_url, &config.endpoint);
        let lambda = Self {
            config,
            functions,
            layers,
            developments: Developments::default(),
            signing_configs,
            mappings,
            code,
            workers,
            capacity,
            clock,
            events,
            urls,
            url_addresses,
            denials,
            objects: Objects::default(),
            snapshots,
            links,
            tasks,
            started,
        };
        lambda.workers.retain_snapshots(&lambda.revisions());
        lambda.resume();
        lambda.resume_deletions();
        lambda.capacity.resume();
        let lambda = Arc::new(lambda);
        lambda.events.start(&lambda);
        Ok(lambda)
    }

    /// Ends the background work. What it was doing is resumed at the next start.
    pub async fn shutdown(&self) {
        self.events.shutdown().await;
        self.capacity.shutdown().await;
        self.tasks.shutdown().await;
    }

    /// Hands on what was measured: to the hook that the assembly gave to the workers. It neither
    /// blocks nor allocates.
    pub fn measure(&self, measurement: &invoker::Measurement<'_>) {
        self.workers.measure(measurement);
    }

    /// The zip that a link from `GetFunction` leads to; `token` is what follows
    /// [`download::PATH`](crate::DOWNLOAD_PATH). `None` if the link is forged or has expired.
    pub fn code_download(&self, token: &str) -> Option<PathBuf> {
        let digest = self.links.read(token, self.clock.now())?;
        Some(self.code.zip(&digest))
    }

    /// The function that a request means, wherever the caller may reach it: in its own account, or in
    /// another whose policy lets it.
    ///
    /// Who may not reach a function is not told whether it exists.
    pub(crate) fn resolve(
        &self,
        caller: &Caller,
        action: &'static str,
        name: &str,
        qualifier: Option<&str>,
    ) -> Result<Address, Error> {
        let address = locate(caller, name, qualifier)?;
        let own = address.id.scope.account == caller.account;
        // Within an account only denials matter, and hardly anybody has one: an invoke need not look.
        if own && !self.denials.load(Ordering::Relaxed) {
            return Ok(address);
        }
        let qualifier = address.qualifier.as_ref();
        match self.functions.get(&address.id, None) {
            Ok(function) => {
                let principal = policies::principal(caller);
                let context = policies::context(caller, self.clock.now());
                let action = format!("lambda:{action}");
                self.authorise(&function, qualifier, &principal, &action, &context)?;
                Ok(address)
            }
            // The operation says that it is not there.
            Err(_) if own => Ok(address),
            Err(_) => Err(address.denied(caller, action)),
        }
    }

    /// As [`Lambda::resolve`], for operations on a function as a whole.
    pub(crate) fn resolve_function(
        &self,
        caller: &Caller,
        action: &'static str,
        name: &str,
    ) -> Result<FunctionId, Error> {
        self.resolve(caller, action, name, None)?.whole()
    }

    /// From now on, callers within the account are held against policies, too.
    pub(crate) fn note_denial(&self) {
        self.denials.store(true, Ordering::Relaxed);
    }

    pub(crate) fn download_url(&self, digest: &Digest) -> String {
        let token = self.links.issue(digest, self.clock.now());
        format!(
            "{}{}{token}",
            self.config.endpoint.trim_end_matches('/'),
            download::PATH
        )
    }

    /// The version's state; a version that nobody has used for long shows as inactive.
    pub(crate) fn state(&self, version: &Version) -> State {
        let limit = Duration::from_secs(self.config.inactive_after_s);
        let used = Timestamp::from_millis(version.running.used_ms.load(Ordering::Relaxed));
        let since = used.max(version.modified).max(self.started);
        let idle = !limit.is_zero() && self.clock.now().duration_since(since) >= limit;
        if idle && version.state == State::Active {
            State::Inactive
        } else {
            version.state.clone()
        }
    }

    /// Completes, in the background, what is under way for a function: unpacks its code if need
    /// be, makes it active, and then ends what was made of `retired` builds. Then come the
    /// snapshots that it is due: that of an equal build must not be deleted once it is made.
    pub(crate) fn settle(&self, id: FunctionId, retired: Vec<Arc<invoker::Function>>) {
        let functions = Arc::clone(&self.functions);
        let (code, clock) = (self.code.clone(), self.clock.clone());
        let (workers, snapshots) = (self.workers.clone(), self.snapshots.clone());
        let due = clock.now() + Duration::from_millis(self.config.settle_delay_ms);
        self.tasks.spawn(async move {
            clock.sleep_until(due).await;
            if let Err(error) = settle(&functions, &code, id.clone()).await {
                tracing::error!(
                    function = id.arn(),
                    error = &error as &dyn std::error::Error,
                    "a function stays pending until the next start"
                );
            }
            for function in &retired {
                workers.retire(function);
            }
            snapshots.make(&id).await;
        });
    }

    /// The form in which the invoker takes a version.
    pub(crate) fn runnable(
        &self,
        function: &Function,
        version: &Version,
    ) -> Arc<invoker::Function> {
        runnable(&self.code, function, version)
    }

    /// The build of `$LATEST` that an update has replaced, if it has.
    pub(crate) fn replaced(
        &self,
        before: &Function,
        after: &Function,
    ) -> Vec<Arc<invoker::Function>> {
        if before.latest.build == after.latest.build {
            return Vec::new();
        }
        vec![self.runnable(before, &before.latest)]
    }

    /// All builds of all functions, as the invoker takes them.
    pub fn revisions(&self) -> Vec<Arc<invoker::Function>> {
        let functions = self.functions.all();
        functions
            .iter()
            .flat_map(|function| {
                function
                    .all_versions()
                    .map(|version| self.runnable(function, version))
            })
            .collect()
    }

    /// Takes up snapshots that an earlier run did not finish, and drops those that only another
    /// mode wanted.
    fn resume_snapshots(&self, function: &Function) {
        let id = function.id.clone();
        let surplus: Vec<Option<u64>> = function
            .all_versions()
            .filter(|version| self.snapshots.is_surplus(version))
            .inspect(|version| {
                self.workers
                    .forget_snapshot(&self.runnable(function, version));
            })
            .map(|version| version.number)
            .collect();
        let (functions, snapshots) = (Arc::clone(&self.functions), self.snapshots.clone());
        self.tasks.spawn(async move {
            if !surplus.is_empty() {
                let dropped = functions.change(id.clone(), move |function| {
                    for number in &surplus {
                        if let Some(version) = function.version_mut(*number) {
                            version.snapshot = Snapshot::None;
                        }
                    }
                    Ok(())
                });
                if let Err(error) = dropped.await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a dropped snapshot is still shown until the next start"
                    );
                }
            }
            snapshots.make_again(&id).await;
        });
    }

    /// Changes a function and settles it, all in the background.
    pub(crate) fn change_and_settle<F>(&self, id: FunctionId, apply: F)
    where
        F: Fn(&mut Function) -> Result<(), Error> + Send + Sync + 'static,
    {
        let (functions, code) = (Arc::clone(&self.functions), self.code.clone());
        self.tasks.spawn(async move {
            let done = match functions.change(id.clone(), apply).await {
                Ok(_) => settle(&functions, &code, id).await,
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a function could not be restored"
                );
            }
        });
    }

    /// Removes code, after a while, if nobody uses it by then.
    pub(crate) fn collect_later(&self, digests: Vec<Digest>) {
        let (code, clock) = (self.code.clone(), self.clock.clone());
        let due = clock.now() + Duration::from_secs(self.config.code_grace_s);
        self.tasks.spawn(async move {
            clock.sleep_until(due).await;
            if let Err(error) = code.collect(digests).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "unused code stays until the next start"
                );
            }
        });
    }

    /// Refuses code for which the account's quota does not suffice.
    pub(crate) fn check_quota(&self, scope: &Scope, added_bytes: u64) -> Result<(), Error> {
        let used = self.functions.usage(scope).1 + self.layers.usage(scope);
        if used.saturating_add(added_bytes) > self.config.total_code_bytes {
            return Err(Error::CodeStorageExceeded);
        }
        Ok(())
    }

    fn resume(&self) {
        for function in self.functions.all() {
            let interrupted = function.all_versions().any(|version| version.is_settling());
            let lost = function
                .all_versions()
                .flat_map(|version| version.digests())
                .any(|digest| !self.code.directory(&digest).is_dir());
            if interrupted || lost {
                self.settle(function.id.clone(), Vec::new());
            } else {
                self.resume_snapshots(&function);
            }
        }
        let code = self.code.clone();
        self.tasks.spawn(async move {
            if let Err(error) = code.collect_all().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "unused code could not be removed"
                );
            }
        });
    }
}

/// The form in which the invoker takes a version.
pub fn runnable(
    code: &CodeStore,
    function: &Function,
    version: &Version,
) -> Arc<invoker::Function> {
    let settings = &version.settings;
    let levels = settings.logging.json.as_ref();
    let unfit = matches!(version.snapshot, Snapshot::Unfit { .. });
    Arc::new(invoker::Function {
        arn: function.id.arn(),
        name: function.id.name.clone(),
        version: version.name(),
        account: function.id.scope.account.to_string(),
        region: function.id.scope.region.to_string(),
        revision_id: version.build.clone(),
        runtime: settings.runtime.clone(),
        handler: settings.handler.clone(),
        memory_mb: settings.memory_mb,
        timeout: Duration::from_secs(settings.timeout_seconds.into()),
        ephemeral_mb: settings.ephemeral_mb,
        environment: settings.environment.clone().unwrap_or_default(),
        code_dir: code.directory(&version.code.digest),
        layer_dirs: layer_dirs(code, settings),
        role: settings.role.clone(),
        log_group: settings.logging.group.clone(),
        log_format: if levels.is_some() {
            LogFormat::Json
        } else {
            LogFormat::Text
        },
        application_log_level: levels.map(|levels| levels.application.clone()),
        system_log_level: levels.map(|levels| levels.system.clone()),
        tracing_active: settings.tracing_active,
        snap_start: settings.snap_start && !unfit,
        code_sha256: version.code.sha256(),
        development: None,
    })
}

/// Where layers lie, lowest first. Of equal ones only the topmost shows anything, and an overlay takes
/// no directory twice.
fn layer_dirs(code: &CodeStore, settings: &Settings) -> Vec<PathBuf> {
    let layers = &settings.layers;
    let covered = |(at, layer): (usize, &LayerUse)| {
        let above = &layers[at + 1..];
        above.iter().any(|one| one.code.digest == layer.code.digest)
    };
    let shown = layers.iter().enumerate().filter(|layer| !covered(*layer));
    shown
        .map(|(_, layer)| code.directory(&layer.code.digest))
        .collect()
}

async fn settle(functions: &Arc<Functions>, code: &CodeStore, id: FunctionId) -> Result<(), Error> {
    // Deleted in the meantime: nothing to do.
    let Ok(function) = functions.get(&id, None) else {
        return Ok(());
    };
    let mut failure = None;
    let digests: BTreeSet<_> = function
        .all_versions()
        .flat_map(|version| version.digests())
        .collect();
    for digest in digests {
        if let Err(error) = code.ensure(digest).await {
            tracing::error!(
                function = id.arn(),
                error = &error as &dyn std::error::Error,
                "the code of a function cannot be unpacked"
            );
            failure = Some(error.to_string());
        }
    }
    if !function.all_versions().any(|version| version.is_settling()) {
        return Ok(());
    }
    let settled = functions.change(id, move |function| {
        function.settle(failure.as_deref());
        Ok(())
    });
    match settled.await {
        Ok(_) | Err(Error::FunctionNotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The function that a request means, in the caller's account and region.
///
/// Another account's is refused; operations that its policy may open go through
/// [`Lambda::resolve`].
pub fn resolve(
    caller: &Caller,
    action: &'static str,
    name: &str,
    qualifier: Option<&str>,
) -> Result<Address, Error> {
    let address = locate(caller, name, qualifier)?;
    if address.id.scope.account == caller.account {
        return Ok(address);
    }
    Err(address.denied(caller, action))
}

/// The function that a name stands for, whoever it belongs to. Another region is never reached from
/// here.
fn locate(caller: &Caller, name: &str, qualifier: Option<&str>) -> Result<Address, Error> {
    let reference: FunctionReference = name.parse().map_err(Constraint::from)?;
    if let Some(region) = reference.region.filter(|region| *region != caller.region) {
        let (region, here) = (region.to_string(), caller.region.to_string());
        return Err(Error::OtherRegion { region, here });
    }
    let account = reference.account.unwrap_or(caller.account);
    let scope = Scope {
        account,
        region: caller.region.clone(),
    };
    let id = FunctionId {
        scope,
        name: reference.name,
    };
    let qualifier = match (reference.qualifier, qualifier.map(Qualifier::from)) {
        (Some(derived), Some(given)) if derived != given => {
            return Err(InvalidParameter::QualifierMismatch.into());
        }
        (derived, given) => given.or(derived),
    };
    Ok(Address { id, qualifier })
}

/// As [`resolve`], for operations on a function as a whole.
pub fn resolve_function(
    caller: &Caller,
    action: &'static str,
    name: &str,
) -> Result<FunctionId, Error> {
    resolve(caller, action, name, None)?.whole()
}

impl Address {
    /// The function, if no version or alias was meant.
    fn whole(self) -> Result<FunctionId, Error> {
        match self.qualifier {
            None | Some(Qualifier::Latest) => Ok(self.id),
            Some(_) => Err(InvalidParameter::QualifiedFunction.into()),
        }
    }

    /// The answer to someone from another account.
    fn denied(&self, caller: &Caller, action: &str) -> Error {
        let resource = match &self.qualifier {
            Some(qualifier) => self.id.qualified_arn(qualifier),
            None => self.id.arn(),
        };
        PolicyError::NotAllowed {
            principal: caller.principal.arn.clone(),
            action: format!("lambda:{action}"),
            resource,
        }
        .into()
    }
}
