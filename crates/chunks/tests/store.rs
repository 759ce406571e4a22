//! The store as its users see it, on a local L3.

mod kit;

use std::sync::Arc;
use std::time::Duration;

use chunks::{Chunks, Config, Error, L3};
use clock::{Clock, Timestamp};
use kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    let pages = pages(1, 3_000_000);
    let stored = put(&chunks, "a", "one", &pages).await;
    assert_eq!((stored.bytes, stored.chunks), (3_000_000, 23));
    assert!(stored.stored_bytes < stored.bytes);
    drop(chunks);

    let chunks = open(Config::local(dir.path()));
    let image = image(&chunks, "a", "one").await;
    assert_eq!(image.meta(), b"meta of one");
    assert_eq!(image.len(), 3_000_000);
    assert_eq!(read_all(&image).await.unwrap(), pages);
    assert_eq!(filled(&image).await, pages);
    assert!(matches!(
        image.read(image.chunk_count()).await,
        Err(Error::OutOfRange { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_around_the_edges_of_chunks_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config {
        chunk_bytes: 4096,
        ..Config::local(dir.path())
    });
    for len in [0, 1, 4095, 4096, 4097, 8192, 4096 * 17, 4096 * 65 - 1] {
        let pages = pages(len as u64, len);
        put(&chunks, "a", "edge", &pages).await;
        let image = image(&chunks, "a", "edge").await;
        assert_eq!(image.is_empty(), len == 0);
        assert_eq!(filled(&image).await, pages, "{len}");
        assert_eq!(read_all(&image).await.unwrap(), pages, "{len}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_longer_than_its_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    let (a, x) = (account("a"), id("x"));
    let put = chunks.put(&a, &x, Vec::new(), file(&[1; 5000]), 5001);
    assert!(matches!(put.await, Err(Error::Io { .. })));
    assert!(
        chunks
            .image(&account("a"), &id("x"))
            .await
            .unwrap()
            .is_none()
    );
    let put = chunks.put(&a, &x, Vec::new(), file(&[1]), 1 << 60);
    assert!(matches!(put.await, Err(Error::TooLarge { .. })));
    assert_eq!(
        files(&dir.path().join("store")),
        [""; 0].map(std::path::PathBuf::from)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_content_is_stored_once_and_zeros_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    let mut pages = pages(1, 4 << 20);
    let first = put(&chunks, "a", "one", &pages).await;
    assert!(first.new_chunks < first.chunks, "some chunks are zero");
    let again = put(&chunks, "a", "two", &pages).await;
    assert_eq!(again.new_chunks, 0);
    assert_eq!(again.stored_bytes, first.stored_bytes);
    pages[2_000_000] ^= 1;
    assert_eq!(put(&chunks, "a", "three", &pages).await.new_chunks, 1);
    let zeros = put(&chunks, "a", "zeros", &vec![0; 1 << 20]).await;
    assert_eq!(
        (zeros.chunks, zeros.new_chunks, zeros.stored_bytes),
        (8, 0, 0)
    );
    let same = put(&chunks, "a", "same", &vec![7; 1 << 20]).await;
    assert_eq!((same.chunks, same.new_chunks), (8, 1));
    assert!(same.stored_bytes < 1000, "counted once");
    // Zeros are written, too: the target may hold something else.
    assert_eq!(
        filled(&image(&chunks, "a", "zeros").await).await,
        vec![0; 1 << 20]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_share_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    let pages = pages(1, 1 << 20);
    let one = put(&chunks, "111111111111", "x", &pages).await;
    let two = put(&chunks, "222222222222", "x", &pages).await;
    assert_eq!(one.new_chunks, two.new_chunks);
    let names = |account: &str| -> Vec<_> {
        let of = dir.path().join("store/chunks").join(account);
        files(&of)
            .iter()
            .map(|name| (name.clone(), std::fs::read(of.join(name)).unwrap()))
            .collect()
    };
    let (one, two) = (names("111111111111"), names("222222222222"));
    assert!(!one.is_empty());
    for (name, content) in &one {
        assert!(
            two.iter()
                .all(|(other, bytes)| other != name && bytes != content)
        );
    }

    // One account's objects put where the other's belong open for neither.
    let images = dir.path().join("store/images");
    std::fs::copy(
        images.join("111111111111/x/manifest"),
        images.join("222222222222/x/manifest"),
    )
    .unwrap();
    let stolen = chunks.image(&account("222222222222"), &id("x")).await;
    assert!(matches!(stolen, Err(Error::Corrupt { .. })), "{stolen:?}");
    let nobodys = chunks
        .image(&account("333333333333"), &id("x"))
        .await
        .unwrap();
    assert!(nobodys.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_reads_nothing() {
    let dir = tempfile::tempdir().unwrap();
    put(
        &open(Config::local(dir.path())),
        "a",
        "x",
        &pages(1, 300_000),
    )
    .await;
    let stranger = Chunks::open(
        Config::local(dir.path()),
        chunks::Key::from_bytes([8; 32]),
        Clock::system(),
    )
    .unwrap();
    let image = stranger.image(&account("a"), &id("x")).await;
    assert!(matches!(image, Err(Error::Corrupt { .. })), "{image:?}");
    let listing = stranger.list().await.unwrap();
    assert_eq!((listing.images.len(), listing.damaged.len()), (0, 1));
    // And takes nothing for garbage either.
    let before = files(&dir.path().join("store"));
    let collected = stranger.collect_garbage().await.unwrap();
    assert_eq!(collected.skipped, [account("a")]);
    assert_eq!(files(&dir.path().join("store")), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_objects_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    let store = dir.path().join("store");
    put(&chunks, "a", "one", &pages(1, 1 << 20)).await;
    put(&chunks, "a", "two", &pages(2, 1 << 20)).await;
    let one = image(&chunks, "a", "one").await;
    one.put_side("working-set", b"of one").await.unwrap();

    // A manifest and a side record under another image's name.
    let images = store.join("images/a");
    std::fs::copy(images.join("one/manifest"), images.join("two/manifest")).unwrap();
    assert!(matches!(
        chunks.image(&account("a"), &id("two")).await,
        Err(Error::Corrupt { .. })
    ));
    std::fs::create_dir(images.join("two/side")).unwrap();
    std::fs::copy(
        images.join("one/side/working-set"),
        images.join("two/side/working-set"),
    )
    .unwrap();
    std::fs::copy(
        images.join("one/side/working-set"),
        images.join("one/side/other"),
    )
    .unwrap();
    for (image, name) in [("two", "working-set"), ("one", "other")] {
        let side = chunks.side(&account("a"), &id(image), name).await;
        assert!(matches!(side, Err(Error::Corrupt { .. })), "{side:?}");
    }
    assert_eq!(one.side("working-set").await.unwrap().unwrap(), b"of one");

    // Two chunks that changed places.
    let of = store.join("chunks/a");
    let names = files(&of);
    std::fs::rename(of.join(&names[0]), of.join("aside")).unwrap();
    std::fs::rename(of.join(&names[1]), of.join(&names[0])).unwrap();
    std::fs::rename(of.join("aside"), of.join(&names[1])).unwrap();
    let two = put(&chunks, "a", "three", &pages(1, 1 << 20)).await;
    assert_eq!(two.new_chunks, 0);
    let mut refused = 0;
    for index in 0..one.chunk_count() {
        match one.read(index).await {
            Ok(bytes) => {
                let at = index as usize * one.chunk_bytes() as usize;
                assert_eq!(bytes, pages(1, 1 << 20)[at..at + bytes.len()]);
            }
            Err(Error::Corrupt { .. }) => refused += 1,
            Err(err) => panic!("{err}"),
        }
    }
    assert!((1..=2).contains(&refused), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_anywhere_is_an_error_and_never_wrong_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config {
        chunk_bytes: 8192,
        ..Config::local(dir.path())
    });
    let pages = pages(3, 8192);
    put(&chunks, "a", "x", &pages).await;
    chunks
        .put_side(&account("a"), &id("x"), "ws", b"0-1,5")
        .await
        .unwrap();
    let store = dir.path().join("store");
    let mut tried = 0;
    for file in files(&store) {
        let path = store.join(&file);
        let whole = std::fs::read(&path).unwrap();
        let bits = (0..whole.len() * 8).step_by(if whole.len() > 300 { 37 } else { 1 });
        let damaged = bits
            .map(|bit| {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                damaged
            })
            .chain([
                Vec::new(),
                whole[..whole.len() - 1].to_vec(),
                [&whole[..], b"x"].concat(),
            ]);
        for damaged in damaged {
            std::fs::write(&path, &damaged).unwrap();
            let result = everything(&chunks).await;
            assert!(
                matches!(result, Err(Error::Corrupt { .. })),
                "{file:?}: {result:?}"
            );
            tried += 1;
        }
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(tried > 1000, "{tried}");
    assert_eq!(
        everything(&chunks).await.unwrap(),
        (pages, b"0-1,5".to_vec())
    );
    assert!(chunks.stats().l3.corrupt > 0);
}

async fn everything(chunks: &Chunks) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let image = chunks
        .image(&account("a"), &id("x"))
        .await?
        .expect("there is an image");
    let side = image.side("ws").await?.expect("there is a side record");
    Ok((read_all(&image).await?, side))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_chunk_is_named_and_the_rest_still_loads() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    let pages = pages(5, 1 << 20);
    put(&chunks, "a", "x", &pages).await;
    let of = dir.path().join("store/chunks/a");
    let victim = &files(&of)[0];
    let aside = std::fs::read(of.join(victim)).unwrap();
    std::fs::remove_file(of.join(victim)).unwrap();

    let image = image(&chunks, "a", "x").await;
    let fill = image.fill(target(), std::slice::from_ref(&(0..image.len())));
    let error = fill.first().await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    let error = fill.all().await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    let size = u64::from(image.chunk_bytes());
    let mut missing = Vec::new();
    for index in 0..u64::from(image.chunk_count()) {
        let range = index * size..(index + 1) * size;
        if fill.demand(range.clone()).await.is_err() {
            missing.push(index);
        }
        assert_eq!(fill.present(range), !missing.contains(&index));
    }
    assert_eq!(missing.len(), 1);
    assert!(!fill.is_complete());

    // It came back (a network file system, say), and whoever needs it asks again.
    std::fs::create_dir_all(of.join(victim).parent().unwrap()).unwrap();
    std::fs::write(of.join(victim), aside).unwrap();
    fill.demand(missing[0] * size..missing[0] * size + 1)
        .await
        .unwrap();
    fill.all().await.unwrap();
    assert!(fill.is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_was_killed_leaves_only_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_secs(2_000_000_000));
    let chunks = Chunks::open(Config::local(dir.path()), key(), clock.clone()).unwrap();
    put(&chunks, "a", "whole", &pages(1, 1 << 20)).await;
    let store = dir.path().join("store");
    let before = files(&store);
    // Killed before the manifest: chunks without one. Killed while writing: files without a name.
    put(&chunks, "a", "killed", &pages(2, 1 << 20)).await;
    std::fs::remove_file(store.join("images/a/killed/manifest")).unwrap();
    std::fs::write(store.join("incoming/0123"), b"half a chunk").unwrap();

    assert!(
        chunks
            .image(&account("a"), &id("killed"))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(chunks.list().await.unwrap().images.len(), 1);
    // Too young: another process may be about to write the manifest.
    assert_eq!(chunks.collect_garbage().await.unwrap().chunks, 0);
    clock.advance(Duration::from_secs(7200));
    let collected = chunks.collect_garbage().await.unwrap();
    assert!(collected.chunks > 0 && collected.bytes > 0);
    assert_eq!(files(&store), before);
    assert_eq!(
        filled(&image(&chunks, "a", "whole").await).await,
        pages(1, 1 << 20)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_image_is_gone_but_readable_for_who_has_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config {
        grace_ms: 0,
        ..Config::local(dir.path())
    });
    let pages = pages(1, 1 << 20);
    put(&chunks, "a", "x", &pages).await;
    put(&chunks, "b", "y", &pages).await;
    let image = image(&chunks, "a", "x").await;
    image.put_side("ws", b"1").await.unwrap();
    assert!(chunks.delete(&account("a"), &id("x")).await.unwrap());
    assert!(!chunks.delete(&account("a"), &id("x")).await.unwrap());
    assert!(
        chunks
            .image(&account("a"), &id("x"))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        chunks
            .side(&account("a"), &id("x"), "ws")
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(chunks.collect_garbage().await.unwrap().chunks, 0);
    assert_eq!(filled(&image).await, pages);
    released(&image).await;
    drop(image);
    assert!(chunks.collect_garbage().await.unwrap().chunks > 0);
    assert!(files(&dir.path().join("store/chunks/a")).is_empty());
    assert_eq!(filled(&kit::image(&chunks, "b", "y").await).await, pages);
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_deletes_and_collections_at_the_same_time_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config {
        grace_ms: 0,
        chunk_bytes: 16 << 10,
        ..Config::local(dir.path())
    });
    // All images share most of their chunks, so that a put often relies on what a deletion has
    // just made garbage.
    let shared = pages(1, 1 << 20);
    let collecting = tokio::spawn({
        let chunks = chunks.clone();
        async move {
            loop {
                chunks.collect_garbage().await.unwrap();
            }
        }
    });
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4_u8 {
        let (chunks, mut pages) = (chunks.clone(), shared.clone());
        workers.spawn(async move {
            for round in 0..15_u8 {
                pages[usize::from(worker) * 50_000] = round;
                let name = format!("{worker}");
                put(&chunks, "a", &name, &pages).await;
                let image = image(&chunks, "a", &name).await;
                assert_eq!(filled(&image).await, pages);
                drop(image);
                if round != 14 {
                    assert!(chunks.delete(&account("a"), &id(&name)).await.unwrap());
                }
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    collecting.abort();
    let _ = collecting.await;
    for worker in 0..4 {
        let image = image(&chunks, "a", &worker.to_string()).await;
        assert_eq!(read_all(&image).await.unwrap()[worker * 50_000], 14);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_replaces_the_image_of_that_name_and_its_side_records() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config {
        cache_local: true,
        ..Config::local(dir.path())
    });
    let (old, new) = (pages(1, 1 << 20), pages(2, 700_000));
    put(&chunks, "a", "x", &old).await;
    let held = image(&chunks, "a", "x").await;
    held.put_side("ws", b"first").await.unwrap();
    held.put_side("ws", b"second").await.unwrap();
    assert_eq!(held.side("ws").await.unwrap().unwrap(), b"second");
    put(&chunks, "a", "x", &new).await;
    let image = image(&chunks, "a", "x").await;
    assert_eq!(filled(&image).await, new);
    assert_eq!(image.side("ws").await.unwrap(), None);
    assert_eq!(filled(&held).await, old);
    assert!(matches!(
        image.put_side("../x", b"").await,
        Err(Error::InvalidName { .. })
    ));
    assert!(matches!(
        image.put_side("big", &vec![0; (16 << 20) + 1]).await,
        Err(Error::TooLarge { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_says_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_secs(1_800_000_000));
    let chunks = Chunks::open(Config::local(dir.path()), key(), clock.clone()).unwrap();
    let stored = put(&chunks, "a", "one", &pages(1, 1 << 20)).await;
    clock.advance(Duration::from_secs(100));
    put(&chunks, "b", "two", &pages(1, 1 << 20)).await;
    drop(image(&chunks, "a", "one").await);
    clock.advance(Duration::from_secs(30));
    drop(image(&chunks, "a", "one").await);
    let listing = chunks.list().await.unwrap();
    assert!(listing.damaged.is_empty());
    let [one, two] = &listing.images[..] else {
        panic!("{listing:?}")
    };
    assert_eq!((one.account.as_str(), one.id.as_str()), ("a", "one"));
    assert_eq!(one.created, Timestamp::from_secs(1_800_000_000));
    assert_eq!(
        (one.bytes, one.stored_bytes),
        (1 << 20, stored.stored_bytes)
    );
    assert_eq!(one.last_used, Some(Timestamp::from_secs(1_800_000_100)));
    assert_eq!((two.account.as_str(), two.last_used), ("b", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time_uses_a_cache_directory() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    let second = Chunks::open(Config::local(dir.path()), key(), Clock::system());
    assert!(matches!(second, Err(Error::Locked { .. })));
    // Two of them may share an L3, though.
    let other = open(Config {
        dir: dir.path().join("other"),
        ..Config::local(dir.path())
    });
    put(&chunks, "a", "x", &pages(1, 100_000)).await;
    assert_eq!(
        filled(&image(&other, "a", "x").await).await,
        pages(1, 100_000)
    );
    drop(chunks);
    open(Config::local(dir.path()));
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    for bad in [
        Config {
            chunk_bytes: 5000,
            ..Config::default()
        },
        Config {
            chunk_bytes: 8 << 20,
            ..Config::default()
        },
        Config {
            read_parallelism: 0,
            ..Config::default()
        },
        Config {
            requests: 0,
            ..Config::default()
        },
        Config {
            l3: L3::S3(chunks::S3 {
                url: "nonsense".to_owned(),
                ..Default::default()
            }),
            ..Config::default()
        },
    ] {
        let dir = tempfile::tempdir().unwrap();
        let opened = Chunks::open(
            Config {
                dir: dir.path().into(),
                ..bad
            },
            key(),
            Clock::system(),
        );
        assert!(matches!(opened, Err(Error::Config { .. })), "{opened:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_ranges_come_before_the_rest_and_demands_before_both() {
    let dir = tempfile::tempdir().unwrap();
    // A slow L3 with few requests at a time, so that the order shows.
    let mut config = Config::local(dir.path());
    put(&open(config.clone()), "a", "x", &pages(1, 8 << 20)).await;
    config.simulate_latency_ms = 20;
    config.requests = 4;
    let chunks = open(config);
    let image = image(&chunks, "a", "x").await;
    let target = target();
    let fill = Arc::new(image.fill(Arc::clone(&target), &[100..400_000, 1 << 20..(1 << 20) + 1]));
    assert!(!fill.present(0..1));
    fill.first().await.unwrap();
    assert!(fill.present(0..400_000) && fill.present(1 << 20..(1 << 20) + 4096));
    assert!(!fill.present(2 << 20..8 << 20));
    let last = image.len() - 1..image.len();
    fill.demand(last.clone()).await.unwrap();
    assert!(fill.present(last));
    assert!(!fill.is_complete(), "the rest is slower than one demand");
    assert!(fill.present_bytes() < image.len());
    assert!(matches!(
        fill.demand(0..image.len() + 1).await,
        Err(Error::OutOfRange { .. })
    ));
    fill.demand(5..5).await.unwrap();
    fill.all().await.unwrap();
    assert_eq!(fill.present_bytes(), image.len());
    assert_eq!(content(&target, 8 << 20), pages(1, 8 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_without_the_rest_loads_what_is_asked_for_only() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    let pages = pages(1, 4 << 20);
    put(&chunks, "a", "x", &pages).await;
    let image = image(&chunks, "a", "x").await;
    let target = target();
    // A range recorded for a longer image is cut, not refused.
    let first = [0..1, (4 << 20) - 1..9 << 20];
    let plan = chunks::Plan {
        first: &first,
        rest: false,
    };
    let fill = image.fill_with(Arc::clone(&target), plan);
    fill.first().await.unwrap();
    assert_eq!(fill.present_bytes(), 2 * (128 << 10));
    let waiters: Vec<_> = (0..20_u64)
        .map(|at| fill.demand(at * 100_000..at * 100_000 + 1))
        .collect();
    for waiter in waiters {
        waiter.await.unwrap();
    }
    for at in 0..20 {
        assert_eq!(content(&target, 4 << 20)[at * 100_000], pages[at * 100_000]);
    }
    assert!(!fill.is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_fill_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::local(dir.path());
    put(&open(config.clone()), "a", "x", &pages(1, 8 << 20)).await;
    config.simulate_latency_ms = 30;
    config.requests = 2;
    let chunks = open(config);
    let image = image(&chunks, "a", "x").await;
    let fill = image.fill(target(), &[]);
    fill.demand(0..1).await.unwrap();
    drop(fill);
    released(&image).await;
    assert!(chunks.stats().l3.hits < 40, "{:?}", chunks.stats());
}
