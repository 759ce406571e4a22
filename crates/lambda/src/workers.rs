//! Who runs functions for this service: the invoker of this process, or, one day, a queue that
//! leads to others. What crosses this border is serialisable for that reason.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use invoker::{Function, FunctionKey, Invocation, InvokeError, Invoker, Outcome};

type Running = Pin<Box<dyn Future<Output = Result<Outcome, InvokeError>> + Send>>;

/// Runs functions. Cheap to clone.
#[derive(Clone)]
pub struct Workers {
    invoke: Arc<dyn Fn(Arc<Function>, Invocation) -> Running + Send + Sync>,
    retire: Arc<dyn Fn(&FunctionKey) + Send + Sync>,
}

impl Workers {
    /// Workers made of two functions: one runs an invocation, the other ends the environments of a
    /// build that is no longer needed.
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
        }
    }

    pub(crate) async fn invoke(
        &self,
        function: Arc<Function>,
        invocation: Invocation,
    ) -> Result<Outcome, InvokeError> {
        (self.invoke)(function, invocation).await
    }

    pub(crate) fn retire(&self, key: &FunctionKey) {
        (self.retire)(key);
    }
}

impl From<Arc<Invoker>> for Workers {
    fn from(invoker: Arc<Invoker>) -> Self {
        let retiring = Arc::clone(&invoker);
        let invoke = move |function, invocation| {
            let invoker = Arc::clone(&invoker);
            async move { invoker.invoke(function, invocation).await }
        };
        Self::new(invoke, move |key| retiring.retire(key))
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}
