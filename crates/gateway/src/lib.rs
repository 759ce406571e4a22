//! The listener: accepts connections, finds out who asks, runs the operation, writes the request
//! log.
//!
//! One request goes: signing information → identity → route → body within the operation's limit →
//! signature check → operation → answer. The head and body of an answer leave in one write. The
//! same code serves the server's own port and the AWS endpoint inside each execution environment.
//!
//! It knows no service: what operations do, and what errors say, is up to `protocol`'s router.
#![forbid(unsafe_code)]

mod auth;
mod body;
mod config;
mod connection;
pub mod keys;
mod listener;
pub mod pages;
mod request;
mod secret;
mod site;
mod stream_site;

use std::net::TcpListener;
use std::sync::Arc;

use clock::Clock;
use protocol::Router;

pub use auth::Authenticator;
pub use config::Config;
pub use pages::Pages;
pub use secret::Secret;
pub use site::{Site, SiteRequest};
pub use stream_site::{RequestBody, Signed, StreamRequest, StreamSite};

/// A router behind a door. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The server's own port.
    Outside,
    /// A function.
    Environment,
}

struct Inner {
    router: Arc<Router>,
    authenticator: Authenticator,
    pages: Pages,
    site: Option<Site>,
    stream_site: Option<StreamSite>,
    config: Config,
    clock: Clock,
}

impl Gateway {
    pub fn new(
        router: impl Into<Arc<Router>>,
        authenticator: Authenticator,
        pages: Pages,
        config: Config,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner {
            router: router.into(),
            authenticator,
            pages,
            site: None,
            stream_site: None,
            config,
            clock,
        }))
    }

    /// The same gateway with a site beside the AWS APIs. To be called before it is cloned.
    #[must_use]
    pub fn with_site(mut self, site: Site) -> Self {
        match Arc::get_mut(&mut self.0) {
            Some(inner) => inner.site = Some(site),
            None => tracing::error!("a gateway that is in use gets no site"),
        }
        self
    }

    /// The same gateway with a site whose bodies are not held in memory. To be called before it is
    /// cloned.
    #[must_use]
    pub fn with_stream_site(mut self, site: StreamSite) -> Self {
        match Arc::get_mut(&mut self.0) {
            Some(inner) => inner.stream_site = Some(site),
            None => tracing::error!("a gateway that is in use gets no site"),
        }
        self
    }

    /// Serves a listener until `stop` resolves; then refuses new connections, lets running requests
    /// finish within `drain_s`, and returns.
    pub async fn serve(
        &self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let listener = into_tokio(listener)?;
        let connections = self.config().max_connections;
        listener::serve(self, listener, connections, Origin::Outside, stop).await;
        Ok(())
    }

    /// Serves the AWS endpoint of one execution environment until the future is dropped, which ends
    /// its connections as well. The listener may live in another network namespace.
    pub async fn serve_environment(&self, listener: TcpListener) {
        match into_tokio(listener) {
            Ok(listener) => {
                let connections = self.config().max_connections_per_environment;
                let origin = Origin::Environment;
                listener::serve(self, listener, connections, origin, std::future::pending()).await;
            }
            Err(err) => tracing::error!(error = %err, "cannot serve an environment's endpoint"),
        }
    }

    fn config(&self) -> &Config {
        &self.0.config
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gateway")
    }
}

fn into_tokio(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests;
