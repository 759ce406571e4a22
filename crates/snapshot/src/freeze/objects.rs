//! Shared memory without a name: memfds, deleted files, `MAP_SHARED|MAP_ANONYMOUS`.
//!
//! The same object can be mapped several times and be open, too; it must stay one.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use super::error::{Doing, Result};
use super::pages::{Between, Pages, save};
use super::proc::Vma;
use super::root;
use super::tracee::Tracee;
use crate::{Object, PAGE};

type Identity = ((u32, u32), u64);

struct Found {
    identity: Identity,
    name: Vec<u8>,
    len: u64,
    /// Independent of the process's descriptor.
    file: Option<File>,
    /// Start, end, offset of its mappings.
    mapped: Vec<(u64, u64, u64)>,
}

#[derive(Default)]
pub struct Objects(Vec<Found>);

impl Objects {
    /// Notes a mapping; returns the object's number.
    pub fn add_mapping(&mut self, pid: i32, vma: &Vma) -> u32 {
        let at = self.find((vma.device, vma.inode), &vma.name);
        let found = &mut self.0[at];
        found.mapped.push((vma.start, vma.end, vma.offset));
        found.len = found.len.max(vma.offset + vma.len());
        if found.file.is_none() {
            // Only root may; the content is then read from the mappings.
            let link = format!("/proc/{pid}/map_files/{:x}-{:x}", vma.start, vma.end);
            if let Ok(file) = File::open(link) {
                found.take_file(file);
            }
        }
        number(at)
    }

    /// Notes an open descriptor, of which `copy` is a copy.
    pub fn add_descriptor(&mut self, copy: &OwnedFd, name: &[u8]) -> io::Result<u32> {
        let identity = root::identity(&rustix::fs::fstat(copy)?);
        let at = self.find(identity, name);
        let found = &mut self.0[at];
        if found.file.is_none() {
            // Anew: the copy shares the read position with the process.
            found.take_file(File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?);
        }
        Ok(number(at))
    }

    fn find(&mut self, identity: Identity, name: &[u8]) -> usize {
        let known = self.0.iter().position(|found| found.identity == identity);
        known.unwrap_or_else(|| {
            self.0.push(Found {
                identity,
                name: plain_name(name),
                len: 0,
                file: None,
                mapped: Vec::new(),
            });
            self.0.len() - 1
        })
    }

    /// Writes all of them.
    pub fn save(self, tracee: &Tracee, pages: &mut Pages<'_>) -> Result<Vec<Object>> {
        let save = |found: Found| found.save(tracee, pages);
        self.0.into_iter().map(save).collect()
    }
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Without the decoration of `/proc`, and short enough for `memfd_create`.
fn plain_name(name: &[u8]) -> Vec<u8> {
    let name = root::deleted(name).unwrap_or(name);
    let name = name.strip_prefix(b"/memfd:").unwrap_or(name);
    let mut name = name.to_vec();
    name.truncate(200);
    name
}

impl Found {
    fn take_file(&mut self, file: File) {
        if let Ok(metadata) = file.metadata() {
            self.len = metadata.len();
            self.file = Some(file);
        }
    }

    fn save(mut self, tracee: &Tracee, pages: &mut Pages<'_>) -> Result<Object> {
        let doing = || format!("read shared memory {}", root::show(&self.name));
        let segments = if let Some(file) = &self.file {
            let runs = data(file, self.len).doing(doing)?;
            let read = |at, bytes: &mut [u8]| read_padded(file, at, bytes);
            save(pages, &read, &runs, Between::Zeroes)?
        } else {
            self.mapped.sort_by_key(|(_, _, offset)| *offset);
            let runs = merged(&self.mapped);
            let read = |at, bytes: &mut [u8]| self.read_mapped(tracee, at, bytes);
            save(pages, &read, &runs, Between::Zeroes)?
        };
        Ok(Object {
            name: self.name,
            len: self.len,
            segments,
        })
    }

    fn read_mapped(&self, tracee: &Tracee, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
        for (index, part) in bytes.chunks_mut(page).enumerate() {
            let at = at + (index * page) as u64;
            let inside = |(start, end, offset): &&(u64, u64, u64)| {
                (*offset..offset + (end - start)).contains(&at)
            };
            let Some((start, _, offset)) = self.mapped.iter().find(inside) else {
                part.fill(0);
                continue;
            };
            read_memory(&tracee.memory, start + (at - offset), part)?;
        }
        Ok(())
    }
}

/// Reads memory of the process; what lies beyond the end of a mapped file is zero.
pub fn read_memory(memory: &File, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    match memory.read_exact_at(bytes, at) {
        Err(err) if is_beyond(&err) => {}
        result => return result,
    }
    let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
    for (index, part) in bytes.chunks_mut(page).enumerate() {
        match memory.read_exact_at(part, at + (index * page) as u64) {
            Err(err) if is_beyond(&err) => part.fill(0),
            result => result?,
        }
    }
    Ok(())
}

fn is_beyond(err: &io::Error) -> bool {
    err.raw_os_error() == Some(libc::EIO) || err.kind() == io::ErrorKind::UnexpectedEof
}

fn merged(mapped: &[(u64, u64, u64)]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (start, end, offset) in mapped {
        let behind = offset + (end - start);
        match runs.last_mut() {
            Some((_, last)) if *last >= *offset => *last = behind.max(*last),
            _ => runs.push((*offset, behind)),
        }
    }
    runs
}

/// Runs of whole pages that hold data.
fn data(file: &File, len: u64) -> io::Result<Vec<(u64, u64)>> {
    use rustix::fs::SeekFrom;
    let mut runs = Vec::new();
    let mut at = 0;
    while at < len {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(rustix::io::Errno::NXIO) => break,
            start => start?,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        let run = (start / PAGE * PAGE, end.next_multiple_of(PAGE));
        match runs.last_mut() {
            Some((_, last)) if *last >= run.0 => *last = run.1,
            _ => runs.push(run),
        }
        at = end;
    }
    Ok(runs)
}

/// Reads whole pages; behind the end of the file there are zeroes.
pub fn read_padded(file: &File, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], at + done as u64) {
            Ok(0) => {
                bytes[done..].fill(0);
                break;
            }
            Ok(count) => done += count,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}
