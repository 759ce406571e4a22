//! The way in.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clock::{Clock, Timestamp};
use protocol::sigv4::Credentials;
use protocol::{BoxFuture, RouterHandle};
use tokio::task::JoinSet;
use upstream::Client;

use crate::Context;
use crate::config::{Config, InvalidConfig};

/// Resolves once the execution of this ARN has ended, durably.
pub type Ended = Arc<dyn Fn(String) -> BoxFuture<'static, ()> + Send + Sync>;
/// The credentials of a role's session; an error is a text for whoever reads the execution.
pub type RoleCredentials = Arc<dyn Fn(&Context) -> Result<Credentials, String> + Send + Sync>;
/// Whether this server serves the service of this signing name.
pub type Serves = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What integrations need of others.
#[derive(Clone)]
pub struct Hooks {
    pub ended: Ended,
    pub credentials: RoleCredentials,
    pub serves: Serves,
}

/// Calls what tasks name.
pub struct Integrations {
    pub(crate) config: Config,
    pub(crate) upstream: upstream::Config,
    pub(crate) client: Client,
    pub(crate) router: RouterHandle,
    /// The server's own port.
    pub(crate) own: SocketAddr,
    pub(crate) hooks: Hooks,
    pub(crate) clock: Clock,
    /// Set at the end of the server: what is dropped from then on goes on after the next start.
    stopping: AtomicBool,
    /// What ends with the server.
    background: Mutex<JoinSet<()>>,
    /// Access tokens of connections, with their end.
    pub(crate) tokens: Mutex<HashMap<String, (String, Timestamp)>>,
}

impl Integrations {
    /// Makes ready to call. `own` is where this server listens.
    ///
    /// # Errors
    /// If the settings contradict themselves.
    pub fn open(
        config: Config,
        upstream: upstream::Config,
        router: RouterHandle,
        own: SocketAddr,
        hooks: Hooks,
        clock: Clock,
    ) -> Result<Arc<Self>, InvalidConfig> {
        config.check(&upstream)?;
        let mut own = own;
        if own.ip().is_unspecified() {
            own.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        Ok(Arc::new(Self {
            config,
            upstream,
            client: Client::default(),
            router,
            own,
            hooks,
            clock,
            stopping: AtomicBool::new(false),
            background: Mutex::default(),
            tokens: Mutex::default(),
        }))
    }

    /// Says that the server ends: tasks that are dropped from now on are not cancelled.
    pub fn shutdown(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Does something that nobody waits for.
    pub(crate) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime the process is ending.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let mut background = self
            .background
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while background.try_join_next().is_some() {}
        background.spawn_on(work, &runtime);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Integrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Integrations")
            .field("config", &self.config)
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}
