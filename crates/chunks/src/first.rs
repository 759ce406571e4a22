//! The pages that a first answer needs, stored once more, together.
//!
//! They lie scattered over a good part of an image's chunks. Beside the chunks, in a few side
//! records, they are read with a few requests, and no more is decoded than is needed. The records
//! say which content they were made from: those of another image under the same name are not used.
//!
//! Within a record the bytes are compressed in blocks, so that they are decoded piece by piece in memory
//! that stays in the processor's cache: what a record holds would otherwise be written to fresh memory
//! once, and copied from there, and fresh memory costs more than decoding into it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::codec::{self, Codec};
use crate::image::StoredImage;
use crate::manifest::Manifest;
use crate::{Error, Result};

/// Records that the pages are spread over, so that they are fetched and decoded side by side.
const PARTS: usize = 4;
/// Most bytes of all of them.
const MOST: u64 = 48 << 20;
const MAX_RANGES: usize = 1 << 16;
/// What a process maps, and whoever serves its page faults: a page of which only a part were there
/// would count as being there. So no record has less than whole pages, whichever records there are.
const PAGE: u64 = 4096;
/// Bytes that are compressed together.
const BLOCK: usize = 128 << 10;
/// Codec, length.
const BLOCK_HEADER: usize = 5;
/// Another number for another form of the records: those of the old form count as none.
const FORM: u8 = 2;
const FINGERPRINT: usize = 32;
/// Fingerprint, number of ranges.
const HEADER: usize = FINGERPRINT + 8;
const RANGE: usize = 16;

impl StoredImage {
    /// Stores the pages of these ranges (in bytes) of the image for [`Self::load_first`]. False if
    /// they are too many to be worth it.
    pub async fn keep_first(&self, ranges: &[Range<u64>]) -> Result<bool> {
        let within = |range: &Range<u64>| range.start < range.end && range.end <= self.len();
        if !ranges.iter().all(within) {
            return Ok(false);
        }
        let ranges = whole_pages(ranges, self.len());
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if total == 0 || total > MOST || ranges.len() > MAX_RANGES {
            return Ok(false);
        }
        let fingerprint = fingerprint(&self.reading.manifest);
        let each = total.div_ceil(PARTS as u64).next_multiple_of(PAGE);
        for (number, ranges) in split(&ranges, each).iter().enumerate() {
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
        let name = name(number);
        let near = self.chunks.side_near(self.account(), self.id(), &name);
        let part = match near {
            Some(part) => part,
            None => match self.side(&name).await? {
                Some(part) => part,
                None => return Ok(None),
            },
        };
        let fingerprint = fingerprint(&self.reading.manifest);
        let Some(part) = decode(&fingerprint, &part, self.len()) else {
            return Ok(None);
        };
        let whole = part.unpack(|content, at| {
            let written = target.write_all_at(content, at);
            written.map_err(Error::io("write pages to", Path::new("memory")))
        })?;
        Ok(whole.then_some(part.ranges))
    }
}

fn name(number: usize) -> String {
    format!("first-{number}")
}

/// Names the content of an image: chunks are called by a keyed hash of theirs.
fn fingerprint(manifest: &Manifest) -> [u8; FINGERPRINT] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[FORM]);
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

/// The pages that the ranges are in, in order, each once.
fn whole_pages(ranges: &[Range<u64>], len: u64) -> Vec<Range<u64>> {
    let mut ranges: Vec<_> = ranges
        .iter()
        .map(|range| range.start / PAGE * PAGE..range.end.next_multiple_of(PAGE).min(len))
        .collect();
    ranges.sort_unstable_by_key(|range| range.start);
    let mut whole: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match whole.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => whole.push(range),
        }
    }
    whole
}

/// Into [`PARTS`] lists of about `each` bytes, a multiple of [`PAGE`].
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
    for block in content.chunks(BLOCK) {
        let (codec, packed) = codec::pack(block);
        part.push(codec as u8);
        // A block's length fits.
        part.extend(
            u32::try_from(packed.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        part.extend(packed);
    }
    part
}

/// What one record holds.
struct Part<'a> {
    /// All within the image.
    ranges: Vec<Range<u64>>,
    /// Their bytes, one range after the other, compressed.
    blocks: &'a [u8],
}

impl Part<'_> {
    /// Hands over the bytes, with the offset at which they belong. False if they are not what the
    /// ranges need.
    fn unpack(&self, mut write: impl FnMut(&[u8], u64) -> Result<()>) -> Result<bool> {
        let mut left: u64 = self
            .ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum();
        let mut ranges = self.ranges.iter().cloned();
        let mut range = 0..0;
        let (mut blocks, mut plain) = (self.blocks, vec![0; BLOCK]);
        while left > 0 {
            let len = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
            let Some(rest) = unpack_block(blocks, &mut plain[..len]) else {
                return Ok(false);
            };
            blocks = rest;
            left -= len as u64;
            let mut content = &plain[..len];
            while !content.is_empty() {
                if range.is_empty() {
                    let Some(next) = ranges.next() else {
                        return Ok(false);
                    };
                    range = next;
                }
                let room = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                let (now, later) = content.split_at(room.min(content.len()));
                write(now, range.start)?;
                range.start += now.len() as u64;
                content = later;
            }
        }
        Ok(blocks.is_empty())
    }
}

/// Fills `plain` from the first block, and returns the others.
fn unpack_block<'a>(blocks: &'a [u8], plain: &mut [u8]) -> Option<&'a [u8]> {
    let (header, rest) = blocks.split_first_chunk::<BLOCK_HEADER>()?;
    let [codec, len @ ..] = *header;
    let len = usize::try_from(u32::from_le_bytes(len)).ok()?;
    let (packed, rest) = rest.split_at_checked(len)?;
    codec::unpack(Codec::from_byte(codec)?, packed, plain).ok()?;
    Some(rest)
}

/// `None` if the part is of another image's content, or none.
fn decode<'a>(fingerprint: &[u8; FINGERPRINT], part: &'a [u8], image_len: u64) -> Option<Part<'a>> {
    let (header, rest) = part.split_at_checked(HEADER)?;
    let (made_from, count) = header.split_at_checked(FINGERPRINT)?;
    let count = usize::try_from(u64::from_le_bytes(count.try_into().ok()?)).ok()?;
    if made_from != fingerprint || count > MAX_RANGES + PARTS {
        return None;
    }
    let (list, blocks) = rest.split_at_checked(count.checked_mul(RANGE)?)?;
    let mut ranges = Vec::with_capacity(count);
    let mut total = 0_u64;
    for entry in list.as_chunks::<RANGE>().0 {
        let (start, len) = entry.split_at(8);
        let start = u64::from_le_bytes(start.try_into().ok()?);
        let len = u64::from_le_bytes(len.try_into().ok()?);
        let end = start.checked_add(len).filter(|end| *end <= image_len)?;
        if start % PAGE != 0 || (end % PAGE != 0 && end != image_len) {
            return None;
        }
        total = total.checked_add(len)?;
        ranges.push(start..end);
    }
    (total <= MOST).then_some(Part { ranges, blocks })
}

/// The fingerprint is taken from the bytes themselves, so that what follows it is reached.
pub(crate) fn fuzz(image_len: u64, bytes: &[u8]) {
    let Some(fingerprint) = bytes.first_chunk() else {
        return;
    };
    if let Some(part) = decode(fingerprint, bytes, image_len) {
        let total: u64 = part
            .ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum();
        let mut written = 0;
        let unpacked = part.unpack(|content, at| {
            let len = content.len() as u64;
            assert!(
                at.saturating_add(len) <= image_len,
                "a range leaves the image"
            );
            written += len;
            Ok(())
        });
        let whole = unpacked.is_ok_and(|whole| whole);
        assert!(written <= total && (!whole || written == total));
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, FINGERPRINT, PAGE, decode, encode, split, whole_pages};

    #[test]
    fn ranges_become_whole_pages() {
        let ranges = [
            5 * PAGE + 1..6 * PAGE + 1,
            1..2,
            4095..4097,
            9 * PAGE..9 * PAGE + 7,
        ];
        let pages = whole_pages(&ranges, 9 * PAGE + 9);
        assert_eq!(
            pages,
            [0..2 * PAGE, 5 * PAGE..7 * PAGE, 9 * PAGE..9 * PAGE + 9]
        );
    }

    #[test]
    fn what_is_split_is_the_same_together() {
        let ranges = [0..PAGE, 3 * PAGE..20 * PAGE, 30 * PAGE..31 * PAGE];
        let parts = split(&ranges, 5 * PAGE);
        assert_eq!(parts.len(), 4);
        let bounds = parts
            .iter()
            .flatten()
            .flat_map(|range| [range.start, range.end]);
        assert!(bounds.into_iter().all(|bound| bound % PAGE == 0));
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
        // Blocks and ranges do not end together.
        let ranges = [0..PAGE, 2 * PAGE..70 * PAGE, 80 * PAGE..81 * PAGE];
        let content: Vec<u8> = (0..70 * PAGE).map(|at| (at % 251) as u8).collect();
        assert!(content.len() > 2 * BLOCK && !content.len().is_multiple_of(BLOCK));
        let mine = [7; FINGERPRINT];
        let part = encode(&mine, &ranges, &content);
        let unpack = |part: &[u8], len| -> Option<Vec<u8>> {
            let part = decode(&mine, part, len)?;
            let mut image = vec![0; usize::try_from(len).unwrap()];
            let whole = part.unpack(|content, at| {
                let at = usize::try_from(at).unwrap();
                image[at..at + content.len()].copy_from_slice(content);
                Ok(())
            });
            whole.unwrap().then_some(image)
        };
        let image = unpack(&part, 81 * PAGE).unwrap();
        let there = |range: &std::ops::Range<u64>| {
            let end = usize::try_from(range.end).unwrap();
            &image[usize::try_from(range.start).unwrap()..end]
        };
        assert_eq!(ranges.each_ref().map(there).concat(), content);
        assert!(decode(&[8; FINGERPRINT], &part, 81 * PAGE).is_none());
        // It would reach beyond the image.
        assert!(decode(&mine, &part, 81 * PAGE - 1).is_none());
        for len in 0..part.len() {
            assert!(unpack(&part[..len], 81 * PAGE).is_none(), "{len}");
        }
        assert!(unpack(&[&part[..], &[0]].concat(), 81 * PAGE).is_none());
    }
}
