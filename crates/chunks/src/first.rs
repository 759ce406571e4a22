//! The pages that a first answer needs, stored once more, together.
//!
//! They lie scattered over a good part of an image's chunks. Beside the chunks, in a few side
//! records, they are read with a few requests, and no more is decoded than is needed. The records
//! say which content they were made from: those of another image under the same name are not used.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::image::StoredImage;
use crate::manifest::Manifest;
use crate::{Error, Result};

/// Records that the pages are spread over, so that they are fetched and decoded side by side.
const PARTS: usize = 4;
/// Most bytes of all of them.
const MOST: u64 = 48 << 20;
const MAX_RANGES: usize = 1 << 16;
const FINGERPRINT: usize = 32;
/// Fingerprint, number of ranges.
const HEADER: usize = FINGERPRINT + 8;
const RANGE: usize = 16;

impl StoredImage {
    /// Stores these ranges (in bytes) of the image for [`Self::load_first`]. False if they are too
    /// many to be worth it.
    pub async fn keep_first(&self, ranges: &[Range<u64>]) -> Result<bool> {
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let within = |range: &Range<u64>| range.start < range.end && range.end <= self.len();
        let possible = ranges.iter().all(within) && ranges.len() <= MAX_RANGES;
        if total == 0 || total > MOST || !possible {
            return Ok(false);
        }
        let fingerprint = fingerprint(&self.reading.manifest);
        for (number, ranges) in split(ranges, total.div_ceil(PARTS as u64))
            .iter()
            .enumerate()
        {
            let content = self.content(ranges).await?;
            let part = encode(&fingerprint, ranges, &content);
            self.put_side(&name(number), &part).await?;
        }
        Ok(true)
    }

    /// From the chunks, which are verified: what else is at hand may be another image's.
    async fn content(&self, ranges: &[Range<u64>]) -> Result<Vec<u8>> {
        let size = u64::from(self.chunk_bytes());
        let mut content = Vec::new();
        let mut last: Option<(u64, Bytes)> = None;
        for range in ranges {
            let mut at = range.start;
            while at < range.end {
                let index = at / size;
                let chunk = match &last {
                    Some((known, chunk)) if *known == index => chunk.clone(),
                    _ => self.read(u32::try_from(index).unwrap_or(u32::MAX)).await?,
                };
                let end = range.end.min((index + 1) * size);
                let within = |at: u64| usize::try_from(at - index * size).unwrap_or(usize::MAX);
                let piece = chunk.get(within(at)..within(end));
                content.extend(piece.unwrap_or_default());
                last = Some((index, chunk));
                at = end;
            }
        }
        Ok(content)
    }

    /// Loads what [`Self::keep_first`] has stored into `target`, and says what that was. `None` if
    /// there is nothing that can be used; the chunks have it all.
    pub async fn load_first(self: &Arc<Self>, target: &Arc<File>) -> Option<Vec<Range<u64>>> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let mut parts = JoinSet::new();
        for number in 0..PARTS {
            let (image, target) = (Arc::clone(self), Arc::clone(target));
            let runtime = runtime.clone();
            parts.spawn_blocking(move || runtime.block_on(image.load_part(number, &target)));
        }
        let mut loaded = Vec::new();
        let mut complete = true;
        while let Some(part) = parts.join_next().await {
            match part {
                Ok(Ok(Some(ranges))) => loaded.extend(ranges),
                Ok(Ok(None)) | Err(_) => complete = false,
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the pages that are needed first are read from their chunks",
                    );
                    complete = false;
                }
            }
        }
        loaded.sort_unstable_by_key(|range: &Range<u64>| range.start);
        complete.then_some(loaded)
    }

    async fn load_part(&self, number: usize, target: &File) -> Result<Option<Vec<Range<u64>>>> {
        let Some(part) = self.side(&name(number)).await? else {
            return Ok(None);
        };
        let fingerprint = fingerprint(&self.reading.manifest);
        let Some((ranges, mut bytes)) = decode(&fingerprint, &part, self.len()) else {
            return Ok(None);
        };
        for range in &ranges {
            let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let Some((content, rest)) = bytes.split_at_checked(len) else {
                return Ok(None);
            };
            bytes = rest;
            let written = target.write_all_at(content, range.start);
            written.map_err(Error::io("write pages to", Path::new("memory")))?;
        }
        Ok(Some(ranges))
    }
}

fn name(number: usize) -> String {
    format!("first-{number}")
}

/// Names the content of an image: chunks are called by a keyed hash of theirs.
fn fingerprint(manifest: &Manifest) -> [u8; FINGERPRINT] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&manifest.len.to_le_bytes());
    hasher.update(&manifest.chunk_bytes.to_le_bytes());
    for chunk in &manifest.chunks {
        match chunk {
            crate::manifest::Chunk::Zero => hasher.update(&[0; 32]),
            crate::manifest::Chunk::Stored { name, .. } => hasher.update(&name.0),
        };
    }
    *hasher.finalize().as_bytes()
}

/// Into [`PARTS`] lists of about `each` bytes.
fn split(ranges: &[Range<u64>], each: u64) -> Vec<Vec<Range<u64>>> {
    let mut parts = vec![Vec::new(); PARTS];
    let (mut number, mut taken) = (0, 0);
    for range in ranges {
        let mut range = range.clone();
        while range.start < range.end {
            if taken >= each && number + 1 < PARTS {
                (number, taken) = (number + 1, 0);
            }
            let room = if number + 1 < PARTS {
                each - taken
            } else {
                u64::MAX
            };
            let end = range.end.min(range.start.saturating_add(room));
            parts[number].push(range.start..end);
            taken += end - range.start;
            range.start = end;
        }
    }
    parts
}

fn encode(fingerprint: &[u8; FINGERPRINT], ranges: &[Range<u64>], content: &[u8]) -> Vec<u8> {
    let mut part = fingerprint.to_vec();
    part.extend((ranges.len() as u64).to_le_bytes());
    for range in ranges {
        part.extend(range.start.to_le_bytes());
        part.extend((range.end - range.start).to_le_bytes());
    }
    part.extend(content);
    part
}

/// The ranges of a part, all within the image, and the bytes that belong there. `None` if the part is
/// of another image's content, or none.
fn decode<'a>(
    fingerprint: &[u8; FINGERPRINT],
    part: &'a [u8],
    image_len: u64,
) -> Option<(Vec<Range<u64>>, &'a [u8])> {
    let (header, rest) = part.split_at_checked(HEADER)?;
    let (made_from, count) = header.split_at_checked(FINGERPRINT)?;
    let count = usize::try_from(u64::from_le_bytes(count.try_into().ok()?)).ok()?;
    if made_from != fingerprint || count > MAX_RANGES + PARTS {
        return None;
    }
    let (list, bytes) = rest.split_at_checked(count.checked_mul(RANGE)?)?;
    let mut ranges = Vec::with_capacity(count);
    let mut total = 0_u64;
    for entry in list.as_chunks::<RANGE>().0 {
        let (start, len) = entry.split_at(8);
        let start = u64::from_le_bytes(start.try_into().ok()?);
        let len = u64::from_le_bytes(len.try_into().ok()?);
        let end = start.checked_add(len).filter(|end| *end <= image_len)?;
        total = total.checked_add(len)?;
        ranges.push(start..end);
    }
    (total == bytes.len() as u64).then_some((ranges, bytes))
}

/// The fingerprint is taken from the bytes themselves, so that what follows it is reached.
pub(crate) fn fuzz(image_len: u64, bytes: &[u8]) {
    let Some(fingerprint) = bytes.first_chunk() else {
        return;
    };
    if let Some((ranges, content)) = decode(fingerprint, bytes, image_len) {
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        assert!(total == content.len() as u64, "ranges and content differ");
        let within = ranges.iter().all(|range| range.end <= image_len);
        assert!(within, "a range leaves the image");
    }
}

#[cfg(test)]
mod tests {
    use super::{FINGERPRINT, decode, encode, split};

    const PAGE: u64 = 4096;

    #[test]
    fn what_is_split_is_the_same_together() {
        let ranges = [0..PAGE, 3 * PAGE..20 * PAGE, 30 * PAGE..31 * PAGE];
        let parts = split(&ranges, 19 * PAGE / 4 + 1);
        assert_eq!(parts.len(), 4);
        assert!(parts.iter().all(|part| !part.is_empty()));
        let covered: u64 = parts
            .iter()
            .flatten()
            .map(|range| range.end - range.start)
            .sum();
        assert_eq!(covered, 19 * PAGE);
        let starts: Vec<u64> = parts.iter().flatten().map(|range| range.start).collect();
        assert!(starts.is_sorted());
    }

    #[test]
    fn only_whole_parts_of_the_same_content_are_read() {
        let content: Vec<u8> = (0..2 * PAGE).map(|at| (at % 251) as u8).collect();
        let mine = [7; FINGERPRINT];
        let part = encode(&mine, &[0..PAGE, 2 * PAGE..3 * PAGE], &content);
        let (ranges, bytes) = decode(&mine, &part, 3 * PAGE).unwrap();
        assert_eq!(ranges, [0..PAGE, 2 * PAGE..3 * PAGE]);
        assert_eq!(bytes, content);
        assert!(decode(&[8; FINGERPRINT], &part, 3 * PAGE).is_none());
        // It would reach beyond the image.
        assert!(decode(&mine, &part, 3 * PAGE - 1).is_none());
        for len in 0..part.len() {
            assert!(decode(&mine, &part[..len], 3 * PAGE).is_none(), "{len}");
        }
    }
}
