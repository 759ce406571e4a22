//! The one way in to run a function, whoever asks: the Invoke operation, and later queues, URLs
//! and workflows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use invoker::{Invocation, InvokeError, Measurement, Metric, Mode, Outcome};

use crate::error::Error;
use crate::function::{Function, State, Target, Version};
use crate::name::Qualifier;
use crate::recursion;
use crate::routing;
use crate::service::{Address, Lambda};

/// One invocation, before it is known which version serves it.
#[derive(Debug, Default)]
pub struct Call {
    pub request_id: String,
    /// Must be JSON; see [`crate::payload::check`].
    pub payload: Bytes,
    /// The client context as JSON text.
    pub client_context: Option<String>,
    /// The `X-Amzn-Trace-Id` that the caller brought.
    pub trace_header: Option<String>,
    pub want_tail: bool,
    pub mode: Mode,
}

/// What came of an invocation, and who served it.
#[derive(Debug)]
pub struct Answer {
    pub outcome: Outcome,
    /// `$LATEST` or a number.
    pub executed_version: String,
    /// The trace that the invocation belongs to: the caller's or a new one.
    pub trace_header: String,
}

impl Lambda {
    /// Runs a function. A function that fails is an answer, not an error.
    pub async fn invoke(&self, address: &Address, call: Call) -> Result<Answer, Error> {
        let function = self
            .functions
            .get(&address.id, address.qualifier.as_ref())?;
        let version = self.choose(&function, address.qualifier.as_ref())?;
        self.check_ready(&function, version)?;
        let now = self.clock.now();
        version
            .running
            .used_ms
            .store(now.as_millis(), Ordering::Relaxed);
        let runnable = self.running(&function, version).await?;
        let incoming = call.trace_header.as_deref();
        let trace_header = invoker::trace_header(incoming, runnable.tracing_active, now);
        let configured = function.attached.recursion;
        let Some(trace_header) = recursion::advance(&trace_header, &runnable.arn, configured)
        else {
            self.report_loop(address, &call.request_id);
            return Err(Error::RecursiveInvocation);
        };
        let invocation = Invocation {
            request_id: call.request_id,
            payload: call.payload,
            client_context: call.client_context,
            trace_header: Some(trace_header.clone()),
            invoked_arn: match &address.qualifier {
                Some(qualifier) => address.id.qualified_arn(qualifier),
                None => runnable.arn.clone(),
            },
            cognito_identity: None,
            want_tail: call.want_tail,
            mode: call.mode,
        };
        let executed_version = runnable.version.clone();
        let invoked = self.workers.invoke(runnable, invocation);
        let outcome = invoked
            .await
            .inspect_err(|refused| self.measure_refused(address, refused))
            .map_err(Error::Invoke)?;
        Ok(Answer {
            outcome,
            executed_version,
            trace_header,
        })
    }

    fn measure_refused(&self, address: &Address, refused: &InvokeError) {
        if !matches!(refused, InvokeError::TooManyRequests { .. }) {
            return;
        }
        let name = &address.id.name;
        let resource = match &address.qualifier {
            Some(qualifier) => format!("{name}:{qualifier}"),
            None => name.clone(),
        };
        let scope = &address.id.scope;
        let (account, region) = (scope.account.to_string(), scope.region.to_string());
        let at = self.clock.now();
        self.measure(&Measurement {
            resource: Some(&resource),
            ..Measurement::of_function(&account, &region, name, at, &[(Metric::Throttles, 1.0)])
        });
    }

    fn report_loop(&self, address: &Address, request_id: &str) {
        let function = address.id.arn();
        tracing::warn!(
            function,
            request_id,
            "stopped a function that runs in a loop"
        );
        let scope = &address.id.scope;
        let (account, region) = (scope.account.to_string(), scope.region.to_string());
        let values = [(Metric::RecursiveInvocationsDropped, 1.0)];
        let (name, at) = (&address.id.name, self.clock.now());
        self.measure(&Measurement::of_function(
            &account, &region, name, at, &values,
        ));
    }

    /// Checks what an invocation checks before it runs; gives whether the function traces
    /// actively.
    pub(crate) fn check_invocable(&self, address: &Address) -> Result<bool, Error> {
        let function = self
            .functions
            .get(&address.id, address.qualifier.as_ref())?;
        let version = self.choose(&function, address.qualifier.as_ref())?;
        self.check_ready(&function, version)?;
        Ok(version.settings.tracing_active)
    }

    /// Checks all that can be checked without running the function.
    pub fn dry_run(&self, address: &Address) -> Result<(), Error> {
        let function = self
            .functions
            .get(&address.id, address.qualifier.as_ref())?;
        self.choose(&function, address.qualifier.as_ref()).map(drop)
    }

    fn choose<'f>(
        &self,
        function: &'f Function,
        qualifier: Option<&Qualifier>,
    ) -> Result<&'f Arc<Version>, Error> {
        if let Some(Qualifier::Alias(name)) = qualifier
            && let Some(alias) = function
                .aliases
                .get(name)
                .filter(|alias| !alias.weights.is_empty())
        {
            let target = routing::choose(alias, routing::draw()?);
            let found = function.target(target);
            return found.ok_or_else(|| function.id.not_found(qualifier));
        }
        function.version(qualifier)
    }

    /// A function that is not active cannot run. An inactive one is brought back, but the
    /// invocation that does so fails, as on AWS.
    fn check_ready(&self, function: &Function, version: &Version) -> Result<(), Error> {
        let state = self.state(version);
        match state {
            State::Active => return Ok(()),
            State::Pending { .. } | State::Failed(_) => {}
            State::Inactive => self.restore(
                function,
                version.number.map_or(Target::Latest, Target::Version),
            ),
        }
        let will_be_ready = !matches!(state, State::Failed(_));
        if will_be_ready && version.asks_for_snapshot() {
            return Err(Error::SnapStartNotReady);
        }
        Err(Error::NotReady {
            state: state.name(),
        })
    }

    fn restore(&self, function: &Function, target: Target) {
        let number = match target {
            Target::Latest => None,
            Target::Version(number) => Some(number),
        };
        let now_ms = self.clock.now().as_millis();
        self.change_and_settle(function.id.clone(), move |function| {
            if let Some(version) = function.version_mut(number) {
                version.state = State::Pending { restoring: true };
                version.touch();
                version.running.used_ms.store(now_ms, Ordering::Relaxed);
            }
            Ok(())
        });
    }
}
