//! Requests that outlive the process that made them: a runtime is frozen while it waits for the
//! answer to one of its `next` calls, and waits for it still when it is thawed, on a new connection.

use bytes::Bytes;
use http::Version;
use http::header::CONNECTION;
use http::request::Parts;
use serde::{Deserialize, Serialize};

/// A request that was waiting for its answer when the process was frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub request: PendingRequest,
    pub caller: Caller,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PendingRequest {
    RestoreNext,
    InvocationNext,
}

/// The connection that a request came in on, as far as its answer depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Caller {
    /// The runtime's port.
    pub port: u16,
    /// The request was made in HTTP/1.0.
    pub http_1_0: bool,
    /// The value of its `Connection` header.
    pub connection: Option<Persistence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Persistence {
    Close,
    KeepAlive,
}

impl Caller {
    pub(super) fn of(port: u16, head: &Parts) -> Self {
        let names = |wanted: &str| {
            let values = head.headers.get_all(CONNECTION).iter();
            let mut options = values.filter_map(|value| value.to_str().ok());
            options.any(|value| {
                value
                    .split(',')
                    .any(|option| option.trim().eq_ignore_ascii_case(wanted))
            })
        };
        let connection = if names("close") {
            Some(Persistence::Close)
        } else if names("keep-alive") {
            Some(Persistence::KeepAlive)
        } else {
            None
        };
        Self {
            port,
            http_1_0: head.version == Version::HTTP_10,
            connection,
        }
    }
}

impl Pending {
    /// The request's bytes, as far as the answer depends on them.
    fn head(&self) -> Bytes {
        let path = match self.request {
            PendingRequest::RestoreNext => "restore/next",
            PendingRequest::InvocationNext => "invocation/next",
        };
        let version = if self.caller.http_1_0 { "1.0" } else { "1.1" };
        let connection = match self.caller.connection {
            Some(Persistence::Close) => "Connection: close\r\n",
            Some(Persistence::KeepAlive) => "Connection: keep-alive\r\n",
            None => "",
        };
        format!(
            "GET /2018-06-01/runtime/{path} HTTP/{version}\r\nHost: localhost\r\n{connection}\r\n"
        )
        .into()
    }
}

/// What to feed a connection from this port first, once; nothing for most.
pub(super) fn take(pending: &mut Vec<Pending>, port: u16) -> Bytes {
    let found = pending
        .iter()
        .position(|pending| pending.caller.port == port);
    found.map_or_else(Bytes::new, |at| pending.swap_remove(at).head())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_gets_its_own_request_once() {
        let from = |port, request| Pending {
            request,
            caller: Caller {
                port,
                ..Caller::default()
            },
        };
        let mut pending = vec![
            from(7, PendingRequest::RestoreNext),
            from(8, PendingRequest::InvocationNext),
        ];
        assert_eq!(take(&mut pending, 9), "");
        assert_eq!(
            take(&mut pending, 7),
            "GET /2018-06-01/runtime/restore/next HTTP/1.1\r\nHost: localhost\r\n\r\n"
        );
        assert_eq!(take(&mut pending, 7), "");
        assert!(take(&mut pending, 8).starts_with(b"GET /2018-06-01/runtime/invocation/next "));
    }
}
