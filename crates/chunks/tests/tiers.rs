//! What the tiers do for each other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chunks::{Config, Error, L2};
use kit::*;
use redis::Redis;

/// An L1 in front of a local L3.
fn cached(dir: &Path) -> Config {
    Config {
        cache_local: true,
        ..Config::local(dir)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_l3_is_not_stored_twice() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    put(&chunks, "a", "x", &pages(1, 1 << 20)).await;
    filled(&image(&chunks, "a", "x").await).await;
    assert!(files(&dir.path().join("cache/chunks")).is_empty());
    let stats = chunks.stats();
    assert_eq!(stats.l1, chunks::TierStats::default());
    assert!(stats.l3.hits > 0 && stats.l3.read_bytes > 0 && stats.l3.written_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_or_read_is_in_l1_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let pages = pages(1, 1 << 20);
    let chunks = open(cached(dir.path()));
    put(&chunks, "a", "x", &pages).await;
    let hidden = dir.path().join("hidden");
    drop(chunks);
    let chunks = open(cached(dir.path()));
    image(&chunks, "a", "x")
        .await
        .put_side("ws", b"1")
        .await
        .unwrap();
    drop(chunks);
    // L3 out of sight: everything is near.
    std::fs::rename(dir.path().join("store"), &hidden).unwrap();
    let chunks = open(cached(dir.path()));
    let image = image(&chunks, "a", "x").await;
    assert_eq!(filled(&image).await, pages);
    assert_eq!(image.side("ws").await.unwrap().unwrap(), b"1");
    let stats = chunks.stats();
    assert_eq!((stats.l3.hits, stats.l1.misses), (0, 0), "{stats:?}");
    assert!(stats.l1.resident_bytes.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_l1_that_was_lost_is_filled_again() {
    let dir = tempfile::tempdir().unwrap();
    let pages = pages(1, 1 << 20);
    put(&open(cached(dir.path())), "a", "x", &pages).await;
    std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
    let chunks = open(cached(dir.path()));
    assert_eq!(filled(&image(&chunks, "a", "x").await).await, pages);
    let far = chunks.stats().l3.hits;
    assert!(far > 0);
    promoted(&chunks, far).await;
    assert_eq!(filled(&image(&chunks, "a", "x").await).await, pages);
    assert_eq!(
        chunks.stats().l3.hits,
        far,
        "the second time everything is near"
    );
    // Lost while the store runs.
    std::fs::remove_dir_all(dir.path().join("cache/chunks")).unwrap();
    assert_eq!(filled(&image(&chunks, "a", "x").await).await, pages);
    assert!(chunks.stats().l3.hits > far);
}

/// A file that is deleted meanwhile does not count.
fn bytes_in(cache: &std::path::Path) -> u64 {
    let sizes = files(cache)
        .into_iter()
        .map(|file| std::fs::metadata(cache.join(file)).map_or(0, |file| file.len()));
    sizes.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn l1_keeps_to_its_budget_and_nobody_notices() {
    let dir = tempfile::tempdir().unwrap();
    let budget = 100_000;
    let config = Config {
        l1_bytes: budget,
        ..cached(dir.path())
    };
    let chunks = open(config);
    let pages = pages(1, 4 << 20);
    let stored = put(&chunks, "a", "x", &pages).await;
    assert!(stored.stored_bytes > 2 * budget);
    for _ in 0..3 {
        assert_eq!(filled(&image(&chunks, "a", "x").await).await, pages);
    }
    let stats = chunks.stats();
    assert!(
        stats.l1.evictions > 0 && stats.l1.resident_bytes.unwrap() <= budget,
        "{stats:?}"
    );
    // What is evicted is deleted a little later.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while bytes_in(&dir.path().join("cache")) != chunks.stats().l1.resident_bytes.unwrap() {
        assert!(std::time::Instant::now() < deadline, "{:?}", chunks.stats());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_l1_is_repaired_from_l3() {
    let dir = tempfile::tempdir().unwrap();
    let pages = pages(1, 1 << 20);
    put(&open(cached(dir.path())), "a", "x", &pages).await;
    let cache = dir.path().join("cache");
    let chunks = open(cached(dir.path()));
    image(&chunks, "a", "x")
        .await
        .put_side("ws", b"here")
        .await
        .unwrap();
    drop(chunks);
    let mut damaged = 0;
    for file in files(&cache) {
        let mut bytes = std::fs::read(cache.join(&file)).unwrap();
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
            damaged += 1;
        }
        std::fs::write(cache.join(&file), bytes).unwrap();
    }
    let chunks = open(cached(dir.path()));
    for _ in 0..2 {
        let image = image(&chunks, "a", "x").await;
        assert_eq!(filled(&image).await, pages);
        assert_eq!(image.side("ws").await.unwrap().unwrap(), b"here");
        promoted(&chunks, damaged).await;
    }
    let stats = chunks.stats();
    // The manifest is read once, because the image stays open or its copy is whole again.
    assert_eq!(stats.l1.corrupt, damaged, "{stats:?}");
    assert_eq!(stats.l3.corrupt, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_l3_behind_an_empty_l1_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(cached(dir.path())), "a", "x", &pages(1, 1 << 20)).await;
    std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
    let of = dir.path().join("store/chunks/a");
    for file in files(&of) {
        let mut bytes = std::fs::read(of.join(&file)).unwrap();
        bytes[20] ^= 0x80;
        std::fs::write(of.join(&file), bytes).unwrap();
    }
    let chunks = open(cached(dir.path()));
    let image = image(&chunks, "a", "x").await;
    let target = target();
    let before = content(&target, 1 << 20);
    let fill = image.fill(Arc::clone(&target), std::slice::from_ref(&(0..1 << 20)));
    assert!(matches!(fill.first().await, Err(Error::Corrupt { .. })));
    assert!(matches!(
        fill.demand(0..1).await,
        Err(Error::Corrupt { .. })
    ));
    let after = content(&target, 1 << 20);
    // Only the zero chunks were written.
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before == after || *after == 0)
    );
    assert!(
        files(&dir.path().join("cache/chunks")).is_empty(),
        "damage is not kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_in_l1_that_is_out_of_date_is_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (pages(1, 1 << 20), pages(2, 1 << 20));
    let one = Config {
        grace_ms: 0,
        ..cached(dir.path())
    };
    let two = Config {
        dir: dir.path().join("cache-two"),
        ..one.clone()
    };
    let (one, two) = (open(one), open(two));
    put(&one, "a", "x", &old).await;
    // The second machine has seen the manifest, and little else.
    drop(image(&two, "a", "x").await);
    put(&one, "a", "x", &new).await;
    assert!(one.collect_garbage().await.unwrap().chunks > 0);
    let stale = image(&two, "a", "x").await;
    let error = read_all(&stale).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    drop(stale);
    assert_eq!(filled(&image(&two, "a", "x").await).await, new);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_l3_that_is_far_is_asked_for_many_chunks_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let pages = pages(1, 8 << 20);
    put(&open(Config::local(dir.path())), "a", "x", &pages).await;
    let chunks = open(Config {
        dir: dir.path().join("other"),
        simulate_latency_ms: 50,
        ..Config::local(dir.path())
    });
    let image = image(&chunks, "a", "x").await;
    let started = Instant::now();
    let fill = image.fill(target(), std::slice::from_ref(&(0..image.len())));
    fill.first().await.unwrap();
    let took = started.elapsed();
    // 64 chunks, one after the other, would take over three seconds.
    assert!(
        took >= Duration::from_millis(50) && took < Duration::from_secs(1),
        "{took:?}"
    );
}

/// An L2 on `server`, an L1 of its own, and an L3 that is far.
fn with_l2(dir: &Path, cache: &str, server: &Redis) -> Config {
    Config {
        dir: dir.join(cache),
        l2: Some(L2 {
            timeout_ms: 2000,
            ..L2::at(server.url())
        }),
        simulate_latency_ms: 1,
        ..Config::local(dir)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l2_serves_other_machines() {
    let Some(server) = Redis::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let pages = pages(1, 2 << 20);
    let stored = put(&open(Config::local(dir.path())), "a", "x", &pages).await;
    let one = open(with_l2(dir.path(), "one", &server));
    assert_eq!(filled(&image(&one, "a", "x").await).await, pages);
    let stored = stored.stored_bytes;
    wait_for(|| one.stats().l2.written_bytes == stored).await;

    let two = open(with_l2(dir.path(), "two", &server));
    assert_eq!(filled(&image(&two, "a", "x").await).await, pages);
    let stats = two.stats();
    assert!(
        stats.l2.hits > 0 && stats.l2.read_bytes <= stored,
        "{stats:?}"
    );
    assert_eq!(
        stats.l2.misses,
        stats.l3.hits - 1,
        "the manifest is not in L2"
    );
    assert_eq!(stats.l2.errors, 0);

    // Another account sees none of it.
    let stranger = put(&two, "b", "x", &pages).await;
    assert!(stranger.new_chunks > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_l2_is_repaired_from_l3() {
    let Some(server) = Redis::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let pages = pages(1, 1 << 20);
    let stored = put(&open(Config::local(dir.path())), "a", "x", &pages).await;
    let one = open(with_l2(dir.path(), "one", &server));
    filled(&image(&one, "a", "x").await).await;
    wait_for(|| one.stats().l2.written_bytes == stored.stored_bytes).await;
    let keys = server.overwrite_all("firn:chunks/");
    assert!(keys > 0);
    let two = open(with_l2(dir.path(), "two", &server));
    assert_eq!(filled(&image(&two, "a", "x").await).await, pages);
    let stats = two.stats();
    assert_eq!(stats.l2.corrupt, keys, "{stats:?}");
    // What was damaged is written anew.
    wait_for(|| two.stats().l2.written_bytes == stored.stored_bytes).await;
    let three = open(with_l2(dir.path(), "three", &server));
    assert_eq!(filled(&image(&three, "a", "x").await).await, pages);
    assert_eq!(three.stats().l2.corrupt, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_without_a_dead_l2() {
    let dir = tempfile::tempdir().unwrap();
    let pages = pages(1, 2 << 20);
    // A server that accepts and never answers, and one that is not there at all.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_at = silent.local_addr().unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (cache, address) in [("silent", silent_at), ("gone", gone)] {
        let chunks = open(Config {
            dir: dir.path().join(cache),
            l2: Some(L2::at(format!("redis://{address}"))),
            cache_local: true,
            ..Config::local(dir.path())
        });
        put(&chunks, "a", "x", &pages).await;
        // The first put left them in its L1, the second found them in L3.
        let _ = std::fs::remove_dir_all(dir.path().join(cache).join("chunks"));
        let started = Instant::now();
        assert_eq!(filled(&image(&chunks, "a", "x").await).await, pages);
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
        let stats = chunks.stats();
        assert!(stats.l2.errors > 0 && stats.l2.hits == 0, "{stats:?}");
    }
}

/// Waits until what was read from L3 has been written to L1.
async fn promoted(chunks: &chunks::Chunks, objects: u64) {
    wait_for(|| {
        let stats = chunks.stats();
        assert_eq!(stats.l3.hits, objects);
        stats.l1.written_bytes == stats.l3.read_bytes
    })
    .await;
}

mod redis {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    /// A server of its own, on a free port, that keeps nothing.
    pub struct Redis {
        child: Child,
        port: u16,
    }

    impl Redis {
        /// `None`, and a loud word, where neither Valkey nor Redis is installed.
        pub fn start() -> Option<Self> {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            for program in ["valkey-server", "redis-server"] {
                let child = Command::new(program)
                    .args([
                        "--save",
                        "",
                        "--appendonly",
                        "no",
                        "--bind",
                        "127.0.0.1",
                        "--port",
                    ])
                    .arg(port.to_string())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn();
                if let Ok(child) = child {
                    let server = Self { child, port };
                    server.wait();
                    return Some(server);
                }
            }
            eprintln!("SKIPPED: there is neither valkey-server nor redis-server on this machine");
            None
        }

        pub fn url(&self) -> String {
            format!("redis://127.0.0.1:{}", self.port)
        }

        fn wait(&self) {
            for _ in 0..500 {
                if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("the server does not listen");
        }

        fn command(&self, words: &[&[u8]]) -> Vec<String> {
            let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
            let mut request = format!("*{}\r\n", words.len()).into_bytes();
            for word in words {
                request.extend(format!("${}\r\n", word.len()).bytes());
                request.extend_from_slice(word);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"*1\r\n$4\r\nQUIT\r\n");
            connection.write_all(&request).unwrap();
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer).unwrap();
            String::from_utf8_lossy(&answer)
                .lines()
                .map(str::to_owned)
                .collect()
        }

        /// Puts other bytes under every key with this prefix; says how many.
        pub fn overwrite_all(&self, prefix: &str) -> u64 {
            let keys = self.command(&[b"KEYS", format!("{prefix}*").as_bytes()]);
            let keys: Vec<_> = keys
                .iter()
                .filter(|line| line.starts_with(prefix))
                .collect();
            for key in &keys {
                self.command(&[
                    b"SET",
                    key.as_bytes(),
                    b"something else that is long enough for a header",
                ]);
            }
            keys.len() as u64
        }
    }

    impl Drop for Redis {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
