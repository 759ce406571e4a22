use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits and times of the listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Connections served at once; more wait in the kernel's queue. Default 16,384.
    pub max_connections: usize,
    /// Size of a request's head: its line and all headers. Default 256 KiB.
    pub max_head_bytes: usize,
    /// Time in which the next request's head must arrive, counted from the end of the one before;
    /// so it also ends idle connections. Default 75.
    pub head_timeout_s: u64,
    /// Longest pause within a request's body. Default 60.
    pub body_timeout_s: u64,
    /// How long a stopping server lets running requests finish. Default 20.
    pub drain_s: u64,
    /// Connections to the AWS endpoint of one execution environment. Default 256.
    pub max_connections_per_environment: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_head_bytes: 256 << 10,
            head_timeout_s: 75,
            body_timeout_s: 60,
            drain_s: 20,
            max_connections_per_environment: 256,
        }
    }
}

impl Config {
    /// hyper cannot work with less than this.
    const MIN_HEAD_BYTES: usize = 8 << 10;

    pub(crate) fn head_bytes(&self) -> usize {
        self.max_head_bytes.max(Self::MIN_HEAD_BYTES)
    }

    pub(crate) const fn head_timeout(&self) -> Duration {
        Duration::from_secs(self.head_timeout_s)
    }

    pub(crate) const fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_s)
    }

    pub(crate) const fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<Config>(r#"{"drain_s": 3}"#).is_ok());
        assert!(serde_json::from_str::<Config>(r#"{"drain": 3}"#).is_err());
    }
}
