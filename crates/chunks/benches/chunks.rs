//! What chunks cost: `cargo bench -p chunks [-- FILE]`.
//!
//! FILE holds pages of a process (any memory dump); without it the pages are made up. The first
//! table is the choice of chunk size and codec (`--features compare-zstd` adds zstd); the second is
//! a restore's working set of 8 MiB, scattered over an image, until `Fill::first` returns.
#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chunks::measuring::Sealer;
use chunks::{Account, Chunks, Config, ImageId, Key};
use clock::Clock;

const WORKING_SET: u64 = 8 << 20;

fn main() -> anyhow::Result<()> {
    let file = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let pages = match file {
        Some(file) => std::fs::read(file)?,
        None => made_up(64 << 20),
    };
    let len = pages.len().min(64 << 20) / 4096 * 4096;
    let pages = &pages[..len];
    anyhow::ensure!(
        len as u64 > WORKING_SET,
        "a file of more than 8 MiB is needed"
    );
    println!("{} MiB of pages\n", len >> 20);
    codecs(pages);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(restores(pages))
}

fn codecs(pages: &[u8]) {
    println!(
        "chunk KiB  codec     ratio   encode MB/s   decode MB/s   (seal and open: hash, codec, AES-256-GCM)"
    );
    for chunk in [64 << 10, 128 << 10, 256 << 10] {
        let plain: Vec<_> = pages.chunks(chunk).collect();
        let sealer = Sealer::new();
        let sealed: Vec<_> = plain.iter().map(|plain| sealer.seal(plain)).collect();
        let ratio = ratio(sealed.iter().map(|(_, sealed)| sealed.len()), pages.len());
        let encode = rate(pages.len(), || {
            for plain in &plain {
                std::hint::black_box(sealer.seal(plain));
            }
        });
        let mut stored = Vec::new();
        let mut out = vec![0; chunk];
        let decode = rate(pages.len(), || {
            for ((name, sealed), plain) in sealed.iter().zip(&plain) {
                stored.clear();
                stored.extend_from_slice(sealed);
                assert!(sealer.open(name, &mut stored, &mut out[..plain.len()]));
            }
        });
        println!(
            "{:9}  sealed   {ratio:6.3}   {encode:11.0}   {decode:11.0}",
            chunk >> 10
        );
        alone(
            "lz4",
            chunk,
            &plain,
            lz4_flex::block::compress,
            |packed, out| {
                let _ = std::hint::black_box(lz4_flex::block::decompress_into(packed, out));
            },
        );
        #[cfg(feature = "compare-zstd")]
        for level in [-1, 1, 3] {
            let mut compressor = zstd::bulk::Compressor::new(level).expect("a level");
            let mut decompressor = zstd::bulk::Decompressor::new().expect("a context");
            alone(
                &format!("zstd {level}"),
                chunk,
                &plain,
                |plain| compressor.compress(plain).expect("it compresses"),
                |packed, out| {
                    let _ = std::hint::black_box(decompressor.decompress_to_buffer(packed, out));
                },
            );
        }
    }
}

fn alone(
    name: &str,
    chunk: usize,
    plain: &[&[u8]],
    mut pack: impl FnMut(&[u8]) -> Vec<u8>,
    mut unpack: impl FnMut(&[u8], &mut [u8]),
) {
    let len = plain.iter().map(|plain| plain.len()).sum();
    let packed: Vec<_> = plain.iter().map(|plain| pack(plain)).collect();
    let encode = rate(len, || {
        for plain in plain {
            std::hint::black_box(pack(plain));
        }
    });
    let mut out = vec![0; chunk];
    let decode = rate(len, || {
        for packed in &packed {
            unpack(packed, &mut out);
        }
    });
    let ratio = ratio(packed.iter().map(Vec::len), len);
    println!(
        "{:9}  {name:8} {ratio:6.3}   {encode:11.0}   {decode:11.0}",
        chunk >> 10
    );
}

async fn restores(pages: &[u8]) -> anyhow::Result<()> {
    println!("\nchunk KiB  put ms   working set of 8 MiB, ms: median (min-max) of 15");
    println!(
        "                    1 task, hot           4 tasks, hot          4 tasks, cold         L3 at 5 ms"
    );
    for chunk_bytes in [64 << 10, 128 << 10, 256 << 10] {
        let dir = tempfile::tempdir()?;
        let config = |read_parallelism, simulate_latency_ms, cache: &str| Config {
            dir: dir.path().join(cache),
            chunk_bytes,
            read_parallelism,
            simulate_latency_ms,
            ..Config::local(dir.path())
        };
        let (account, id) = (Account::new("bench")?, ImageId::new("image")?);
        let pages_file = tempfile::tempfile()?;
        pages_file.write_all_at(pages, 0)?;
        let started = Instant::now();
        let store = open(config(1, 0, "l1"))?;
        store
            .put(
                &account,
                &id,
                vec![1; 100_000],
                pages_file,
                pages.len() as u64,
            )
            .await?;
        let put = started.elapsed();
        drop(store);

        let mut row = format!("{:9}  {:6.0}", chunk_bytes >> 10, put.as_secs_f64() * 1e3);
        for (tasks, cold, latency) in [(1, false, 0), (4, false, 0), (4, true, 0), (4, false, 5)] {
            let mut took = Vec::new();
            let mut cpu = Duration::ZERO;
            for run in 0..15 {
                if cold {
                    evict(&dir.path().join("store"))?;
                }
                let store = open(config(tasks, latency, &format!("l1-{latency}-{run}")))?;
                let (elapsed, used) = restore(&store, &account, &id, pages).await?;
                took.push(elapsed);
                cpu += used / 15;
            }
            took.sort();
            let ms = |at: usize| took[at].as_secs_f64() * 1e3;
            let cpu = cpu.as_secs_f64() * 1e3;
            row += &format!("   {:6.1} ({:5.1}-{:5.1}) {cpu:4.0}", ms(7), ms(0), ms(14));
        }
        println!("{row}");
    }
    Ok(())
}

fn open(config: Config) -> anyhow::Result<Chunks> {
    Ok(Chunks::open(
        config,
        Key::from_bytes([1; 32]),
        Clock::system(),
    )?)
}

/// From a store that knows nothing of the image to its working set in memory.
async fn restore(
    store: &Chunks,
    account: &Account,
    id: &ImageId,
    pages: &[u8],
) -> anyhow::Result<(Duration, Duration)> {
    // A memfd in real life; the page cache all the same.
    let target = Arc::new(
        File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open("/dev/shm/firn-bench-chunks")?,
    );
    std::fs::remove_file("/dev/shm/firn-bench-chunks")?;
    target.set_len(pages.len() as u64)?;
    // 32 pieces of 256 KiB, all over the image.
    let piece = 256 << 10;
    let step = pages.len() as u64 / (WORKING_SET / piece) / piece * piece;
    let first: Vec<_> = (0..WORKING_SET / piece)
        .map(|i| i * step..i * step + piece)
        .collect();

    let (started, before) = (Instant::now(), cpu()?);
    let image = store.image(account, id).await?.expect("it was put");
    let fill = image.fill_with(
        Arc::clone(&target),
        chunks::Plan {
            first: &first,
            rest: false,
        },
    );
    fill.first().await?;
    let took = (started.elapsed(), cpu()?.saturating_sub(before));
    let mut read = vec![0; usize::try_from(piece)?];
    for range in first {
        target.read_exact_at(&mut read, range.start)?;
        anyhow::ensure!(read == pages[usize::try_from(range.start)?..usize::try_from(range.end)?]);
    }
    Ok(took)
}

/// What all threads of this process have used. Unlike the time, it hardly depends on what else the
/// machine does.
fn cpu() -> anyhow::Result<Duration> {
    let mut sum = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

/// Takes the files out of the page cache.
fn evict(dir: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            evict(&path)?;
        } else {
            let file = File::open(&path)?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

fn ratio(stored: impl Iterator<Item = usize>, plain: usize) -> f64 {
    stored.sum::<usize>() as f64 / plain as f64
}

/// MB/s of the best of several runs.
fn rate(bytes: usize, mut run: impl FnMut()) -> f64 {
    let started = Instant::now();
    let mut best = Duration::MAX;
    while started.elapsed() < Duration::from_millis(600) {
        let started = Instant::now();
        run();
        best = best.min(started.elapsed());
    }
    bytes as f64 / best.as_secs_f64() / 1e6
}

fn made_up(len: usize) -> Vec<u8> {
    let mut pages = Vec::with_capacity(len + 4096);
    let mut state = 1_u64;
    while pages.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Pointers that share their upper half, small numbers, text.
        match state >> 61 {
            0..=3 => pages.extend((0..512).flat_map(|i: u64| {
                (0x7f3a_0000_0000 + ((state >> 40) ^ (i * 2_654_435_761 % (1 << 20))) * 16)
                    .to_le_bytes()
            })),
            4..=5 => {
                pages.extend((0..512).flat_map(|i: u64| (i % 7 * (state >> 60)).to_le_bytes()))
            }
            _ => {
                let word = format!("module.function_{:x} ", state >> 50);
                pages.extend(word.bytes().cycle().take(4096));
            }
        }
    }
    pages.truncate(len);
    pages
}
