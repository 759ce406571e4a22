//! Serves this process's own memory.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::{Map, Pager, PagerEvent};
use crate::{Advice, Backing, Mapping, PAGE, Segment};

const PAGES: u64 = 8;

/// A memfd with holes, mapped privately, its missing pages reported.
struct Setup {
    pager: Pager,
    file: File,
    start: u64,
}

/// `None` where userfaultfd is not allowed.
fn set_up() -> Option<Setup> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    let Some(fd) = i32::try_from(fd).ok().filter(|fd| *fd >= 0) else {
        eprintln!("SKIPPED: userfaultfd is not allowed here");
        return None;
    };
    // SAFETY: just created.
    let uffd = unsafe { OwnedFd::from_raw_fd(fd) };
    let memfd = rustix::fs::memfd_create("pages", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let file = File::from(memfd);
    file.set_len(PAGES * PAGE).unwrap();
    let len = usize::try_from(PAGES * PAGE).unwrap();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            protection,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(start, libc::MAP_FAILED);
    let start = start as u64;
    let mapping = Mapping {
        start,
        end: start + PAGES * PAGE,
        protection: 3,
        backing: Backing::Anonymous,
        segments: vec![Segment {
            start,
            len: PAGES * PAGE,
            offset: 0,
        }],
        advice: Advice::default(),
    };
    let pager = Pager::with_map(uffd, Map::of(&[mapping]));
    let Ok(pager) = pager else {
        eprintln!("SKIPPED: not privileged enough to serve missing pages");
        return None;
    };
    let mut register = [start, PAGES * PAGE, 1, 0];
    // SAFETY: the request reads and writes a structure of four u64.
    let ret = unsafe {
        libc::ioctl(
            pager.as_fd().as_raw_fd(),
            0xc020_aa00,
            register.as_mut_ptr(),
        )
    };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
    Some(Setup { pager, file, start })
}

fn load(address: u64) -> std::thread::JoinHandle<u8> {
    std::thread::spawn(move || {
        // SAFETY: mapped for as long as the test runs.
        unsafe { std::ptr::read_volatile(address as *const u8) }
    })
}

fn next(pager: &mut Pager) -> Vec<PagerEvent> {
    for _ in 0..10 {
        let mut poll = [PollFd::new(pager, PollFlags::IN)];
        let timeout = rustix::event::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut poll, Some(&timeout)).unwrap();
        let events = pager.events().unwrap();
        if !events.is_empty() {
            return events;
        }
    }
    panic!("no event");
}

fn serve(setup: &mut Setup, content: u8) {
    for event in next(&mut setup.pager) {
        let PagerEvent::Fault(fault) = event else {
            panic!("{event:?}");
        };
        let page = vec![content; usize::try_from(PAGE).unwrap()];
        setup.file.write_all_at(&page, fault.pages.start).unwrap();
        setup.pager.wake(&fault).unwrap();
    }
}

#[test]
fn a_missing_page_is_served_once_and_for_all_maps() {
    let Some(mut setup) = set_up() else { return };
    let reader = load(setup.start + 3 * PAGE + 17);
    let events = next(&mut setup.pager);
    let [PagerEvent::Fault(fault)] = &*events else {
        panic!("{events:?}");
    };
    assert_eq!(fault.pages, 3 * PAGE..4 * PAGE);
    assert!(!reader.is_finished());
    setup
        .file
        .write_all_at(&[42; 4096], fault.pages.start)
        .unwrap();
    setup.pager.wake(fault).unwrap();
    assert_eq!(reader.join().unwrap(), 42);
    // No event any more, and what is written there is private.
    // SAFETY: mapped, and no other reference to it exists.
    unsafe { std::ptr::write_volatile((setup.start + 3 * PAGE) as *mut u8, 1) };
    assert!(setup.pager.events().unwrap().is_empty());
    let mut byte = [0];
    setup.file.read_exact_at(&mut byte, 3 * PAGE).unwrap();
    assert_eq!(byte, [42]);
}

#[test]
fn a_missing_page_is_served_for_writing() {
    let Some(mut setup) = set_up() else { return };
    let address = setup.start + 5 * PAGE;
    let writer = std::thread::spawn(move || {
        // SAFETY: mapped for as long as the test runs; nobody else uses this page.
        unsafe { std::ptr::write_volatile((address + 1) as *mut u8, 9) };
    });
    serve(&mut setup, 7);
    writer.join().unwrap();
    assert_eq!(
        (
            load(address).join().unwrap(),
            load(address + 1).join().unwrap()
        ),
        (7, 9)
    );
}

#[test]
fn memory_that_was_moved_is_served_from_where_it_came() {
    let Some(mut setup) = set_up() else { return };
    let (from, len) = (setup.start + 6 * PAGE, usize::try_from(PAGE).unwrap());
    let mover = std::thread::spawn(move || {
        // SAFETY: the page is this test's, and nothing refers to it.
        unsafe { libc::mremap(from as *mut _, len, 4 * len, libc::MREMAP_MAYMOVE) as u64 }
    });
    while !mover.is_finished() {
        assert!(setup.pager.events().unwrap().is_empty());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(setup.pager.events().unwrap().is_empty());
    let to = mover.join().unwrap();
    let reader = load(to);
    let events = next(&mut setup.pager);
    let [PagerEvent::Fault(fault)] = &*events else {
        panic!("{events:?}");
    };
    assert_eq!(fault.pages, 6 * PAGE..7 * PAGE);
    setup
        .file
        .write_all_at(&[6; 4096], fault.pages.start)
        .unwrap();
    setup.pager.wake(fault).unwrap();
    assert_eq!(reader.join().unwrap(), 6);
}

#[test]
fn memory_that_was_given_back_reads_as_zeroes_here_and_stays_missing_elsewhere() {
    let Some(mut setup) = set_up() else { return };
    let (at, len) = (setup.start, usize::try_from(PAGE).unwrap());
    let giver = std::thread::spawn(move || {
        // SAFETY: the page is this test's, and nothing refers to it.
        unsafe { libc::madvise(at as *mut _, len, libc::MADV_DONTNEED) }
    });
    while !giver.is_finished() {
        assert!(setup.pager.events().unwrap().is_empty());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(giver.join().unwrap(), 0);
    let reader = load(setup.start);
    while !reader.is_finished() {
        assert!(setup.pager.events().unwrap().is_empty());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(reader.join().unwrap(), 0);
    // The file still has its hole: other clones are not handed the zeroes.
    let hole = rustix::fs::seek(&setup.file, rustix::fs::SeekFrom::Data(0));
    assert_eq!(hole, Err(rustix::io::Errno::NXIO));
}

#[test]
fn a_descriptor_comes_through_a_socket_and_is_acknowledged() {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    let Some(fd) = i32::try_from(fd).ok().filter(|fd| *fd >= 0) else {
        eprintln!("SKIPPED: userfaultfd is not allowed here");
        return;
    };
    // SAFETY: just created.
    let uffd = unsafe { OwnedFd::from_raw_fd(fd) };
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = rustix::net::SendAncillaryBuffer::new(&mut space);
    let fds = [uffd.as_fd()];
    assert!(attached.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
    let bytes = [std::io::IoSlice::new(b"u")];
    rustix::net::sendmsg(&far, &bytes, &mut attached, rustix::net::SendFlags::empty()).unwrap();
    let received = super::sys::receive_descriptor(near.as_fd()).unwrap();
    assert!(Pager::with_map(received, Map::default()).is_ok());
    drop(far);
    assert!(super::sys::receive_descriptor(near.as_fd()).is_err());
}
