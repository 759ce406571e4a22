use std::sync::Arc;
use std::time::{Duration, Instant};

use clock::Clock;
use sandbox::Process;

use super::{Extensions, Reason};
use crate::environment::Aborted;
use crate::telemetry::Telemetry;

/// What an environment has beside its runtime.
#[derive(Debug)]
pub(crate) struct Companions {
    pub extensions: Arc<Extensions>,
    pub telemetry: Arc<Telemetry>,
    /// The external ones.
    pub processes: Vec<Companion>,
}

/// The process of an external extension.
#[derive(Debug)]
pub(crate) struct Companion {
    pub name: String,
    pub process: Arc<Process>,
    /// Tells [`Extensions`] of its end.
    pub _watcher: Aborted,
}

/// The shutdown phase of an environment whose extensions are all internal.
const INTERNAL: Duration = Duration::from_millis(500);
/// That of one with external extensions.
/// <https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown>
const EXTERNAL: Duration = Duration::from_millis(2_000);
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

impl Companions {
    /// The shutdown phase: the runtime is asked to end, then the extensions that want to be told.
    /// Whatever is left afterwards is for the caller to kill. Processes must not be frozen.
    pub async fn shut_down(&self, runtime: Option<&Process>, reason: Reason, clock: &Clock) {
        let limit = if self.processes.is_empty() {
            INTERNAL
        } else {
            EXTERNAL
        };
        let began = Instant::now();
        let deadline_ms = (clock.now() + limit).as_millis();
        self.extensions.expect_the_end();
        // What happened so far should reach extensions before they are told to end.
        self.telemetry.hurry();
        // AWS gives the runtime three tenths of the time.
        if let Some(runtime) = runtime {
            end_runtime(runtime, limit * 3 / 10).await;
        }
        if self.processes.is_empty() {
            return;
        }
        let (told, others): (Vec<_>, Vec<_>) = self
            .processes
            .iter()
            .partition(|companion| self.extensions.wants_shutdown(&companion.name));
        for other in others {
            // A process that cannot be signalled ends with the environment.
            let _ = other.process.signal(SIGKILL);
        }
        self.extensions.shut_down(reason, deadline_ms);
        let ended = async {
            for companion in told {
                companion.process.wait().await;
            }
        };
        let left = limit.saturating_sub(began.elapsed());
        let _ = tokio::time::timeout(left, ended).await;
    }
}

async fn end_runtime(runtime: &Process, limit: Duration) {
    let ended = runtime.signal(SIGTERM).is_ok()
        && tokio::time::timeout(limit, runtime.wait()).await.is_ok();
    if !ended {
        let _ = runtime.signal(SIGKILL);
    }
}
