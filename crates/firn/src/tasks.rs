//! What executions need to run their tasks: the integrations, wired to the other parts.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clock::Clock;
use integrations::{Context, Hooks, Integrations};
use protocol::credentials::{ServerKey, TemporaryCredentials};
use protocol::sigv4::Credentials;
use protocol::{BoxFuture, RouterHandle};
use states::executions::{Executions, TaskRunner};

use crate::config::Config;

/// Each call gets credentials of its own, which need not last.
const CREDENTIALS_LIFETIME: Duration = Duration::from_secs(3600);
/// Served here without being in the router.
const BESIDE_THE_ROUTER: [&str; 1] = ["s3"];

/// The integrations, and where they learn of ends of executions.
#[derive(Debug)]
pub struct Tasks {
    pub integrations: Arc<Integrations>,
    executions: Arc<OnceLock<Weak<Executions>>>,
}

impl Tasks {
    /// Makes ready to run tasks. `own` is where this server listens.
    pub fn open(
        config: &Config,
        router: &RouterHandle,
        own: SocketAddr,
        key: &ServerKey,
        clock: &Clock,
    ) -> Result<Self> {
        let executions = Arc::new(OnceLock::new());
        let (to_router, key, now) = (router.clone(), key.clone(), clock.clone());
        let hooks = Hooks {
            ended: ended(&executions),
            credentials: Arc::new(move |context| credentials(context, &key, &now)),
            serves: Arc::new(move |name| {
                BESIDE_THE_ROUTER.contains(&name) || to_router.serves(name)
            }),
        };
        let integrations = Integrations::open(
            config.integrations.clone(),
            config.upstream.clone(),
            router.clone(),
            own,
            hooks,
            clock.clone(),
        )
        .context("the settings of integrations do not fit together")?;
        Ok(Self {
            integrations,
            executions,
        })
    }

    /// Runs the tasks of executions.
    pub fn runner(&self) -> TaskRunner {
        let integrations = Arc::clone(&self.integrations);
        Arc::new(move |attempt| {
            let integrations = Arc::clone(&integrations);
            match attempt.resumed {
                None => Box::pin(async move {
                    integrations.run(attempt.call, attempt.report).await;
                }),
                Some(submitted) => Box::pin(async move {
                    let resumed = integrations.resume(attempt.call, submitted, attempt.report);
                    resumed.await;
                }),
            }
        })
    }

    /// Says whose ends tasks wait for.
    pub fn watch(&self, executions: &Arc<Executions>) {
        // Set once; nobody else can have.
        let _ = self.executions.set(Arc::downgrade(executions));
    }
}

fn ended(executions: &Arc<OnceLock<Weak<Executions>>>) -> integrations::Ended {
    let executions = Arc::clone(executions);
    Arc::new(move |arn| {
        let executions = executions.get().and_then(Weak::upgrade);
        let ended: BoxFuture<'static, ()> = Box::pin(async move {
            let heard = match executions {
                Some(executions) => executions.ended(&arn).await.is_ok(),
                None => false,
            };
            if !heard {
                // The server is ending: nobody hears of anything any more.
                std::future::pending::<()>().await;
            }
        });
        ended
    })
}

/// The credentials of a session of the role that a task runs with.
fn credentials(context: &Context, key: &ServerKey, clock: &Clock) -> Result<Credentials, String> {
    let expiration = clock.now() + CREDENTIALS_LIFETIME;
    let (role, session) = (&context.role_arn, &context.session);
    TemporaryCredentials::issue(key, context.account, role, session, expiration)
        .map(|issued| Credentials {
            access_key: issued.access_key_id,
            secret_key: issued.secret_access_key,
            session_token: Some(issued.session_token),
        })
        .map_err(|error| error.to_string())
}
