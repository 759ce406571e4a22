//! The mounts that every environment starts from.
//!
//! `/usr` and its like are the host's. `/etc` is made of the few files programs need, none of
//! which says anything about the host's users or services; only what everybody on the host may
//! read is copied. `/dev` has the five devices without state.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::host::open_read_only;
use crate::Config;
use crate::wire::{Doing, Failure};

/// Where environments mount their own root while they build it.
pub const NEW_ROOT: &str = "/new";

/// What of the template goes into an environment's root.
#[derive(Debug, Default)]
pub struct Layout {
    /// Mounts, with everything below them.
    pub directories: Vec<String>,
    /// Symbolic links and where they point.
    pub links: Vec<(String, PathBuf)>,
    /// The template's `/etc`, to keep its resolver settings those of the host.
    pub etc: Option<File>,
}

/// Files and directories of the host's `/etc` that say how libraries, certificates, time zones and
/// interpreters are set up.
const ETC: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "fonts",
    "gai.conf",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "lsb-release",
    "magic",
    "mime.types",
    "node",
    "os-release",
    "perl",
    "pki",
    "protocols",
    "python",
    "rpc",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
];
/// As above, for names with a version in them.
const ETC_PREFIXES: &[&str] = &["java-", "python3", "nodejs"];
/// Bounds on what is copied.
const ETC_MAX_BYTES: u64 = 16 << 20;
const ETC_MAX_FILES: u32 = 5000;

const DEVICES: [(&str, u32, u32); 5] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
];

/// The function's user and group as AWS names them.
const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\n\
    sbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n\
    nobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nsbx_user1051:x:990:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
    networks: files\nprotocols: files\nservices: files\n";

/// Builds the template in the current mount namespace and makes it this process's root.
pub fn build(config: &Config) -> Result<Layout, Failure> {
    let mut layout = Layout::default();
    let mut mounts = Vec::new();
    for dir in &config.system_dirs {
        let Some(path) = dir.to_str().filter(|path| path.starts_with('/')) else {
            return Err(Failure::new(format!("use {}", dir.display()), &invalid()));
        };
        match fs::symlink_metadata(dir) {
            Err(_) => {}
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(dir).doing(|| format!("read {path}"))?;
                layout.links.push((path.to_owned(), target));
            }
            Ok(_) => {
                mounts.push((
                    path,
                    open_read_only(path, true).doing(|| format!("open {path}"))?,
                ));
                layout.directories.push(path.to_owned());
            }
        }
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    // A user namespace may mount a /proc of its own only where a whole one is visible already.
    let proc = rustix::mount::open_tree(CWD, "/proc", flags).doing(|| "open /proc".into())?;
    let devices = DEVICES.map(|(name, ..)| {
        let path = format!("/dev/{name}");
        rustix::mount::open_tree(CWD, &path, flags).doing(|| format!("open {path}"))
    });
    let etc = collect_etc();

    let root = mount_point()?;
    rustix::mount::mount(
        "tmpfs",
        &root,
        "tmpfs",
        MountFlags::NOSUID,
        Some(c"mode=755,size=64m"),
    )
    .doing(|| "mount the template".into())?;
    std::env::set_current_dir(&root).doing(|| "enter the template".into())?;
    make_dir("new")?;
    for (path, mount) in &mounts {
        attach(mount, path)?;
    }
    attach(&proc, "/proc")?;
    for ((name, major, minor), mount) in DEVICES.into_iter().zip(devices) {
        make_device(name, major, minor, &mount?)?;
    }
    for (name, target) in [
        ("fd", "fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        symlink(format!("/proc/self/{target}"), format!("dev/{name}"))
            .doing(|| format!("link /dev/{name}"))?;
    }
    make_dir("dev/shm")?;
    write_etc(etc)?;
    write_cpus()?;
    layout.etc = Some(File::open("etc").doing(|| "open the template's /etc".into())?);
    layout
        .directories
        .extend(["/etc", "/dev", "/sys"].map(str::to_owned));
    rustix::process::pivot_root(".", ".").doing(|| "make the template the root".into())?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing(|| "leave the host's root".into())?;
    std::env::set_current_dir("/").doing(|| "enter the new root".into())?;
    Ok(layout)
}

impl Layout {
    /// Follows the host's resolver settings: a machine that moves changes them.
    pub fn refresh_resolver(&self) {
        let Some(etc) = &self.etc else { return };
        let text = resolver();
        let open =
            |flags| rustix::fs::openat(etc, "resolv.conf", flags, Mode::from_raw_mode(0o644));
        let mut current = String::new();
        let read = open(rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC)
            .map_err(io::Error::from)
            .and_then(|fd| io::Read::read_to_string(&mut File::from(fd), &mut current));
        if read.is_ok() && current == text {
            return;
        }
        let flags = rustix::fs::OFlags::WRONLY
            | rustix::fs::OFlags::CREATE
            | rustix::fs::OFlags::TRUNC
            | rustix::fs::OFlags::CLOEXEC;
        if let Ok(fd) = open(flags) {
            let _ = File::from(fd).write_all(text.as_bytes());
        }
    }
}

fn invalid() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "not an absolute path of readable characters",
    )
}

/// Any existing directory does: what is mounted there disappears with the old root.
fn mount_point() -> Result<PathBuf, Failure> {
    let candidates = ["/tmp", "/mnt", "/run", "/var"];
    let found = candidates
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_dir());
    found.ok_or_else(|| Failure::new("find a directory", &io::ErrorKind::NotFound.into()))
}

fn make_dir(path: &str) -> Result<(), Failure> {
    fs::create_dir_all(path).doing(|| format!("create {path} in the template"))
}

/// Attaches a mount at an absolute path, relative to the current directory.
fn attach(mount: &OwnedFd, path: &str) -> Result<(), Failure> {
    let relative = path.trim_start_matches('/');
    make_dir(relative)?;
    rustix::mount::move_mount(
        mount,
        "",
        CWD,
        relative,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .doing(|| format!("attach {path} to the template"))
}

/// A node of our own where that is allowed, else the host's.
fn make_device(name: &str, major: u32, minor: u32, host: &OwnedFd) -> Result<(), Failure> {
    make_dir("dev")?;
    let path = format!("dev/{name}");
    let mode = Mode::from_raw_mode(0o666);
    let number = rustix::fs::makedev(major, minor);
    if rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, mode, number).is_ok()
        && File::open(&path).is_ok()
    {
        return fs::set_permissions(&path, fs::Permissions::from_mode(0o666))
            .doing(|| format!("set the mode of {path}"));
    }
    let _ = fs::remove_file(&path);
    File::create(&path).doing(|| format!("create {path}"))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(host, "", CWD, &path, flags).doing(|| format!("attach {path}"))
}

enum Entry {
    File(Vec<u8>),
    Link(PathBuf),
}

/// Reads what is to be copied, while the host's `/etc` can still be seen.
fn collect_etc() -> Vec<(String, Entry)> {
    let mut names: Vec<String> = ETC.iter().map(|name| (*name).to_owned()).collect();
    let entries = fs::read_dir("/etc").into_iter().flatten().flatten();
    names.extend(
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| ETC_PREFIXES.iter().any(|prefix| name.starts_with(prefix))),
    );
    let mut budget = Budget {
        bytes: ETC_MAX_BYTES,
        files: ETC_MAX_FILES,
    };
    let mut found = Vec::new();
    for name in names {
        collect(&name, &mut found, &mut budget);
    }
    found
}

struct Budget {
    bytes: u64,
    files: u32,
}

fn collect(name: &str, found: &mut Vec<(String, Entry)>, budget: &mut Budget) {
    let path = Path::new("/etc").join(name);
    let Ok(metadata) = fs::symlink_metadata(&path) else {
        return;
    };
    if metadata.is_symlink() {
        if let Ok(target) = fs::read_link(&path) {
            found.push((name.to_owned(), Entry::Link(target)));
        }
        return;
    }
    // The server may be allowed to read what the function's user must not see.
    if metadata.mode() & 0o004 == 0 || budget.files == 0 {
        return;
    }
    if metadata.is_dir() {
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        for child in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            collect(&format!("{name}/{child}"), found, budget);
        }
    } else if metadata.is_file()
        && metadata.len() <= budget.bytes
        && let Ok(content) = fs::read(&path)
    {
        budget.files -= 1;
        budget.bytes = budget.bytes.saturating_sub(content.len() as u64);
        found.push((name.to_owned(), Entry::File(content)));
    }
}

fn write_etc(copied: Vec<(String, Entry)>) -> Result<(), Failure> {
    make_dir("etc")?;
    for (name, entry) in copied {
        let path = Path::new("etc").join(&name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).doing(|| format!("create the directory of {name}"))?;
        }
        match entry {
            Entry::File(content) => fs::write(&path, content),
            Entry::Link(target) => symlink(target, &path),
        }
        .doing(|| format!("copy /etc/{name}"))?;
    }
    for (name, text) in [
        ("passwd", PASSWD),
        ("group", GROUP),
        ("nsswitch.conf", NSSWITCH),
        ("hostname", "sandbox\n"),
        ("hosts", &hosts(&[])),
        ("resolv.conf", &resolver()),
    ] {
        fs::write(Path::new("etc").join(name), text).doing(|| format!("write /etc/{name}"))?;
    }
    Ok(())
}

/// The hosts file: the names AWS has, then those of one environment.
pub fn hosts(further: &[(std::net::IpAddr, String)]) -> String {
    let mut text = "127.0.0.1 localhost sandbox sandbox.localdomain\n::1 localhost\n".to_owned();
    for (address, name) in further {
        text.push_str(&format!("{address} {name}\n"));
    }
    text
}

/// The host's resolver settings. A resolver on the host's own loopback cannot be reached from
/// inside; systemd keeps the real ones in a second file.
fn resolver() -> String {
    let first = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if !first.contains("nameserver 127.") {
        return first;
    }
    fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap_or(first)
}

/// The only thing that programs look up in `/sys`: how many CPUs there are.
fn write_cpus() -> Result<(), Failure> {
    let dir = "sys/devices/system/cpu";
    make_dir(dir)?;
    for name in ["online", "possible", "present"] {
        let text = fs::read(format!("/{dir}/{name}")).unwrap_or_else(|_| b"0\n".to_vec());
        fs::write(format!("{dir}/{name}"), text).doing(|| format!("write /{dir}/{name}"))?;
    }
    Ok(())
}
