//! Makes the page tables of a clone show what it has used, and nothing else.
//!
//! A fault on a file maps up to sixteen pages around it. The kernel does without that in memory whose
//! protected pages are reported to a userfaultfd. No page is ever protected here, so nothing is
//! reported, nobody has to listen, and the clone runs as it always does. Its children are not watched.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::sys;

/// While this is held, a clone of a tape that was compiled with
/// [`CompileOptions::page_by_page`](crate::CompileOptions) gets pages of its image one at a time.
#[derive(Debug)]
pub struct Recorder {
    #[expect(dead_code, reason = "the kernel ends it when this is closed")]
    uffd: OwnedFd,
}

impl Recorder {
    /// Whether this kernel can, asked through `/dev/userfaultfd`.
    pub fn is_possible(device: BorrowedFd<'_>) -> bool {
        sys::create(device).is_ok_and(|uffd| sys::handshake(uffd.as_fd(), sys::PROTECTION).is_ok())
    }

    /// Receives the userfaultfd of a clone that is being thawed, and lets it go on. Waits for it if
    /// the socket is a blocking one.
    pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let uffd = sys::receive_descriptor(socket)?;
        let agreed = sys::handshake(uffd.as_fd(), sys::PROTECTION);
        // Without it the clone is as good as any other.
        rustix::io::write(socket, &[1])?;
        agreed.map(|()| Self { uffd })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::os::unix::fs::FileExt;
    use std::os::unix::net::UnixStream;
    use std::{io, ptr};

    use rustix::fs::MemfdFlags;

    use super::{AsFd, OwnedFd, Recorder};
    use crate::PAGE;
    use crate::freeze::pagemap::{Pagemap, Pick};

    const PAGES: u64 = 64;

    /// A file of pages that each hold their number, mapped privately and, if it can be, registered as a
    /// tape does it.
    struct Watched {
        start: u64,
        recorder: Recorder,
    }

    /// `None` where the kernel cannot or must not do it.
    fn watched() -> Option<Watched> {
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        let Some(fd) = i32::try_from(fd).ok().filter(|fd| *fd >= 0) else {
            eprintln!("SKIPPED: userfaultfd is not allowed here");
            return None;
        };
        // SAFETY: just created.
        let uffd = unsafe { OwnedFd::from_raw_fd(fd) };
        let (near, far) = UnixStream::pair().unwrap();
        send(&far, &uffd);
        let Ok(recorder) = Recorder::receive(near.as_fd()) else {
            eprintln!("SKIPPED: this kernel does not protect memory files");
            return None;
        };
        let mut answer = [0];
        io::Read::read_exact(&mut &far, &mut answer).unwrap();
        let file = File::from(rustix::fs::memfd_create("pages", MemfdFlags::CLOEXEC).unwrap());
        for page in 0..PAGES {
            let content = [u8::try_from(page).unwrap(); 4096];
            file.write_all_at(&content, page * PAGE).unwrap();
        }
        let start = map(&file);
        let mut register = [start, PAGES * PAGE, 2, 0];
        // SAFETY: the request reads and writes a structure of four u64.
        let ret = unsafe { libc::ioctl(uffd.as_raw_fd(), 0xc020_aa00, register.as_mut_ptr()) };
        assert_eq!(ret, 0, "{}", io::Error::last_os_error());
        Some(Watched { start, recorder })
    }

    fn map(file: &File) -> u64 {
        let len = usize::try_from(PAGES * PAGE).unwrap();
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
        let fd = file.as_raw_fd();
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        start as u64
    }

    fn send(socket: &UnixStream, uffd: &OwnedFd) {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut attached = rustix::net::SendAncillaryBuffer::new(&mut space);
        let fds = [uffd.as_fd()];
        assert!(attached.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
        let bytes = [io::IoSlice::new(b"u")];
        let flags = rustix::net::SendFlags::empty();
        rustix::net::sendmsg(socket, &bytes, &mut attached, flags).unwrap();
    }

    /// Pages, counted from the start.
    fn pages(start: u64, pick: Pick) -> Vec<u64> {
        let map = Pagemap::open(std::process::id().cast_signed()).unwrap();
        let runs = map.runs(pick, start, start + PAGES * PAGE).unwrap();
        let runs = runs
            .into_iter()
            .flat_map(|(from, to)| from / PAGE..to / PAGE);
        runs.map(|page| page - start / PAGE).collect()
    }

    fn load(start: u64, page: u64) -> u8 {
        // SAFETY: mapped for as long as the test runs.
        unsafe { ptr::read_volatile((start + page * PAGE) as *const u8) }
    }

    fn store(start: u64, page: u64, value: u8) {
        // SAFETY: mapped for as long as the test runs, and no reference to it exists.
        unsafe { ptr::write_volatile((start + page * PAGE) as *mut u8, value) };
    }

    #[test]
    fn a_page_that_is_used_is_mapped_alone() {
        let Some(Watched { start, recorder }) = watched() else {
            return;
        };
        assert_eq!(load(start, 20), 20);
        assert_eq!(pages(start, Pick::Present), [20]);
        // One that was read before, and one that was not.
        store(start, 20, 99);
        store(start, 40, 98);
        assert_eq!(pages(start, Pick::Present), [20, 40]);
        assert_eq!(pages(start, Pick::Private), [20, 40]);
        assert_eq!((load(start, 20), load(start, 40)), (99, 98));
        // Afterwards it is memory like any other.
        drop(recorder);
        assert_eq!(load(start, 3), 3);
        assert!(pages(start, Pick::Present).len() > 3);
        assert_eq!((load(start, 20), load(start, 40)), (99, 98));
    }

    #[test]
    fn memory_that_moves_or_is_given_back_is_right_and_nobody_has_to_listen() {
        let Some(Watched { start, recorder }) = watched() else {
            return;
        };
        store(start, 7, 99);
        let len = usize::try_from(PAGES * PAGE).unwrap();
        // SAFETY: the memory is this test's, and nothing refers to it.
        let moved = unsafe { libc::mremap(start as *mut _, len, 4 * len, libc::MREMAP_MAYMOVE) };
        assert_ne!(moved, libc::MAP_FAILED);
        let start = moved as u64;
        assert_eq!((load(start, 7), load(start, 8)), (99, 8));
        // SAFETY: as above.
        let given = unsafe { libc::madvise(moved, len, libc::MADV_DONTNEED) };
        assert_eq!(given, 0);
        assert_eq!((load(start, 7), load(start, 8)), (7, 8));
        drop(recorder);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::munmap(moved, 4 * len) }, 0);
    }
}
