//! Pages that are kept together because they are needed first.

mod kit;

use std::os::unix::fs::FileExt;
use std::slice::from_ref;
use std::sync::Arc;

use chunks::Config;
use kit::*;

const LEN: usize = 3_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn they_come_back_after_a_restart_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    let pages = pages(1, LEN);
    put(&chunks, "a", "one", &pages).await;
    let ranges = [
        0..4096,
        8192..140_000,
        1_000_000..1_000_001,
        2_990_000..LEN as u64,
    ];
    let kept = image(&chunks, "a", "one").await;
    assert!(kept.load_first(&Arc::new(file(&[]))).await.is_none());
    assert!(kept.keep_first(&ranges).await.unwrap());
    drop((kept, chunks));

    let chunks = open(Config::local(dir.path()));
    let target = Arc::new(file(&vec![0; LEN]));
    let loaded = image(&chunks, "a", "one")
        .await
        .load_first(&target)
        .await
        .unwrap();
    let mut expected = vec![0; LEN];
    for range in &ranges {
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        // The pages that they are in.
        let range = range.start / 4096 * 4096..range.end.next_multiple_of(4096).min(LEN);
        expected[range.clone()].copy_from_slice(&pages[range]);
    }
    let mut found = vec![0; LEN];
    target.read_exact_at(&mut found, 0).unwrap();
    assert!(found == expected, "what was loaded is not what was kept");
    for range in &ranges {
        let covered: u64 = loaded
            .iter()
            .map(|part| {
                part.end
                    .min(range.end)
                    .saturating_sub(part.start.max(range.start))
            })
            .sum();
        assert_eq!(covered, range.end - range.start);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_of_another_content_are_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    put(&chunks, "a", "one", &pages(1, LEN)).await;
    let old = image(&chunks, "a", "one").await;
    put(&chunks, "a", "one", &pages(2, LEN)).await;
    // Too late: the image is another one by now.
    assert!(old.keep_first(from_ref(&(0..8192))).await.unwrap());
    drop(old);
    let new = image(&chunks, "a", "one").await;
    assert!(
        new.load_first(&Arc::new(file(&vec![0; LEN])))
            .await
            .is_none()
    );
    assert_eq!(filled(&new).await, pages(2, LEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_or_too_much_is_left_to_the_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    put(&chunks, "a", "one", &pages(1, LEN)).await;
    let one = image(&chunks, "a", "one").await;
    assert!(!one.keep_first(&[]).await.unwrap());
    assert!(
        !one.keep_first(from_ref(&(0..LEN as u64 + 1)))
            .await
            .unwrap()
    );
    assert!(one.keep_first(from_ref(&(0..100_000))).await.unwrap());
    let part = files(dir.path())
        .into_iter()
        .find(|path| path.ends_with("side/first-2"))
        .unwrap();
    let part = dir.path().join(part);
    let mut bytes = std::fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    assert!(
        one.load_first(&Arc::new(file(&vec![0; LEN])))
            .await
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn page_is_never_there_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = open(Config::local(dir.path()));
    let pages: Vec<u8> = pages(1, LEN).iter().map(|byte| byte | 1).collect();
    put(&chunks, "a", "one", &pages).await;
    let one = image(&chunks, "a", "one").await;
    let of_parts = || {
        let parts = files(dir.path()).into_iter();
        let parts = parts.filter(|path| path.to_string_lossy().contains("side/first-"));
        let mut parts: Vec<_> = parts.map(|path| dir.path().join(path)).collect();
        parts.sort();
        let bytes = parts.iter().map(|path| std::fs::read(path).unwrap());
        parts.iter().cloned().zip(bytes).collect::<Vec<_>>()
    };
    // Kept twice, and read while the second half of the records has not been written yet.
    assert!(one.keep_first(&[0..50_000, 90_000..210_001]).await.unwrap());
    let earlier = of_parts();
    assert!(one.keep_first(&[0..70_000, 90_000..330_007]).await.unwrap());
    for (path, bytes) in earlier.iter().skip(2) {
        std::fs::write(path, bytes).unwrap();
    }
    drop((one, chunks));
    let chunks = open(Config::local(dir.path()));
    let target = Arc::new(file(&vec![0; LEN]));
    let one = image(&chunks, "a", "one").await;
    let loaded = one.load_first(&target).await.unwrap();
    assert!(!loaded.is_empty());
    let mut found = vec![0; LEN];
    target.read_exact_at(&mut found, 0).unwrap();
    // No byte of the image is zero.
    for (at, page) in found.chunks(4096).enumerate() {
        let absent = page.iter().all(|byte| *byte == 0);
        assert!(
            absent || page == &pages[at * 4096..][..page.len()],
            "page {at}"
        );
        let within = |range: &std::ops::Range<u64>| range.contains(&(at as u64 * 4096));
        assert_eq!(!absent, loaded.iter().any(within), "page {at}");
    }
}
