//! Mappings, the kernel's record of the layout, and pages made ready.

use std::collections::BTreeMap;

use super::objects::number;
use super::writer::Expect;
use super::{Compiler, Memory, TapeError};
use crate::{Backing, Mapping, PAGE, Segment, WorkingSet, slot};

/// Files open at a time.
const BATCH: usize = 512;
/// Vectors in one call.
const VECTORS: usize = 1024;
/// Bytes in one read.
const READ_MAX: u64 = 1 << 30;

const PROT_WRITE: u64 = 2;

/// A piece of a mapping that is to be read into place.
struct Read {
    address: u64,
    len: u64,
    offset: u64,
}

/// Where one piece of a mapping comes from.
#[derive(Clone, Copy)]
struct Source {
    flags: i32,
    fd: u64,
    offset: u64,
}

const NO_FD: u64 = u64::MAX;

impl Compiler<'_> {
    pub(super) fn map_memory(&mut self) -> Result<(), TapeError> {
        let mut reads = Vec::new();
        let mut registered = Vec::new();
        self.map_files(&mut reads, &mut registered)?;
        let image = self.image;
        self.tape.about("map memory");
        for mapping in &image.mappings {
            match mapping.backing {
                Backing::Anonymous => {
                    let mut flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                    if mapping.advice.grows_down {
                        flags |= libc::MAP_GROWSDOWN;
                    }
                    let source = Source {
                        flags,
                        fd: NO_FD,
                        offset: 0,
                    };
                    self.map(mapping, source, &mut reads, &mut registered);
                }
                Backing::Object { object, offset } => {
                    let source = Source {
                        flags: libc::MAP_SHARED,
                        fd: number(self.object(object)?),
                        offset,
                    };
                    self.map(mapping, source, &mut reads, &mut registered);
                }
                Backing::Private { .. } | Backing::Shared { .. } => {}
            }
        }
        self.register(&registered)?;
        self.read(reads);
        for mapping in &image.mappings {
            self.finish_mapping(mapping);
        }
        Ok(())
    }

    /// Each file is opened once, and all its mappings are made.
    fn map_files(
        &mut self,
        reads: &mut Vec<Read>,
        registered: &mut Vec<(u64, u64)>,
    ) -> Result<(), TapeError> {
        let mut files: BTreeMap<u32, Vec<(&Mapping, i32, u64)>> = BTreeMap::new();
        for mapping in &self.image.mappings {
            let (file, flags, offset) = match mapping.backing {
                Backing::Private { file, offset } => (file, libc::MAP_PRIVATE, offset),
                Backing::Shared { file, offset } => (file, libc::MAP_SHARED, offset),
                Backing::Anonymous | Backing::Object { .. } => continue,
            };
            files
                .entry(file)
                .or_default()
                .push((mapping, flags, offset));
        }
        let mut open = Vec::new();
        for (file, mappings) in files {
            let file = usize::try_from(file)
                .ok()
                .and_then(|file| self.image.files.get(file));
            let file = file.ok_or(TapeError::Image("file index"))?;
            let path = &file.path;
            self.tape
                .about(&format!("map {}", String::from_utf8_lossy(path)));
            let access = if file.writable {
                libc::O_RDWR
            } else {
                libc::O_RDONLY
            };
            let fd = self.open_path(path, access | libc::O_CLOEXEC)?;
            open.push(fd);
            for (mapping, flags, offset) in mappings {
                let source = Source {
                    flags,
                    fd: number(fd),
                    offset,
                };
                self.map(mapping, source, reads, registered);
            }
            if open.len() == BATCH {
                self.close_batch(&mut open);
            }
        }
        self.close_batch(&mut open);
        Ok(())
    }

    pub(super) fn open_path(&mut self, path: &[u8], flags: i32) -> Result<i32, TapeError> {
        let fd = self.table.open()?;
        let path = self.tape.text(path);
        let here = i64::from(libc::AT_FDCWD).cast_unsigned();
        let args = [here, path, u64::from(flags.cast_unsigned()), 0];
        self.tape
            .call(libc::SYS_openat, &args, Expect::Is(number(fd)));
        Ok(fd)
    }

    /// Nothing else is open below the thaw's own descriptors at this time.
    fn close_batch(&mut self, open: &mut Vec<i32>) {
        if let (Some(first), Some(last)) = (open.first(), open.last()) {
            let args = [number(*first), number(*last), 0];
            self.tape.call(libc::SYS_close_range, &args, Expect::Is(0));
        }
        for fd in open.drain(..) {
            self.table.close(fd);
        }
    }

    /// One mapping, in as many pieces as it has sources.
    fn map(
        &mut self,
        mapping: &Mapping,
        source: Source,
        reads: &mut Vec<Read>,
        registered: &mut Vec<(u64, u64)>,
    ) {
        if mapping.segments.is_empty() || self.must_read(mapping) {
            let write = if mapping.segments.is_empty() {
                0
            } else {
                PROT_WRITE
            };
            let protection = u64::from(mapping.protection) | write;
            self.mmap(mapping, mapping.start, mapping.end, protection, source);
            reads.extend(mapping.segments.iter().map(|segment| Read {
                address: segment.start,
                len: segment.len,
                offset: segment.offset,
            }));
            return;
        }
        let protection = u64::from(mapping.protection);
        let rest = |at: u64| Source {
            offset: if source.fd == NO_FD {
                0
            } else {
                source.offset + (at - mapping.start)
            },
            ..source
        };
        let mut at = mapping.start;
        for Segment { start, len, offset } in &mapping.segments {
            if *start > at {
                self.mmap(mapping, at, *start, protection, rest(at));
            }
            let pages = Source {
                flags: libc::MAP_PRIVATE,
                fd: number(slot::PAGES),
                offset: *offset,
            };
            at = start + len;
            self.mmap(mapping, *start, at, protection, pages);
            match registered.last_mut() {
                Some((_, end)) if *end == *start => *end = at,
                _ => registered.push((*start, at)),
            }
        }
        if at < mapping.end {
            self.mmap(mapping, at, mapping.end, protection, rest(at));
        }
    }

    /// The kernel refuses stacks that show a file, and to wipe such memory at a fork.
    fn must_read(&self, mapping: &Mapping) -> bool {
        let advice = mapping.advice;
        self.options.memory == Memory::Exact || advice.grows_down || advice.wipe_on_fork
    }

    fn mmap(&mut self, mapping: &Mapping, start: u64, end: u64, protection: u64, source: Source) {
        let mut flags = source.flags | libc::MAP_FIXED_NOREPLACE;
        if mapping.advice.no_reserve {
            flags |= libc::MAP_NORESERVE;
        }
        let flags = u64::from(flags.cast_unsigned());
        let args = [
            start,
            end - start,
            protection,
            flags,
            source.fd,
            source.offset,
        ];
        self.tape.call(libc::SYS_mmap, &args, Expect::Is(start));
    }

    /// From here on nothing can touch a page that the page file does not have without the server
    /// noticing; or nothing maps a page that is not used.
    fn register(&mut self, ranges: &[(u64, u64)]) -> Result<(), TapeError> {
        const UFFDIO_REGISTER: u64 = 0xc020_aa00;
        const MISSING: u64 = 1;
        const PROTECTED: u64 = 2;
        // What only makes a recording exact is no reason to fail.
        let (mode, expect) = match (self.options.userfault, self.options.page_by_page) {
            (false, false) => return Ok(()),
            (false, true) => (PROTECTED, Expect::Anything),
            (true, false) => (MISSING, Expect::Is(0)),
            (true, true) => (MISSING | PROTECTED, Expect::Is(0)),
        };
        self.tape.about("register memory for page faults");
        let device = number(slot::USERFAULT_DEVICE);
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut ranges = ranges.to_vec();
        ranges.sort_unstable();
        for (start, end) in ranges {
            match runs.last_mut() {
                Some((_, last)) if *last == start => *last = end,
                _ => runs.push((start, end)),
            }
        }
        for (start, end) in runs {
            // The kernel answers in the fourth word.
            let request = self.tape.word(start)?;
            self.tape.word(end - start)?;
            self.tape.word(mode)?;
            self.tape.word(0)?;
            let args = [device, UFFDIO_REGISTER, request];
            self.tape.call(libc::SYS_ioctl, &args, expect);
        }
        Ok(())
    }

    /// Copies content into place, in as few calls as possible.
    fn read(&mut self, mut reads: Vec<Read>) {
        reads.sort_unstable_by_key(|read| read.offset);
        self.required
            .extend(reads.iter().map(|read| (read.offset, read.len)));
        let mut rest = reads.as_slice();
        while let Some(first) = rest.first() {
            let (mut count, mut len) = (0, 0);
            for read in rest.iter().take(VECTORS) {
                let follows = read.offset == first.offset + len;
                if count > 0 && (!follows || len + read.len > READ_MAX) {
                    break;
                }
                (count, len) = (count + 1, len + read.len);
            }
            let (now, later) = rest.split_at(count);
            rest = later;
            if len > READ_MAX {
                self.read_large(&now[0]);
                continue;
            }
            let vectors: Vec<u64> = now
                .iter()
                .flat_map(|read| [read.address, read.len])
                .collect();
            let vectors = self.tape.words(&vectors);
            let args = [
                number(slot::PAGES),
                vectors,
                now.len() as u64,
                first.offset,
                0,
            ];
            self.tape.call(libc::SYS_preadv, &args, Expect::Is(len));
        }
    }

    fn read_large(&mut self, read: &Read) {
        let mut done = 0;
        while done < read.len {
            let len = (read.len - done).min(READ_MAX);
            let args = [
                number(slot::PAGES),
                read.address + done,
                len,
                read.offset + done,
            ];
            self.tape.call(libc::SYS_pread64, &args, Expect::Is(len));
            done += len;
        }
    }

    fn finish_mapping(&mut self, mapping: &Mapping) {
        let (start, len) = (mapping.start, mapping.end - mapping.start);
        let writable = u64::from(mapping.protection) & PROT_WRITE != 0;
        if !mapping.segments.is_empty() && !writable && self.must_read(mapping) {
            let args = [start, len, mapping.protection.into()];
            self.tape.call(libc::SYS_mprotect, &args, Expect::Is(0));
        }
        let advice = mapping.advice;
        // Advice that only makes things faster may be impossible for what backs the memory now.
        let hints = [
            (advice.huge_pages == Some(true), libc::MADV_HUGEPAGE),
            (advice.huge_pages == Some(false), libc::MADV_NOHUGEPAGE),
            (advice.dont_dump, libc::MADV_DONTDUMP),
            (advice.mergeable, libc::MADV_MERGEABLE),
        ];
        let promises = [
            (advice.dont_fork && !self.has_helper(), libc::MADV_DONTFORK),
            (advice.wipe_on_fork, libc::MADV_WIPEONFORK),
        ];
        let hints = hints.map(|(wanted, value)| (wanted, value, Expect::Anything));
        let promises = promises.map(|(wanted, value)| (wanted, value, Expect::Is(0)));
        for (wanted, value, expect) in hints.into_iter().chain(promises) {
            if wanted {
                let args = [start, len, u64::from(value.cast_unsigned())];
                self.tape.call(libc::SYS_madvise, &args, expect);
            }
        }
        if advice.locked {
            const ON_FAULT: u64 = 1;
            let args = [start, len, ON_FAULT];
            self.tape.call(libc::SYS_mlock2, &args, Expect::Anything);
        }
    }

    /// The kernel's own mappings, where code and data of the image expect them.
    pub(super) fn place_special(&mut self) -> Result<(), TapeError> {
        self.tape.about("place the kernel's mappings");
        let parked = self.place.special(self.image);
        for ((_, len, from), special) in parked.into_iter().zip(&self.image.special) {
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            let flags = u64::from(flags.cast_unsigned());
            let args = [from, len, len, flags, special.start];
            self.tape
                .call(libc::SYS_mremap, &args, Expect::Is(special.start));
        }
        Ok(())
    }

    /// What the kernel knows about the program, the working directory, and `umask`.
    pub(super) fn set_layout(&mut self) -> Result<(), TapeError> {
        let image = self.image;
        let layout = &image.layout;
        self.tape.about("set the memory layout");
        let exe = self.open_path(&image.exe, libc::O_RDONLY | libc::O_CLOEXEC)?;
        let auxv = self.tape.constant(&image.auxv, 8);
        let auxv_len = image.auxv.len() as u64;
        let map = self.tape.words(&[
            layout.start_code,
            layout.end_code,
            layout.start_data,
            layout.end_data,
            layout.start_brk,
            layout.brk,
            layout.start_stack,
            layout.arg_start,
            layout.arg_end,
            layout.env_start,
            layout.env_end,
            auxv,
            auxv_len | number(exe) << 32,
        ]);
        let (set, all) = (libc::PR_SET_MM, libc::PR_SET_MM_MAP);
        let (set, all) = (
            u64::from(set.cast_unsigned()),
            u64::from(all.cast_unsigned()),
        );
        self.tape
            .call(libc::SYS_prctl, &[set, all, map, 104, 0], Expect::Is(0));
        self.close(exe);
        self.tape.about("enter the working directory");
        let cwd = self.tape.text(&image.cwd);
        self.tape.call(libc::SYS_chdir, &[cwd], Expect::Is(0));
        let umask = u64::from(image.umask & 0o777);
        self.tape.call(libc::SYS_umask, &[umask], Expect::Success);
        Ok(())
    }

    /// There is a thread for what need not be done before the clone runs.
    fn has_helper(&self) -> bool {
        self.options.working_set.is_some()
    }

    /// What is to be made ready of what the clone is known to write, with the advice that does it; if
    /// nobody waits for the clone, also of what it will read. That takes longer than the faults. Last
    /// is memory that forks are to do without: V8 says so of each of its many pages, and a fork before
    /// that is only slower.
    pub(super) fn preparations(&self) -> Vec<((u64, u64), libc::c_int)> {
        let Some(working_set) = self.options.working_set else {
            return Vec::new();
        };
        let written = self.writable(&working_set.written).into_iter();
        let mut ranges: Vec<_> = written
            .map(|range| (range, libc::MADV_POPULATE_WRITE))
            .collect();
        if self.options.unhurried {
            let read = self.readable(working_set).into_iter();
            ranges.extend(read.map(|range| (range, libc::MADV_POPULATE_READ)));
        }
        let private = self
            .image
            .mappings
            .iter()
            .filter(|one| one.advice.dont_fork);
        let private = private.map(|one| (one.start, one.end - one.start));
        ranges.extend(private.map(|range| (range, libc::MADV_DONTFORK)));
        ranges
    }

    /// Where the image's memory shows what a stored working set says is read, of the page file and
    /// of other files.
    fn readable(&self, working_set: &WorkingSet) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for mapping in &self.image.mappings {
            if mapping.protection & libc::PROT_READ.cast_unsigned() == 0 || self.must_read(mapping)
            {
                continue;
            }
            for segment in &mapping.segments {
                let parts = overlaps(&working_set.touched, segment.offset, segment.len);
                ranges.extend(
                    parts.map(|(offset, len)| (segment.start + (offset - segment.offset), len)),
                );
            }
            if matches!(
                mapping.backing,
                Backing::Private { .. } | Backing::Shared { .. }
            ) {
                let len = mapping.end - mapping.start;
                ranges.extend(overlaps(&working_set.files, mapping.start, len));
            }
        }
        ranges
    }

    /// The parts of `ranges` that are private and may be written: only there is it right to
    /// touch pages, whatever a stored working set says.
    fn writable(&self, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut ranges = ranges.to_vec();
        ranges.sort_unstable();
        let mut result: Vec<(u64, u64)> = Vec::new();
        let mut next = 0;
        for mapping in &self.image.mappings {
            let private = matches!(
                mapping.backing,
                Backing::Anonymous | Backing::Private { .. }
            );
            let writable = u64::from(mapping.protection) & PROT_WRITE != 0;
            while let Some((start, len)) = ranges.get(next) {
                let end = start.saturating_add(*len);
                if *start >= mapping.end {
                    break;
                }
                let from = (*start).max(mapping.start) & !(PAGE - 1);
                let to = end.min(mapping.end) & !(PAGE - 1);
                if private && writable && from < to && !mapping.advice.grows_down {
                    result.push((from, to - from));
                }
                if end > mapping.end {
                    break;
                }
                next += 1;
            }
        }
        result
    }
}

/// The parts of `ranges` (start, length) between `start` and `start + len`, in whole pages.
fn overlaps(
    ranges: &[(u64, u64)],
    start: u64,
    len: u64,
) -> impl Iterator<Item = (u64, u64)> + use<'_> {
    let end = start.saturating_add(len);
    ranges.iter().filter_map(move |(from, len)| {
        let from_page = (*from).max(start) & !(PAGE - 1);
        let to = from.saturating_add(*len).min(end) & !(PAGE - 1);
        (from_page < to).then(|| (from_page, to - from_page))
    })
}
