//! Files that the process has made: `/tmp` and `/dev/shm`.

use std::fs::File;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::error::{Doing, Result, unsupported};
use super::objects::read_padded;
use super::pages::Pages;
use super::root::{self, Root};
use crate::{PAGE, ScratchContent, ScratchEntry};

/// Longest path that system calls take.
const PATH_MAX: usize = 4096;
const CHUNK: usize = 1 << 20;

pub struct Limits {
    pub bytes: u64,
    pub entries: usize,
}

/// Everything below the directories, parents before children. Sockets, fifos and devices are left
/// out: nothing can be restored of them but a name.
pub fn collect(
    root: &Root,
    directories: &[&str],
    limits: &Limits,
    pages: &mut Pages<'_>,
) -> Result<Vec<ScratchEntry>> {
    let mut walk = Walk {
        root,
        limits,
        bytes: 0,
        entries: Vec::new(),
    };
    for directory in directories {
        let mut pending = vec![directory.trim_end_matches('/').as_bytes().to_vec()];
        while let Some(directory) = pending.pop() {
            walk.visit(&directory, &mut pending, pages)?;
        }
    }
    Ok(walk.entries)
}

struct Walk<'a> {
    root: &'a Root,
    limits: &'a Limits,
    bytes: u64,
    entries: Vec<ScratchEntry>,
}

impl Walk<'_> {
    /// Notes what is in one directory, and its directories as to be visited.
    fn visit(
        &mut self,
        directory: &[u8],
        pending: &mut Vec<Vec<u8>>,
        pages: &mut Pages<'_>,
    ) -> Result<()> {
        let doing = || format!("list {}", root::show(directory));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = match self.root.open_path(directory, flags) {
            // Not every environment has every directory.
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            opened => opened.doing(doing)?,
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&opened).doing(doing)? {
            let name = entry.doing(doing)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
            if names.len() > self.limits.entries {
                return self.too_many();
            }
        }
        names.sort_unstable();
        for name in names {
            let path = [directory, b"/", &name].concat();
            if path.len() >= PATH_MAX {
                return unsupported(format!("the path of {} is too long", root::show(&name)));
            }
            let stat = rustix::fs::statat(&opened, &*name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.doing(|| format!("look at {}", root::show(&path)))?;
            let content = match root::file_type(&stat) {
                FileType::Directory => {
                    pending.push(path.clone());
                    ScratchContent::Directory
                }
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(&opened, &*name, Vec::new());
                    let target = target.doing(|| format!("read {}", root::show(&path)))?;
                    ScratchContent::Link(target.into_bytes())
                }
                FileType::RegularFile => self.file(&opened, &name, &path, pages)?,
                _ => continue,
            };
            self.add(path, &stat, content)?;
        }
        Ok(())
    }

    fn add(&mut self, path: Vec<u8>, stat: &Stat, content: ScratchContent) -> Result<()> {
        if self.entries.len() >= self.limits.entries {
            return self.too_many();
        }
        self.entries.push(ScratchEntry {
            path,
            mode: stat.st_mode & 0o7777,
            modified_ns: root::modified_ns(stat),
            content,
        });
        Ok(())
    }

    fn too_many<T>(&self) -> Result<T> {
        let most = self.limits.entries;
        unsupported(format!(
            "there are more than {most} files in its temporary directories"
        ))
    }

    fn file(
        &mut self,
        directory: &std::os::fd::OwnedFd,
        name: &[u8],
        path: &[u8],
        pages: &mut Pages<'_>,
    ) -> Result<ScratchContent> {
        let doing = || format!("read {}", root::show(path));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory, name, flags, Mode::empty());
        let file: File = file.doing(doing)?.into();
        let len = file.metadata().doing(doing)?.len();
        self.bytes = self.bytes.saturating_add(len);
        if self.bytes > self.limits.bytes {
            let most = self.limits.bytes;
            return unsupported(format!(
                "the files in its temporary directories have more than {most} bytes"
            ));
        }
        let offset = pages.position();
        let mut at = 0;
        let mut buffer = vec![0; CHUNK];
        while at < len {
            let padded = (len - at).next_multiple_of(PAGE);
            let part = usize::try_from(padded).map_or(CHUNK, |len| len.min(CHUNK));
            read_padded(&file, at, &mut buffer[..part]).doing(doing)?;
            pages.append(&buffer[..part])?;
            at += part as u64;
        }
        Ok(ScratchContent::File { len, offset })
    }
}
