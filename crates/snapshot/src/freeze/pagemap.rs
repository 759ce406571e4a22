//! Which pages of a process exist.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use super::sys::{self, Region, Scan, page};
use crate::PAGE;

/// Reads the page tables of a process.
pub struct Pagemap {
    file: File,
    /// `PAGEMAP_SCAN` exists, from Linux 6.7.
    scans: bool,
}

/// Kinds of pages to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// Private to the process: written by it, in memory or swapped out.
    Private,
    /// Anything mapped, also pages of files.
    Present,
    /// Guard regions (`MADV_GUARD_INSTALL`).
    Guard,
}

impl Pagemap {
    pub fn open(pid: i32) -> io::Result<Self> {
        let file = File::open(format!("/proc/{pid}/pagemap"))?;
        let mut regions = [Region::default()];
        let scan = Pick::Private.scan(0, PAGE);
        let scans = sys::pagemap_scan(file.as_fd(), scan, &mut regions).is_ok();
        Ok(Self { file, scans })
    }

    /// Runs (start, end) of such pages between two addresses, ascending, apart from each other.
    pub fn runs(&self, pick: Pick, start: u64, end: u64) -> io::Result<Vec<(u64, u64)>> {
        let mut runs = Vec::new();
        if self.scans {
            self.scan(pick, start, end, &mut runs)?;
        } else {
            self.read(pick, start, end, &mut runs)?;
        }
        Ok(runs)
    }

    fn scan(&self, pick: Pick, start: u64, end: u64, runs: &mut Vec<(u64, u64)>) -> io::Result<()> {
        let mut regions = vec![Region::default(); 512];
        let mut at = start;
        while at < end {
            let scan = pick.scan(at, end);
            let (count, next) = match sys::pagemap_scan(self.file.as_fd(), scan, &mut regions) {
                // Kernels before 6.16 do not know guard regions there.
                Err(err) if pick == Pick::Guard && err.raw_os_error() == Some(libc::EINVAL) => {
                    return Ok(());
                }
                result => result?,
            };
            for region in regions.iter().take(count) {
                push(runs, region.start, region.end);
            }
            if next <= at {
                return Err(io::Error::other("the page table scan does not move on"));
            }
            at = next;
        }
        Ok(())
    }

    fn read(&self, pick: Pick, start: u64, end: u64, runs: &mut Vec<(u64, u64)>) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let mut at = start;
        while at < end {
            let pages = usize::try_from((end - at) / PAGE).unwrap_or(usize::MAX);
            let len = pages.saturating_mul(8).min(buffer.len());
            let entries = &mut buffer[..len];
            self.file.read_exact_at(entries, at / PAGE * 8)?;
            for entry in entries.as_chunks::<8>().0 {
                if pick.matches(u64::from_ne_bytes(*entry)) {
                    push(runs, at, at + PAGE);
                }
                at += PAGE;
            }
        }
        Ok(())
    }
}

impl Pick {
    fn scan(self, start: u64, end: u64) -> Scan {
        let (inverted, all_of, any_of) = match self {
            Self::Private => {
                let not = page::FILE | page::ZERO;
                (not, not, page::PRESENT | page::SWAPPED)
            }
            Self::Present => (page::ZERO, page::ZERO, page::PRESENT | page::SWAPPED),
            Self::Guard => (0, page::GUARD, 0),
        };
        Scan {
            start,
            end,
            inverted,
            all_of,
            any_of,
            report: all_of & !inverted | any_of,
        }
    }

    /// On an entry of the pagemap file. It does not tell the shared page of zeroes from others.
    fn matches(self, entry: u64) -> bool {
        let bit = |at: u32| entry & (1 << at) != 0;
        let exists = bit(63) || bit(62);
        match self {
            Self::Private => exists && !bit(61),
            Self::Present => exists,
            Self::Guard => bit(58),
        }
    }
}

fn push(runs: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    match runs.last_mut() {
        Some((_, last)) if *last == start => *last = end,
        _ => runs.push((start, end)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Pagemap, Pick};
    use crate::PAGE;

    #[test]
    fn both_ways_of_reading_agree() {
        let page = usize::try_from(PAGE).unwrap();
        let mut memory = vec![0_u8; 64 * page];
        for at in [3, 4, 9, 40] {
            memory[at * page] = 1;
        }
        let start = (memory.as_ptr() as u64).next_multiple_of(PAGE);
        let end = start + 60 * PAGE;
        let pid = std::process::id().cast_signed();
        let map = Pagemap::open(pid).unwrap();
        let runs = map.runs(Pick::Private, start, end).unwrap();
        assert!(!runs.is_empty());
        let old = Pagemap {
            file: std::fs::File::open("/proc/self/pagemap").unwrap(),
            scans: false,
        };
        assert_eq!(old.runs(Pick::Private, start, end).unwrap(), runs);
        assert_eq!(map.runs(Pick::Guard, start, end).unwrap(), []);
    }
}
