//! Functions whose code somebody is working on.
//!
//! While a [`Development`] lives, `$LATEST` of its function runs from a folder of this machine in place
//! of the stored package. Nothing of that is stored: when it ends, or the server does, the function
//! is what it was. Each change of the folder's content is another folder, so that code never changes
//! under a running environment; the next invocation gets a fresh one.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use invoker::FunctionKey;

use crate::Lambda;
use crate::error::Error;
use crate::function::{Function, FunctionId, Version, new_id};

type UpToDate = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Resolves when the code is what its author has saved; asked before each invocation.
pub type Synchronise = Arc<dyn Fn() -> UpToDate + Send + Sync>;

/// What a debugger of the runtime needs inside an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debugger {
    /// Where it listens, on the environment's own loopback interface.
    pub port: u16,
    variable: &'static str,
    value: String,
    /// Added to what the function has in the variable, not put in its place.
    appended: bool,
}

/// A function's code is being worked on, for as long as this lives.
pub struct Development {
    lambda: Arc<Lambda>,
    id: FunctionId,
    session: Arc<Session>,
}

/// All functions that are being worked on.
#[derive(Debug, Default)]
pub struct Developments {
    sessions: RwLock<HashMap<FunctionId, Arc<Session>>>,
    /// So that other functions' invocations take no lock.
    count: AtomicUsize,
}

pub struct Session {
    synchronise: Synchronise,
    debugger: Option<Debugger>,
    /// Tells its revisions from those of an earlier one.
    name: String,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    directory: Option<PathBuf>,
    generation: u64,
    /// What the last invocation ran, and the build of the function that it was made of.
    current: Option<(String, Arc<invoker::Function>)>,
}

impl Debugger {
    /// `None` if the runtime has none that firn knows to start.
    pub fn of(runtime: &str) -> Option<Self> {
        let (port, variable, value, appended) = if runtime.starts_with("python") {
            // firn's client starts debugpy on this port.
            (5678, "FIRN_DEBUG_PORT", "5678".to_owned(), false)
        } else if runtime.starts_with("nodejs") {
            let value = "--inspect=127.0.0.1:9229".to_owned();
            (9229, "NODE_OPTIONS", value, true)
        } else if runtime.starts_with("java") {
            let value =
                "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:5005";
            (5005, "JAVA_TOOL_OPTIONS", value.to_owned(), true)
        } else {
            return None;
        };
        Some(Self {
            port,
            variable,
            value,
            appended,
        })
    }

    fn prepare(&self, function: &mut invoker::Function) {
        let variable = function.environment.entry(self.variable.to_owned());
        let present = variable.or_default();
        if self.appended && !present.is_empty() {
            present.push(' ');
            present.push_str(&self.value);
        } else {
            present.clone_from(&self.value);
        }
        function.timeout = invoker::PATIENCE;
        function.development = Some(invoker::Development { debugged: true });
    }
}

impl Lambda {
    /// Takes a function's code from a folder from now on. The caller has to make sure that whoever
    /// asks for it may read that folder, and anything else on this machine: it is shown to the
    /// function.
    pub fn develop(
        self: &Arc<Self>,
        id: FunctionId,
        debugged: bool,
        synchronise: Synchronise,
    ) -> Result<Development, Error> {
        let function = self.functions.get(&id, None)?;
        let runtime = &function.latest.settings.runtime;
        let debugger = match debugged {
            true => Some(Debugger::of(runtime).ok_or(Error::NotSupported {
                what: "a debugger for this runtime",
                advice: "",
            })?),
            false => None,
        };
        let session = Arc::new(Session {
            synchronise,
            debugger,
            name: new_id(),
            running: Mutex::default(),
        });
        self.developments.begin(&id, Arc::clone(&session))?;
        Ok(Development {
            lambda: Arc::clone(self),
            id,
            session,
        })
    }

    /// What runs for a version: its package, unless somebody is working on it.
    pub(crate) async fn running(
        &self,
        function: &Function,
        version: &Version,
    ) -> Result<Arc<invoker::Function>, Error> {
        if version.number.is_none()
            && let Some(session) = self.developments.get(&function.id)
        {
            (session.synchronise)().await;
            return session.current(self, function, version);
        }
        let built = version
            .running
            .function
            .get_or_init(|| self.runnable(function, version));
        Ok(Arc::clone(built))
    }
}

impl Development {
    /// Runs this folder from the next invocation on. It must not change any more, and has to stay
    /// until every invocation that runs on it has ended.
    pub fn serve(&self, directory: PathBuf) {
        let mut running = self.session.lock();
        running.directory = Some(directory);
        running.generation += 1;
        let replaced = running.current.take();
        drop(running);
        if let Some((_, function)) = replaced {
            self.lambda.workers.retire(&function);
        }
    }

    /// Where the runtime's debugger listens inside, if there is to be one.
    pub fn debugger_port(&self) -> Option<u16> {
        self.session.debugger.as_ref().map(|debugger| debugger.port)
    }

    /// What the next invocation runs; `None` before there is any code.
    pub fn key(&self) -> Option<FunctionKey> {
        let function = self.lambda.functions.get(&self.id, None).ok()?;
        let current = self
            .session
            .current(&self.lambda, &function, &function.latest);
        current.ok().map(|function| function.key())
    }
}

impl Drop for Development {
    fn drop(&mut self) {
        self.lambda.developments.end(&self.id);
        if let Some((_, function)) = self.session.lock().current.take() {
            self.lambda.workers.retire(&function);
        }
    }
}

impl fmt::Debug for Development {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Development").field(&self.id).finish()
    }
}

impl Developments {
    fn get(&self, id: &FunctionId) -> Option<Arc<Session>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let sessions = self.sessions.read();
        let sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        sessions.get(id).cloned()
    }

    fn begin(&self, id: &FunctionId, session: Arc<Session>) -> Result<(), Error> {
        let sessions = self.sessions.write();
        let mut sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        if sessions.contains_key(id) {
            return Err(Error::InDevelopment { arn: id.arn() });
        }
        sessions.insert(id.clone(), session);
        self.count.store(sessions.len(), Ordering::Release);
        Ok(())
    }

    fn end(&self, id: &FunctionId) {
        let sessions = self.sessions.write();
        let mut sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        sessions.remove(id);
        self.count.store(sessions.len(), Ordering::Release);
    }
}

impl Session {
    fn current(
        &self,
        lambda: &Lambda,
        function: &Function,
        version: &Version,
    ) -> Result<Arc<invoker::Function>, Error> {
        let mut running = self.lock();
        let Some(directory) = running.directory.clone() else {
            return Err(Error::NotReady { state: "Pending" });
        };
        if let Some((build, current)) = &running.current
            && *build == version.build
        {
            return Ok(Arc::clone(current));
        }
        let mut runnable = invoker::Function::clone(&lambda.runnable(function, version));
        runnable.code_dir = directory;
        runnable.code_sha256 = String::new();
        runnable.snap_start = false;
        runnable.development = Some(invoker::Development { debugged: false });
        let (build, generation) = (&version.build, running.generation);
        runnable.revision_id = format!("{build}-{}-{generation}", self.name);
        if let Some(debugger) = &self.debugger {
            debugger.prepare(&mut runnable);
        }
        let runnable = Arc::new(runnable);
        let current = (version.build.clone(), Arc::clone(&runnable));
        if let Some((_, replaced)) = running.current.replace(current) {
            lambda.workers.retire(&replaced);
        }
        Ok(runnable)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debugger_is_added_to_what_the_function_sets() {
        let node = Debugger::of("nodejs22.x").unwrap();
        assert_eq!((node.port, node.variable), (9229, "NODE_OPTIONS"));
        assert_eq!(Debugger::of("python3.13").unwrap().port, 5678);
        assert_eq!(Debugger::of("java21").unwrap().port, 5005);
        assert_eq!(Debugger::of("provided.al2023"), None);
    }
}
