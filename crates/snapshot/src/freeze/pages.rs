//! The page file while it is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::error::{Doing, Result};
use crate::{PAGE, Segment};

const BUFFER: usize = 1 << 20;
/// Pages between two runs that are written along, because a segment less saves a mapping in every
/// clone.
const GAP: u64 = 16 * PAGE;
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const PAGE_BYTES: usize = PAGE as usize;

/// Appends whole pages.
pub struct Pages<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    written: u64,
}

impl<'a> Pages<'a> {
    pub fn new(file: &'a File) -> Self {
        Self {
            file,
            buffer: Vec::with_capacity(BUFFER),
            written: 0,
        }
    }

    pub fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// `bytes` is a number of whole pages.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        debug_assert_eq!(bytes.len() % PAGE_BYTES, 0, "whole pages only");
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER {
            return self.write(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.write(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(bytes, self.written);
        written.doing(|| "write the page file".into())?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Ends the file; returns its length.
    pub fn finish(mut self) -> Result<u64> {
        self.flush()?;
        let set = self.file.set_len(self.written);
        set.doing(|| "cut the page file".into())?;
        Ok(self.written)
    }
}

/// Reads whole pages at an address.
pub trait Source {
    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()>;
}

impl<F: Fn(u64, &mut [u8]) -> io::Result<()>> Source for F {
    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self(at, bytes)
    }
}

/// What lies between the runs of pages that are given to [`save`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Zeroes. Pages of zeroes within the runs are left out, too.
    Zeroes,
    /// The content of a file, which can be read like the runs.
    File,
}

/// Writes the `runs` (start, end), which are ascending, and returns where everything lies.
pub fn save(
    pages: &mut Pages<'_>,
    source: &impl Source,
    runs: &[(u64, u64)],
    between: Between,
) -> Result<Vec<Segment>> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    for (start, end) in runs {
        let mut at = *start;
        while at < *end {
            let len = usize::try_from(end - at).map_or(BUFFER, |len| len.min(BUFFER));
            let chunk = &mut buffer[..len];
            let read = source.read(at, chunk);
            read.doing(|| format!("read memory at {at:x}"))?;
            for (index, page) in chunk.chunks(PAGE_BYTES).enumerate() {
                if between == Between::Zeroes && is_zero(page) {
                    continue;
                }
                let address = at + (index * PAGE_BYTES) as u64;
                add_page(pages, source, &mut segments, between, address, page)?;
            }
            at += len as u64;
        }
    }
    Ok(segments)
}

fn add_page(
    pages: &mut Pages<'_>,
    source: &impl Source,
    segments: &mut Vec<Segment>,
    between: Between,
    address: u64,
    page: &[u8],
) -> Result<()> {
    if let Some(last) = segments.last_mut() {
        let gap_at = last.start + last.len;
        let gap = address - gap_at;
        if gap <= GAP {
            let mut filler = vec![0; usize::try_from(gap).unwrap_or(0)];
            if between == Between::File && gap > 0 {
                let read = source.read(gap_at, &mut filler);
                read.doing(|| format!("read memory at {gap_at:x}"))?;
            }
            pages.append(&filler)?;
            pages.append(page)?;
            last.len += gap + PAGE;
            return Ok(());
        }
    }
    let offset = pages.position();
    pages.append(page)?;
    segments.push(Segment {
        start: address,
        len: PAGE,
        offset,
    });
    Ok(())
}

fn is_zero(page: &[u8]) -> bool {
    let (words, rest) = page.as_chunks::<64>();
    rest.iter().all(|b| *b == 0) && words.iter().all(|word| *word == [0; 64])
}

#[cfg(test)]
mod tests {
    use super::{Between, PAGE_BYTES, Pages, save};
    use crate::PAGE;
    use std::io;
    use std::os::unix::fs::FileExt;

    /// Page `n` is full of `n`, every fifth one of zeroes.
    fn memory(at: u64, bytes: &mut [u8]) -> io::Result<()> {
        for (index, page) in bytes.chunks_mut(PAGE_BYTES).enumerate() {
            let number = at / PAGE + index as u64;
            page.fill(if number.is_multiple_of(5) {
                0
            } else {
                u8::try_from(number % 251).unwrap()
            });
        }
        Ok(())
    }

    fn check(runs: &[(u64, u64)], between: Between) -> Vec<crate::Segment> {
        let file = tempfile::tempfile().unwrap();
        let mut pages = Pages::new(&file);
        let segments = save(&mut pages, &memory, runs, between).unwrap();
        let len = pages.finish().unwrap();
        assert_eq!(len, segments.iter().map(|segment| segment.len).sum::<u64>());
        for segment in &segments {
            let mut expected = vec![0; usize::try_from(segment.len).unwrap()];
            memory(segment.start, &mut expected).unwrap();
            let mut got = expected.clone();
            file.read_exact_at(&mut got, segment.offset).unwrap();
            if between == Between::File {
                assert!(got == expected);
            }
            for page in runs
                .iter()
                .flat_map(|(start, end)| (*start..*end).step_by(PAGE_BYTES))
            {
                if (segment.start..segment.start + segment.len).contains(&page) {
                    let at = usize::try_from(page - segment.start).unwrap();
                    assert_eq!(got[at..at + PAGE_BYTES], expected[at..at + PAGE_BYTES]);
                }
            }
        }
        segments
    }

    #[test]
    fn near_runs_become_one_segment_and_far_ones_do_not() {
        let runs = [(0x1000, 0x3000), (0x9000, 0xa000), (0x80000, 0x81000)];
        let segments = check(&runs, Between::File);
        let ranges: Vec<_> = segments.iter().map(|s| (s.start, s.len)).collect();
        assert_eq!(ranges, [(0x1000, 0x9000), (0x80000, 0x1000)]);
    }

    #[test]
    fn pages_of_zeroes_are_left_out() {
        assert_eq!(check(&[(0x5000, 0x6000)], Between::Zeroes), []);
        assert_eq!(check(&[(0x5000, 0x6000)], Between::File).len(), 1);
        let segments = check(&[(0x5000, 0x7000)], Between::Zeroes);
        assert_eq!((segments[0].start, segments[0].len), (0x6000, 0x1000));
    }

    #[test]
    fn large_memory_is_written_in_parts() {
        let segments = check(&[(0x1000, 0x60_1000)], Between::Zeroes);
        assert_eq!((segments[0].start, segments[0].len), (0x1000, 0x60_0000));
    }
}
