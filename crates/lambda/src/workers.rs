//! Who runs functions for this service: the invoker of this process, or, one day, a queue that
//! leads to others. What crosses this border is serialisable for that reason.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use invoker::{
    Function, FunctionKey, Invocation, InvokeError, Invoker, Measurement, MetricsHook, Outcome,
    ProvisionedStatus, Share, SnapshotError, SnapshotOutcome,
};

use crate::function::FunctionId;

type Running = Pin<Box<dyn Future<Output = Result<Outcome, InvokeError>> + Send>>;
type Freezing = Pin<Box<dyn Future<Output = Result<SnapshotOutcome, SnapshotError>> + Send>>;

type Retain = Arc<dyn Fn(&[Arc<Function>]) + Send + Sync>;
type Set = dyn Fn(&FunctionId, Option<u32>, &[Share]) + Send + Sync;
type Status = dyn Fn(&Function) -> Option<ProvisionedStatus> + Send + Sync;
type Waiting = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Gives functions what they have of their account's concurrency.
#[derive(Clone)]
struct Capacity {
    set: Arc<Set>,
    forget: Arc<dyn Fn(&FunctionId) + Send + Sync>,
    status: Arc<Status>,
    ready: Arc<dyn Fn(Arc<Function>) -> Waiting + Send + Sync>,
}

/// Runs functions and takes snapshots of them. Cheap to clone.
#[derive(Clone)]
pub struct Workers {
    invoke: Arc<dyn Fn(Arc<Function>, Invocation) -> Running + Send + Sync>,
    retire: Arc<dyn Fn(&FunctionKey) + Send + Sync>,
    snapshot: Arc<dyn Fn(Arc<Function>) -> Freezing + Send + Sync>,
    forget_snapshot: Arc<dyn Fn(&Function) + Send + Sync>,
    retain_snapshots: Retain,
    metrics: MetricsHook,
    capacity: Capacity,
}

impl Workers {
    /// Workers made of two functions: one runs an invocation, the other ends the environments of a
    /// build that is no longer needed. They take no snapshots.
    pub fn new<F>(
        invoke: impl Fn(Arc<Function>, Invocation) -> F + Send + Sync + 'static,
        retire: impl Fn(&FunctionKey) + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Outcome, InvokeError>> + Send + 'static,
    {
        let invoke =
            move |function, invocation| -> Running { Box::pin(invoke(function, invocation)) };
        Self {
            invoke: Arc::new(invoke),
            retire: Arc::new(retire),
            snapshot: Arc::new(|_| Box::pin(async { Err(SnapshotError::Disabled) })),
            forget_snapshot: Arc::new(|_| {}),
            retain_snapshots: Arc::new(|_| {}),
            metrics: Arc::new(|_| {}),
            capacity: Capacity {
                set: Arc::new(|_, _, _| {}),
                forget: Arc::new(|_| {}),
                status: Arc::new(|_| None),
                ready: Arc::new(|_| Box::pin(async { false })),
            },
        }
    }

    /// The same workers, with functions that make the snapshot of a build, delete it, and delete
    /// those of all builds that are not in a list.
    #[must_use]
    pub fn with_snapshots<F>(
        mut self,
        snapshot: impl Fn(Arc<Function>) -> F + Send + Sync + 'static,
        forget: impl Fn(&Function) + Send + Sync + 'static,
        retain: impl Fn(&[Arc<Function>]) + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<SnapshotOutcome, SnapshotError>> + Send + 'static,
    {
        self.snapshot = Arc::new(move |function| Box::pin(snapshot(function)));
        self.forget_snapshot = Arc::new(forget);
        self.retain_snapshots = Arc::new(retain);
        self
    }

    /// The same workers, with functions that give a function what is reserved and provisioned for
    /// it, take all of that back, tell how far the provisioned environments of a version are, and
    /// wait for them.
    #[must_use]
    pub fn with_capacity<F>(
        mut self,
        set: impl Fn(&FunctionId, Option<u32>, &[Share]) + Send + Sync + 'static,
        forget: impl Fn(&FunctionId) + Send + Sync + 'static,
        status: impl Fn(&Function) -> Option<ProvisionedStatus> + Send + Sync + 'static,
        ready: impl Fn(Arc<Function>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        self.capacity = Capacity {
            set: Arc::new(set),
            forget: Arc::new(forget),
            status: Arc::new(status),
            ready: Arc::new(move |function| Box::pin(ready(function))),
        };
        self
    }

    pub(crate) fn set_capacity(&self, id: &FunctionId, reserved: Option<u32>, shares: &[Share]) {
        (self.capacity.set)(id, reserved, shares);
    }

    pub(crate) fn forget_capacity(&self, id: &FunctionId) {
        (self.capacity.forget)(id);
    }

    pub(crate) fn provisioned(&self, function: &Function) -> Option<ProvisionedStatus> {
        (self.capacity.status)(function)
    }

    pub(crate) async fn provisioned_ready(&self, function: Arc<Function>) -> bool {
        (self.capacity.ready)(function).await
    }

    /// The same workers, with a hook that takes what the service measures.
    #[must_use]
    pub fn with_metrics(mut self, metrics: MetricsHook) -> Self {
        self.metrics = metrics;
        self
    }

    /// Hands on what was measured. It neither blocks nor allocates.
    pub fn measure(&self, measurement: &Measurement<'_>) {
        (self.metrics)(measurement);
    }

    pub(crate) async fn invoke(
        &self,
        function: Arc<Function>,
        invocation: Invocation,
    ) -> Result<Outcome, InvokeError> {
        (self.invoke)(function, invocation).await
    }

    /// Ends everything that was made of a build: its environments and its snapshot.
    pub(crate) fn retire(&self, function: &Function) {
        (self.retire)(&function.key());
        self.forget_snapshot(function);
    }

    pub(crate) async fn snapshot(
        &self,
        function: Arc<Function>,
    ) -> Result<SnapshotOutcome, SnapshotError> {
        (self.snapshot)(function).await
    }

    pub(crate) fn forget_snapshot(&self, function: &Function) {
        (self.forget_snapshot)(function);
    }

    pub(crate) fn retain_snapshots(&self, functions: &[Arc<Function>]) {
        (self.retain_snapshots)(functions);
    }
}

impl From<Arc<Invoker>> for Workers {
    fn from(invoker: Arc<Invoker>) -> Self {
        let (running, retiring) = (Arc::clone(&invoker), Arc::clone(&invoker));
        let (freezing, forgetting) = (Arc::clone(&invoker), Arc::clone(&invoker));
        let measuring = Arc::clone(&invoker);
        let (giving, taking) = (Arc::clone(&invoker), Arc::clone(&invoker));
        let (telling, awaiting) = (Arc::clone(&invoker), Arc::clone(&invoker));
        let invoke = move |function, invocation| {
            let invoker = Arc::clone(&running);
            async move { invoker.invoke(function, invocation).await }
        };
        let snapshot = move |function| {
            let invoker = Arc::clone(&freezing);
            async move { invoker.snapshot(function).await }
        };
        Self::new(invoke, move |key| retiring.retire(key))
            .with_snapshots(
                snapshot,
                move |function| forgetting.forget_snapshot(function),
                move |functions| invoker.retain_snapshots(functions),
            )
            .with_metrics(Arc::new(move |measurement| measuring.measure(measurement)))
            .with_capacity(
                move |id, reserved, shares| {
                    let (account, region) = (id.scope.account.to_string(), &id.scope.region);
                    let function = (id.arn(), account, region.to_string());
                    let function = (&*function.0, &*function.1, &*function.2);
                    giving.set_capacity(function, reserved, shares);
                },
                move |id| taking.forget_capacity(&id.arn()),
                move |function| telling.provisioned(function),
                move |function| {
                    let invoker = Arc::clone(&awaiting);
                    async move { invoker.provisioned_ready(&function).await }
                },
            )
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}
