//! Shared memory without a name: made again as memfds.

use super::writer::Expect;
use super::{Compiler, TapeError};
use crate::{Image, slot};

/// Where the objects' descriptors wait until everything that needs them has been made.
const FIRST: i32 = 910;
/// How many there can be.
pub const MAX: usize = 96;
/// Most bytes that the kernel copies in one call.
const COPY_MAX: u64 = 1 << 30;

/// How many copies an image's objects take.
pub fn segments(image: &Image) -> usize {
    let copies = |len: u64| usize::try_from(len.div_ceil(COPY_MAX)).unwrap_or(usize::MAX);
    let segments = image.objects.iter().flat_map(|object| &object.segments);
    segments
        .map(|segment| copies(segment.len))
        .fold(0, usize::saturating_add)
}

impl Compiler<'_> {
    pub(super) fn create_objects(&mut self) -> Result<(), TapeError> {
        let pages = u64::from(slot::PAGES.cast_unsigned());
        for (index, object) in self.image.objects.iter().enumerate().take(MAX) {
            let target = FIRST + i32::try_from(index).map_err(|_| TapeError::TooLarge)?;
            let name = plain(&object.name);
            let text = String::from_utf8_lossy(name).into_owned();
            self.tape.about(&format!("restore shared memory {text}"));
            let name = self.tape.text(&name[..name.len().min(200)]);
            let fresh = self.table.open()?;
            let flags = u64::from(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
            let expected = Expect::Is(number(fresh));
            self.tape
                .call(libc::SYS_memfd_create, &[name, flags], expected);
            self.move_descriptor(fresh, target, true);
            let fd = number(target);
            for segment in &object.segments {
                let start = segment.start;
                self.tape
                    .call(libc::SYS_lseek, &[fd, start, 0], Expect::Is(start));
                let mut done = 0;
                while done < segment.len {
                    let len = (segment.len - done).min(COPY_MAX);
                    let from = self.tape.word(segment.offset + done)?;
                    let args = [fd, pages, from, len];
                    self.tape.call(libc::SYS_sendfile, &args, Expect::Is(len));
                    done += len;
                }
                self.required.push((segment.offset, segment.len));
            }
            let len = object.len;
            self.tape
                .call(libc::SYS_ftruncate, &[fd, len], Expect::Is(0));
            self.objects.push(target);
        }
        Ok(())
    }

    pub(super) fn close_objects(&mut self) {
        if let (Some(first), Some(last)) = (self.objects.first(), self.objects.last()) {
            let args = [number(*first), number(*last), 0];
            self.tape.call(libc::SYS_close_range, &args, Expect::Is(0));
        }
    }

    pub(super) fn object(&self, index: u32) -> Result<i32, TapeError> {
        let found = usize::try_from(index)
            .ok()
            .and_then(|index| self.objects.get(index));
        found.copied().ok_or(TapeError::Image("object index"))
    }
}

/// As an argument.
pub fn number(fd: i32) -> u64 {
    u64::from(fd.cast_unsigned())
}

/// What the memfd was called that the kernel calls `/memfd:NAME (deleted)`.
fn plain(name: &[u8]) -> &[u8] {
    let name = name.strip_prefix(b"/memfd:").unwrap_or(name);
    name.strip_suffix(b" (deleted)").unwrap_or(name)
}
