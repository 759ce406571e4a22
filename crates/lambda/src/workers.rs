//! Who runs functions for this service: the invoker of this process, or, one day, a queue that
//! leads to others. What crosses this border is serialisable for that reason.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use invoker::{
    Function, FunctionKey, Invocation, InvokeError, Invoker, Outcome, SnapshotError,
    SnapshotOutcome,
};

type Running = Pin<Box<dyn Future<Output = Result<Outcome, InvokeError>> + Send>>;
type Freezing = Pin<Box<dyn Future<Output = Result<SnapshotOutcome, SnapshotError>> + Send>>;

type Retain = Arc<dyn Fn(&[Arc<Function>]) + Send + Sync>;

/// Runs functions and takes snapshots of them. Cheap to clone.
#[derive(Clone)]
pub struct Workers {
    invoke: Arc<dyn Fn(Arc<Function>, Invocation) -> Running + Send + Sync>,
    retire: Arc<dyn Fn(&FunctionKey) + Send + Sync>,
    snapshot: Arc<dyn Fn(Arc<Function>) -> Freezing + Send + Sync>,
    forget_snapshot: Arc<dyn Fn(&Function) + Send + Sync>,
    retain_snapshots: Retain,
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
        let invoke = move |function, invocation| {
            let invoker = Arc::clone(&running);
            async move { invoker.invoke(function, invocation).await }
        };
        let snapshot = move |function| {
            let invoker = Arc::clone(&freezing);
            async move { invoker.snapshot(function).await }
        };
        Self::new(invoke, move |key| retiring.retire(key)).with_snapshots(
            snapshot,
            move |function| forgetting.forget_snapshot(function),
            move |functions| invoker.retain_snapshots(functions),
        )
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}
