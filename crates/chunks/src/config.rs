use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::{Error, Result};

/// Where images are kept and how much room they may take.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// L1: a directory on this machine's disk, of one process alone. Only used where L3 is not a
    /// directory of this machine, see `cache_local`. Default `images/cache`.
    pub dir: PathBuf,
    /// Most that L1 may hold; what was not used for longest goes first. Default 8 GiB.
    pub l1_bytes: u64,
    /// Budget of the images whose pages are in this server's memory. This crate does not use it;
    /// whoever keeps images open does. Default 2 GiB.
    pub memory_bytes: u64,
    /// L2: a Valkey or Redis shared by several machines. Default none.
    pub l2: Option<L2>,
    /// L3: where an image is durable. Default `{ local = "images/store" }`.
    pub l3: L3,
    /// Keep copies in L1 of what a local L3 holds. For an L3 directory on a network file system;
    /// on the same disk it would only store everything twice. Default false.
    pub cache_local: bool,
    /// Size of the chunks that new images are cut into: a power of two from 4 KiB to 4 MiB.
    /// Default 128 KiB.
    pub chunk_bytes: u32,
    /// Blocking tasks that one image's first ranges may use at a time to read, check and decode.
    /// Default 4.
    pub read_parallelism: usize,
    /// The same for the rest of an image, in the background of running functions. Default 1.
    pub background_parallelism: usize,
    /// Requests to L2 and L3 in flight at a time. Default 64.
    pub requests: usize,
    /// Chunks younger than this are never collected as garbage, in milliseconds: a process that
    /// shares this L3 may be about to name them in a manifest. Default 3,600,000 (an hour).
    pub grace_ms: u64,
    /// Delay added to each request to L3, in milliseconds, to measure what a distant object store
    /// costs. With a local L3 it also turns on `cache_local`. Default 0.
    pub simulate_latency_ms: u64,
}

/// A Valkey or Redis used as L2. Its `Debug` form leaves the password out.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L2 {
    /// `redis://[user:password@]host[:port][/database]`, or `redis+unix:///path`.
    pub url: String,
    /// What keys begin with. Default `firn:`.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// How long L2 keeps a chunk, in seconds; 0 leaves it to the server's eviction policy.
    /// Default 604,800 (a week).
    #[serde(default = "default_ttl")]
    pub ttl_seconds: u64,
    /// After this long a request counts as a miss, in milliseconds. Default 50.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
}

impl std::fmt::Debug for L2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.url.rsplit('@').next().unwrap_or_default();
        f.debug_struct("L2")
            .field("address", &address)
            .field("prefix", &self.prefix)
            .field("ttl_seconds", &self.ttl_seconds)
            .field("timeout_ms", &self.timeout_ms)
            .finish()
    }
}

fn default_prefix() -> String {
    "firn:".to_owned()
}

fn default_ttl() -> u64 {
    604_800
}

fn default_timeout() -> u64 {
    50
}

impl L2 {
    /// An L2 at `url`, everything else by default.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: default_prefix(),
            ttl_seconds: default_ttl(),
            timeout_ms: default_timeout(),
        }
    }
}

/// Where images are durable.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum L3 {
    /// A directory.
    Local(PathBuf),
    /// An S3 bucket, or anything that speaks the same protocol.
    S3(S3),
}

/// An S3 bucket.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// `s3://bucket` or `s3://bucket/prefix`.
    pub url: String,
    /// Region. Default `us-east-1`.
    pub region: Option<String>,
    /// Endpoint of a server other than AWS's, such as `http://127.0.0.1:9000`; the bucket is then
    /// part of the path. Default AWS's.
    pub endpoint: Option<String>,
    /// Allow an endpoint without TLS. Default false.
    pub allow_http: bool,
    /// Credentials. Default: the environment's `AWS_ACCESS_KEY_ID` and so on, a container's or the
    /// instance's role.
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
    pub session_token: Option<String>,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3")
            .field("url", &self.url)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("allow_http", &self.allow_http)
            .finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("images/cache"),
            l1_bytes: 8 << 30,
            memory_bytes: 2 << 30,
            l2: None,
            l3: L3::Local(PathBuf::from("images/store")),
            cache_local: false,
            chunk_bytes: 128 << 10,
            read_parallelism: 4,
            background_parallelism: 1,
            requests: 64,
            grace_ms: 3_600_000,
            simulate_latency_ms: 0,
        }
    }
}

impl Config {
    /// An L1 and a local L3 below `dir`, everything else by default.
    pub fn local(dir: &std::path::Path) -> Self {
        Self {
            dir: dir.join("cache"),
            l3: L3::Local(dir.join("store")),
            ..Self::default()
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |reason: &str| {
            Err(Error::Config {
                reason: reason.to_owned(),
            })
        };
        if !self.chunk_bytes.is_power_of_two() || !(4 << 10..=4 << 20).contains(&self.chunk_bytes) {
            return refuse("chunk_bytes is not a power of two from 4 KiB to 4 MiB");
        }
        if self.read_parallelism == 0 || self.background_parallelism == 0 || self.requests == 0 {
            return refuse("read_parallelism, background_parallelism and requests are at least 1");
        }
        Ok(())
    }

    /// Whether chunks are kept in `dir`.
    pub(crate) fn has_l1(&self) -> bool {
        match self.l3 {
            L3::Local(_) => self.cache_local || self.simulate_latency_ms > 0,
            L3::S3(_) => true,
        }
    }

    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.simulate_latency_ms)
    }

    pub(crate) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let l2 = L2 {
            url: "redis://user:hunter2@cache:6379".into(),
            prefix: default_prefix(),
            ttl_seconds: 1,
            timeout_ms: 1,
        };
        let text = format!("{l2:?}");
        assert!(
            text.contains("cache:6379") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
