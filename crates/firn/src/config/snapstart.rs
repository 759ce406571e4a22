//! The section of snapshots: what the invoker does with them, and where they are kept.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Unknown keys of the section are found when its layers are read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapStart {
    #[serde(flatten)]
    pub use_of: invoker::SnapStart,
    #[serde(flatten)]
    pub images: Images,
}

/// Where snapshots are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Images {
    /// Where they are durable: a directory, or `s3://bucket/prefix`. Servers that share it and the
    /// key use each other's snapshots. Default: `snapshots` in the data directory.
    pub store: String,
    /// The key without which no snapshot can be read; made when it is missing. Default:
    /// `snapshots.key` in the data directory.
    pub key_file: PathBuf,
    /// Copies on this machine's disk of what a distant store holds. Default: `snapshot-cache` in
    /// the data directory.
    pub cache_dir: PathBuf,
    /// Most that the copies may take. Default 8,192.
    pub cache_mb: u64,
    /// Keep copies although the store is a directory: one on a network file system. Default off.
    pub cache_directory_store: bool,
    /// A Valkey or Redis shared by several servers, between them and the store:
    /// `redis://[user:password@]host[:port][/database]`. Default none.
    pub redis_url: String,
    /// What keys there begin with. Default `firn:`.
    pub redis_prefix: String,
    /// How long it keeps a chunk; 0 leaves that to its eviction policy. Default 604,800 (a week).
    pub redis_ttl_s: u64,
    /// After this time a request to it counts as a miss. Default 50.
    pub redis_timeout_ms: u64,
    /// Region of an S3 store. Credentials come from the environment of the server. Default
    /// us-east-1.
    pub s3_region: String,
    /// Endpoint of an S3 store that is not AWS's. Default AWS's.
    pub s3_endpoint: String,
    /// Allow an S3 endpoint without TLS. Default off.
    pub s3_allow_http: bool,
    /// Size of the chunks of new snapshots: a power of two from 4 KiB to 4 MiB. Default 131,072.
    pub chunk_bytes: u32,
    /// Tasks that read one snapshot's first pages. Default 4.
    pub read_parallelism: usize,
    /// Tasks that read the rest while the function runs. Default 1.
    pub background_parallelism: usize,
    /// Requests to the store and to Redis in flight at a time. Default 64.
    pub requests: usize,
    /// Chunks younger than this are never collected: another server that shares the store may be
    /// about to use them. Default 3,600,000 (an hour).
    pub collect_grace_ms: u64,
    /// Delay added to each request to the store, to measure what a distant one costs. Default 0.
    pub simulate_latency_ms: u64,
}

impl Default for Images {
    fn default() -> Self {
        let chunks = chunks::Config::default();
        let redis = chunks::L2::at("");
        Self {
            store: String::new(),
            key_file: PathBuf::new(),
            cache_dir: PathBuf::new(),
            cache_mb: chunks.l1_bytes >> 20,
            cache_directory_store: chunks.cache_local,
            redis_url: redis.url,
            redis_prefix: redis.prefix,
            redis_ttl_s: redis.ttl_seconds,
            redis_timeout_ms: redis.timeout_ms,
            s3_region: "us-east-1".to_owned(),
            s3_endpoint: String::new(),
            s3_allow_http: false,
            chunk_bytes: chunks.chunk_bytes,
            read_parallelism: chunks.read_parallelism,
            background_parallelism: chunks.background_parallelism,
            requests: chunks.requests,
            collect_grace_ms: chunks.grace_ms,
            simulate_latency_ms: chunks.simulate_latency_ms,
        }
    }
}

impl Images {
    /// Whether a Redis is named that nothing goes to: a directory is read past it.
    pub fn passes_redis_by(&self) -> bool {
        let is_directory = !self.store.starts_with("s3://");
        !self.redis_url.is_empty() && is_directory && !self.cache_directory_store
    }

    /// The same in the form that the image store takes.
    pub fn store_config(&self) -> chunks::Config {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let l3 = if self.store.starts_with("s3://") {
            chunks::L3::S3(chunks::S3 {
                url: self.store.clone(),
                region: text(&self.s3_region),
                endpoint: text(&self.s3_endpoint),
                allow_http: self.s3_allow_http,
                ..chunks::S3::default()
            })
        } else {
            chunks::L3::Local(Path::new(&self.store).to_owned())
        };
        let l2 = text(&self.redis_url).map(|url| chunks::L2 {
            url,
            prefix: self.redis_prefix.clone(),
            ttl_seconds: self.redis_ttl_s,
            timeout_ms: self.redis_timeout_ms,
        });
        chunks::Config {
            dir: self.cache_dir.clone(),
            l1_bytes: self.cache_mb.saturating_mul(1 << 20),
            l2,
            l3,
            cache_local: self.cache_directory_store,
            chunk_bytes: self.chunk_bytes,
            read_parallelism: self.read_parallelism,
            background_parallelism: self.background_parallelism,
            requests: self.requests,
            grace_ms: self.collect_grace_ms,
            simulate_latency_ms: self.simulate_latency_ms,
            ..chunks::Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_stands_before_what_is_distant() {
        let mut images = Images {
            redis_url: "redis://cache".to_owned(),
            ..Images::default()
        };
        assert!(images.passes_redis_by());
        images.cache_directory_store = true;
        assert!(!images.passes_redis_by());
        images.cache_directory_store = false;
        images.store = "s3://bucket".to_owned();
        assert!(!images.passes_redis_by());
        assert!(!Images::default().passes_redis_by());
    }

    #[test]
    fn a_store_is_a_directory_or_a_bucket() {
        let of = |store: &str| {
            let images = Images {
                store: store.to_owned(),
                ..Images::default()
            };
            images.store_config().l3
        };
        assert!(matches!(of("/d/snapshots"), chunks::L3::Local(dir) if dir.ends_with("snapshots")));
        assert!(matches!(of("s3://bucket/x"), chunks::L3::S3(s3) if s3.url == "s3://bucket/x"));
    }

    #[test]
    fn redis_is_used_when_it_has_an_address() {
        assert!(Images::default().store_config().l2.is_none());
        let images = Images {
            redis_url: "redis://cache".to_owned(),
            redis_ttl_s: 5,
            ..Images::default()
        };
        let l2 = images.store_config().l2.unwrap();
        assert_eq!((l2.url.as_str(), l2.ttl_seconds), ("redis://cache", 5));
    }
}
