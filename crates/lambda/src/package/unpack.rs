//! Unpacks a deployment package into a directory, refusing whatever could reach outside of it.
//!
//! The whole archive is judged before the first byte is written. What an entry may be: a
//! directory, a regular file, or a symbolic link that stays inside. Owners, times and special
//! bits are dropped; of the permissions only "executable" is kept, because everything must be
//! readable to the user that the function runs as.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::PackageError;
use super::archive::{Archive, Entry, ReadError};

/// AWS's limit for the unpacked size of a function's code.
pub const MAX_UNZIPPED_BYTES: u64 = 262_144_000;
/// Linux limits; a longer name could be stored nowhere.
const MAX_COMPONENT_BYTES: usize = 255;
const MAX_PATH_BYTES: usize = 1024;
const MAX_LINK_BYTES: u64 = 1024;
/// Files and directories, also those that only appear as parents: a name has room for 500 of these, and
/// each one costs memory here and an inode on disk.
const MAX_PLANNED: usize = 250_000;
/// Up to so many files are synced one by one. Beyond that a single sync of the whole file system
/// is faster, though it also waits for what others have written.
const MAX_SINGLE_SYNCS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File { executable: bool },
    Link,
}

/// What will be created, by path. `None` for directories that only appear as parents.
type Plan = BTreeMap<Vec<u8>, (Kind, Option<usize>)>;

/// Unpacks `source` into the directory `into`, which must exist and be empty. What it leaves there
/// is on disk when it returns.
pub fn unpack(source: impl Read + Seek, into: &Path) -> Result<(), PackageError> {
    let mut archive = Archive::open(source)?;
    check_size(archive.entries())?;
    let plan = plan(archive.entries())?;
    if !plan.values().any(|(kind, _)| *kind != Kind::Directory) {
        return Err(PackageError::Empty);
    }
    // Parents sort before what they hold. Links come last, so that nothing is written through one.
    for (path, (kind, _)) in &plan {
        if *kind == Kind::Directory {
            fs::DirBuilder::new()
                .mode(0o755)
                .create(join(into, path))
                .map_err(write_failed)?;
        }
    }
    for (path, (kind, index)) in &plan {
        if let (Kind::File { executable }, Some(index)) = (kind, index) {
            write_file(&mut archive, *index, &join(into, path), *executable)?;
        }
    }
    for (path, (kind, index)) in &plan {
        if let (Kind::Link, Some(index)) = (kind, index) {
            write_link(&mut archive, *index, path, &join(into, path))?;
        }
    }
    fs::set_permissions(into, Permissions::from_mode(0o755)).map_err(write_failed)?;
    sync(into, &plan).map_err(write_failed)
}

/// Size of what a package holds, as it claims. Of one that was unpacked it is true.
pub fn unzipped_bytes(source: impl Read + Seek) -> Result<u64, PackageError> {
    Ok(total(Archive::open(source)?.entries()))
}

fn check_size(entries: &[Entry]) -> Result<(), PackageError> {
    if total(entries) > MAX_UNZIPPED_BYTES {
        Err(PackageError::TooLarge)
    } else {
        Ok(())
    }
}

fn total(entries: &[Entry]) -> u64 {
    let sizes = entries.iter().map(|entry| entry.size);
    sizes.fold(0, u64::saturating_add)
}

fn sync(root: &Path, plan: &Plan) -> io::Result<()> {
    if plan.len() > MAX_SINGLE_SYNCS {
        return Ok(rustix::fs::syncfs(File::open(root)?)?);
    }
    for (path, (kind, _)) in plan {
        // A link has no content of its own; it is on disk with its directory.
        if *kind != Kind::Link {
            File::open(join(root, path))?.sync_all()?;
        }
    }
    File::open(root)?.sync_all()
}

fn plan(entries: &[Entry]) -> Result<Plan, PackageError> {
    let mut plan = Plan::new();
    for (index, entry) in entries.iter().enumerate() {
        let kind = kind(entry)?;
        let path = relative_path(&entry.name)?;
        if path.is_empty() {
            // The archive names its own root ("./").
            if kind == Kind::Directory {
                continue;
            }
            return Err(PackageError::Hostile("an entry without a name"));
        }
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = plan
                .entry(path[..at].to_vec())
                .or_insert((Kind::Directory, None));
            if parent.0 != Kind::Directory {
                return Err(PackageError::Hostile(
                    "an entry lies below a file or a link",
                ));
            }
        }
        let directory_again = kind == Kind::Directory
            && plan
                .get(&path)
                .is_some_and(|existing| existing.0 == Kind::Directory);
        if plan.len() > MAX_PLANNED {
            return Err(PackageError::Hostile("too many files and directories"));
        }
        if !directory_again && plan.insert(path, (kind, Some(index))).is_some() {
            return Err(PackageError::Hostile("two entries with the same name"));
        }
    }
    Ok(plan)
}

fn kind(entry: &Entry) -> Result<Kind, PackageError> {
    const TYPE: u32 = 0o170_000;
    let slash = entry.name.ends_with(b"/");
    let mode = entry.mode.unwrap_or(0);
    match mode & TYPE {
        0o040_000 => Ok(Kind::Directory),
        0 | 0o100_000 if slash => Ok(Kind::Directory),
        0 | 0o100_000 => Ok(Kind::File {
            executable: mode & 0o111 != 0,
        }),
        0o120_000 if !slash && entry.size <= MAX_LINK_BYTES => Ok(Kind::Link),
        _ => Err(PackageError::Hostile(
            "an entry is neither a file, a directory nor a link",
        )),
    }
}

/// The path below the root, without empty and `.` components. Refuses everything that leads
/// elsewhere or cannot be a path.
fn relative_path(name: &[u8]) -> Result<Vec<u8>, PackageError> {
    if name.starts_with(b"/") {
        return Err(PackageError::Hostile("an absolute path"));
    }
    if name.contains(&0) || name.len() > MAX_PATH_BYTES {
        return Err(PackageError::Hostile("a name that no file can have"));
    }
    let mut path = Vec::with_capacity(name.len());
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => {
                return Err(PackageError::Hostile(
                    "a path that leads out of the package",
                ));
            }
            _ if component.len() > MAX_COMPONENT_BYTES => {
                return Err(PackageError::Hostile("a name that no file can have"));
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
    }
    Ok(path)
}

fn write_file(
    archive: &mut Archive<impl Read + Seek>,
    index: usize,
    path: &Path,
    executable: bool,
) -> Result<(), PackageError> {
    let mode = if executable { 0o755 } else { 0o644 };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(write_failed)?;
    archive
        .read(index, |bytes| file.write_all(bytes))
        .map_err(read_failed)?;
    // The process's umask has had its say in `open`; the function's user must still be able to
    // read the file.
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(write_failed)
}

fn write_link(
    archive: &mut Archive<impl Read + Seek>,
    index: usize,
    name: &[u8],
    path: &Path,
) -> Result<(), PackageError> {
    let mut target = Vec::new();
    archive
        .read(index, |bytes| {
            target.extend_from_slice(bytes);
            Ok(())
        })
        .map_err(read_failed)?;
    if !stays_inside(name, &target) {
        return Err(PackageError::Hostile(
            "a link that leads out of the package",
        ));
    }
    symlink(std::ffi::OsStr::from_bytes(&target), path).map_err(write_failed)
}

/// True if the link `name` with this target can only resolve below the root.
///
/// `..` is accepted only in front. A link's parents are real directories (the plan sees to it),
/// so leading `..` climb exactly as they read; what follows only descends, and every link met on
/// the way obeys this same rule.
fn stays_inside(name: &[u8], target: &[u8]) -> bool {
    if target.is_empty() || target.starts_with(b"/") || target.contains(&0) {
        return false;
    }
    let depth = name.iter().filter(|byte| **byte == b'/').count();
    let mut components = target
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".");
    let mut climbed = 0;
    for component in components.by_ref() {
        if component != b".." {
            break;
        }
        climbed += 1;
    }
    climbed <= depth && components.all(|component| component != b"..")
}

fn join(root: &Path, path: &[u8]) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(path))
}

fn write_failed(cause: io::Error) -> PackageError {
    PackageError::Io {
        action: "unpack the package",
        cause,
    }
}

fn read_failed(error: ReadError) -> PackageError {
    match error {
        ReadError::Archive(cause) => PackageError::Archive(cause),
        ReadError::Sink(cause) => write_failed(cause),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    type Writer = ZipWriter<Cursor<Vec<u8>>>;

    fn archive(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        fill(&mut writer);
        writer.finish().unwrap().into_inner()
    }

    fn file(writer: &mut Writer, name: &str, mode: u32, content: &[u8]) {
        writer
            .start_file(name, SimpleFileOptions::default().unix_permissions(mode))
            .unwrap();
        writer.write_all(content).unwrap();
    }

    fn link(writer: &mut Writer, name: &str, target: &str) {
        writer
            .add_symlink(name, target, SimpleFileOptions::default())
            .unwrap();
    }

    fn unpack_bytes(bytes: Vec<u8>) -> Result<tempfile::TempDir, PackageError> {
        let directory = tempfile::tempdir().unwrap();
        unpack(Cursor::new(bytes), directory.path())?;
        Ok(directory)
    }

    fn refused(bytes: Vec<u8>) -> PackageError {
        unpack_bytes(bytes)
            .map(|dir| dir.path().to_owned())
            .expect_err("should be refused")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// Replaces text that occurs in the raw archive, to say what no writer would.
    fn patch(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let mut found = false;
        for at in 0..=bytes.len() - from.len() {
            if &bytes[at..at + from.len()] == from {
                bytes[at..at + to.len()].copy_from_slice(to);
                found = true;
            }
        }
        assert!(found);
        bytes
    }

    /// Each name of a kilobyte is five hundred directories.
    #[test]
    fn more_directories_than_there_are_inodes_for_are_refused() {
        let parents = "d/".repeat(500);
        let bytes = archive(|writer| {
            for number in 0..600 {
                file(writer, &format!("{number}/{parents}f"), 0o644, b"");
            }
        });
        let archive = Archive::open(Cursor::new(bytes)).unwrap();
        let refused = plan(archive.entries());
        assert!(
            matches!(refused, Err(PackageError::Hostile(reason)) if reason.contains("too many"))
        );
    }

    #[test]
    fn files_directories_modes_and_inner_links_are_kept() {
        let bytes = archive(|writer| {
            writer
                .add_directory("empty/", SimpleFileOptions::default())
                .unwrap();
            file(writer, "./app.py", 0o600, b"print(1)");
            file(writer, "bin//run", 0o4711, b"#!/bin/sh\n");
            let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            writer.start_file("lib/deep/data.bin", stored).unwrap();
            writer.write_all(&[7; 100_000]).unwrap();
            link(writer, "lib/deep/run", "../../bin/run");
            link(writer, "current", "lib/deep");
        });
        let directory = unpack_bytes(bytes).unwrap();
        let root = directory.path();
        assert_eq!(fs::read(root.join("app.py")).unwrap(), b"print(1)");
        assert_eq!(mode(&root.join("app.py")), 0o644);
        assert_eq!(mode(&root.join("bin/run")), 0o755);
        assert_eq!(mode(root), 0o755);
        assert_eq!(mode(&root.join("empty")), 0o755);
        assert_eq!(
            fs::read(root.join("current/data.bin")).unwrap(),
            vec![7; 100_000]
        );
        assert_eq!(fs::read(root.join("lib/deep/run")).unwrap(), b"#!/bin/sh\n");
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for name in ["../x", "a/../../x", "/etc/passwd", "a/..", ".."] {
            // Long enough to be patched in, whatever the name.
            let placeholder = "p".repeat(name.len());
            let bytes = archive(|writer| file(writer, &placeholder, 0o644, b"x"));
            let error = refused(patch(bytes, placeholder.as_bytes(), name.as_bytes()));
            assert!(
                matches!(error, PackageError::Hostile(_)),
                "{name}: {error:?}"
            );
        }
        let bytes = archive(|writer| file(writer, "a_b", 0o644, b"x"));
        assert!(matches!(
            refused(patch(bytes, b"a_b", b"a\0b")),
            PackageError::Hostile(_)
        ));
    }

    #[test]
    fn links_that_lead_out_are_refused() {
        for (name, target) in [
            ("x", "/etc/passwd"),
            ("x", ".."),
            ("x", "../outside"),
            ("a/x", "../../outside"),
            ("a/x", "b/../../../outside"),
            ("a/x", "b/.."),
            ("x", ""),
        ] {
            let error = refused(archive(|writer| {
                file(writer, "a/b/f", 0o644, b"");
                link(writer, name, target);
            }));
            assert!(
                matches!(error, PackageError::Hostile(_)),
                "{name} -> {target}: {error:?}"
            );
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let through = archive(|writer| {
            link(writer, "d", "other");
            file(writer, "d/x", 0o644, b"");
        });
        assert!(matches!(refused(through), PackageError::Hostile(_)));
        let below_a_file = archive(|writer| {
            file(writer, "d", 0o644, b"");
            file(writer, "d/x", 0o644, b"");
        });
        assert!(matches!(refused(below_a_file), PackageError::Hostile(_)));
        let after = archive(|writer| {
            file(writer, "d/x", 0o644, b"");
            link(writer, "d", "other");
        });
        assert!(matches!(refused(after), PackageError::Hostile(_)));
    }

    #[test]
    fn special_files_are_refused() {
        for kind in [0o010_000_u32, 0o020_000, 0o060_000, 0o140_000] {
            let bytes = archive(|writer| file(writer, "special", 0o644, b""));
            let plain = ((0o100_644_u32) << 16).to_le_bytes();
            let special = ((kind | 0o644) << 16).to_le_bytes();
            assert!(matches!(
                refused(patch(bytes, &plain, &special)),
                PackageError::Hostile(_)
            ));
        }
    }

    #[test]
    fn duplicate_names_are_refused() {
        let bytes = archive(|writer| {
            file(writer, "same-a", 0o644, b"1");
            file(writer, "same-b", 0o644, b"2");
        });
        assert!(matches!(
            refused(patch(bytes, b"same-b", b"same-a")),
            PackageError::Hostile(_)
        ));
        let twice = archive(|writer| {
            writer
                .add_directory("da/", SimpleFileOptions::default())
                .unwrap();
            writer
                .add_directory("db/", SimpleFileOptions::default())
                .unwrap();
            file(writer, "da/f", 0o644, b"");
        });
        assert!(unpack_bytes(patch(twice, b"db/", b"da/")).is_ok());
    }

    #[test]
    fn bombs_are_refused_by_what_they_claim_and_by_what_they_are() {
        let limit = u32::try_from(MAX_UNZIPPED_BYTES).unwrap();
        let two = archive(|writer| {
            file(writer, "a", 0o644, &[1; 77]);
            file(writer, "b", 0o644, &[1; 78]);
        });
        let claims = |first: u32, second: u32| {
            let bytes = patch(two.clone(), &77_u32.to_le_bytes(), &first.to_le_bytes());
            refused(patch(bytes, &78_u32.to_le_bytes(), &second.to_le_bytes()))
        };
        assert!(matches!(claims(limit - 1, 2), PackageError::TooLarge));
        assert!(
            matches!(claims(limit - 1, 1), PackageError::Archive(_)),
            "only a lie"
        );

        let size = 3_000_000_u32;
        let lying = archive(|writer| file(writer, "zeros", 0o644, &vec![0; size as usize]));
        let lying = patch(lying, &size.to_le_bytes(), &1000_u32.to_le_bytes());
        let directory = tempfile::tempdir().unwrap();
        let error = unpack(Cursor::new(lying), directory.path()).unwrap_err();
        assert!(matches!(error, PackageError::Archive(_)), "{error:?}");
        assert!(fs::metadata(directory.path().join("zeros")).unwrap().len() <= 1000);
    }

    #[test]
    fn broken_archives_are_refused() {
        assert!(matches!(
            refused(b"not a zip".to_vec()),
            PackageError::Archive(_)
        ));
        assert!(matches!(refused(Vec::new()), PackageError::Archive(_)));
        assert!(matches!(refused(archive(|_| {})), PackageError::Empty));
        let good = archive(|writer| file(writer, "app.py", 0o644, b"def handler(e, c): pass"));
        for length in 0..good.len() {
            assert!(
                matches!(refused(good[..length].to_vec()), PackageError::Archive(_)),
                "{length} of {} bytes",
                good.len()
            );
        }
        // Flag bit 0 of both headers: encrypted.
        let mut encrypted = good.clone();
        encrypted[6] |= 1;
        assert!(matches!(refused(encrypted), PackageError::Archive(_)));
        let checksum = archive(|writer| {
            let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            writer.start_file("f", stored).unwrap();
            writer.write_all(b"right").unwrap();
        });
        assert!(matches!(
            refused(patch(checksum, b"right", b"wrong")),
            PackageError::Archive(_)
        ));
    }

    #[test]
    fn a_stub_before_and_a_comment_after_the_archive_are_ignored() {
        let mut bytes = b"#!/bin/sh\nexit 1\n".to_vec();
        bytes.extend(archive(|writer| {
            file(writer, "f", 0o644, b"content");
            writer.set_comment("PK\x05\x06 looks like an end record");
        }));
        let directory = unpack_bytes(bytes).unwrap();
        assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"content");
    }

    #[test]
    fn more_entries_than_the_limit_are_refused_before_they_are_read() {
        let mut bytes = archive(|writer| file(writer, "f", 0o644, b""));
        let end = bytes.len() - 22;
        // 65,535 means "look in the ZIP64 record", which is not there.
        bytes[end + 8..end + 12].fill(0xff);
        assert!(matches!(refused(bytes), PackageError::Archive(_)));
    }

    proptest::proptest! {
        #[test]
        fn any_file_survives_packing_and_unpacking(
            content in proptest::collection::vec(proptest::num::u8::ANY, 0..5000),
            name in "[a-zA-Z0-9_. -]{0,20}[a-z]",
        ) {
            let bytes = archive(|writer| file(writer, &name, 0o644, &content));
            let directory = unpack_bytes(bytes).unwrap();
            let read = fs::read(directory.path().join(&name)).unwrap();
            proptest::prop_assert_eq!(read, content);
        }

        #[test]
        fn damaged_archives_never_panic_nor_write_outside(
            damage in proptest::collection::vec((0_usize..400, 0_u8..=255), 1..8),
        ) {
            let mut bytes = archive(|writer| {
                file(writer, "dir/a.txt", 0o644, b"some text, some text, some text");
                link(writer, "dir/l", "a.txt");
            });
            for (at, value) in damage {
                let length = bytes.len();
                bytes[at % length] = value;
            }
            let outer = tempfile::tempdir().unwrap();
            let inner = outer.path().join("inner");
            fs::create_dir(&inner).unwrap();
            let _ = unpack(Cursor::new(bytes), &inner);
            proptest::prop_assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
        }
    }
}
