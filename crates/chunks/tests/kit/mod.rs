//! What the tests of the store share.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chunks::{Account, Chunks, Config, Error, ImageId, Key, Stored, StoredImage};
use clock::Clock;

pub fn key() -> Key {
    Key::from_bytes([7; 32])
}

pub fn open(config: Config) -> Chunks {
    Chunks::open(config, key(), Clock::system()).unwrap()
}

pub fn account(name: &str) -> Account {
    Account::new(name).unwrap()
}

pub fn id(name: &str) -> ImageId {
    ImageId::new(name).unwrap()
}

/// Bytes that look like memory: zeros, text, repetition, some noise. Equal for equal seeds.
pub fn pages(seed: u64, len: usize) -> Vec<u8> {
    let mut pages = Vec::with_capacity(len + 4096);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while pages.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match pages.len() / 4096 {
            // Whole chunks of zeros, now and then.
            page if (page / 64) % 5 == 3 => pages.extend([0; 4096]),
            page if page % 3 == 0 => {
                pages.extend((0..512).flat_map(|i: u64| (state ^ i).to_le_bytes()));
            }
            _ => {
                let word = format!("object {state:x} at {} ", pages.len());
                pages.extend(word.bytes().cycle().take(4096));
            }
        }
    }
    pages.truncate(len);
    pages
}

pub fn file(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// Where an image is filled into; full of something else at first.
pub fn target() -> Arc<File> {
    Arc::new(file(&vec![0xAA; 8 << 20]))
}

pub fn content(target: &File, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    target.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

pub async fn put(chunks: &Chunks, account_name: &str, name: &str, pages: &[u8]) -> Stored {
    let meta = format!("meta of {name}").into_bytes();
    chunks
        .put(
            &account(account_name),
            &id(name),
            meta,
            file(pages),
            pages.len() as u64,
        )
        .await
        .unwrap()
}

pub async fn image(chunks: &Chunks, account_name: &str, name: &str) -> Arc<StoredImage> {
    chunks
        .image(&account(account_name), &id(name))
        .await
        .unwrap()
        .expect("there is such an image")
}

pub async fn read_all(image: &StoredImage) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for index in 0..image.chunk_count() {
        bytes.extend_from_slice(&image.read(index).await?);
    }
    Ok(bytes)
}

/// All files below a directory, relative to it.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&at) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

pub async fn filled(image: &Arc<StoredImage>) -> Vec<u8> {
    let target = target();
    let fill = image.fill(Arc::clone(&target), &[]);
    fill.all().await.unwrap();
    assert!(fill.is_complete());
    content(&target, usize::try_from(image.len()).unwrap())
}

/// Waits until the caller alone holds the image: whoever loaded it for a fill that was dropped
/// stops after the chunk at hand.
pub async fn released(image: &Arc<StoredImage>) {
    for _ in 0..1000 {
        if Arc::strong_count(image) == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("somebody still holds the image");
}

/// Waits for something that happens in the background.
pub async fn wait_for(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never came true");
}
