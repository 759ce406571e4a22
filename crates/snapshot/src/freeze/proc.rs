//! What `/proc/PID` says, parsed.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::error::{Doing, Result};

/// Reads `/proc/PID/NAME`.
pub fn read(pid: i32, name: &str) -> Result<Vec<u8>> {
    let path = format!("/proc/{pid}/{name}");
    match fs::read(&path) {
        Ok(content) => Ok(content),
        // How procfs says that the process is gone.
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            Err(io::Error::from_raw_os_error(libc::ESRCH)).doing(String::new)
        }
        Err(err) => Err(err).doing(|| format!("read {path}")),
    }
}

/// Reads the link `/proc/PID/NAME`.
pub fn link(pid: i32, name: &str) -> Result<Vec<u8>> {
    let path = format!("/proc/{pid}/{name}");
    let target = fs::read_link(&path).doing(|| format!("read the link {path}"))?;
    Ok(target.as_os_str().as_bytes().to_vec())
}

/// Ids of threads, as this process numbers them; the main thread is first.
pub fn threads(pid: i32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let entries = match fs::read_dir(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            return Err(io::Error::from_raw_os_error(libc::ESRCH)).doing(String::new);
        }
        entries => entries.doing(|| format!("list {path}"))?,
    };
    let mut tids: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    tids.sort_unstable_by_key(|tid| (*tid != pid, *tid));
    Ok(tids)
}

/// The lines `Key: value` of a status file.
pub struct Status(String);

impl Status {
    /// `name` as in `status` or `task/TID/status`.
    pub fn read(pid: i32, name: &str) -> Result<Self> {
        let text = read(pid, name)?;
        Ok(Self(String::from_utf8_lossy(&text).into_owned()))
    }

    pub fn get(&self, key: &str) -> &str {
        let value = |line: &'_ str| -> Option<usize> {
            let rest = line.strip_prefix(key)?.strip_prefix(':')?;
            Some(line.len() - rest.len())
        };
        let found = self
            .0
            .lines()
            .find_map(|line| Some((line, value(line)?)))
            .map(|(line, at)| &line[at..]);
        found.unwrap_or_default().trim()
    }

    pub fn hex(&self, key: &str) -> u64 {
        u64::from_str_radix(self.get(key), 16).unwrap_or(0)
    }

    /// Numbers separated by white space.
    pub fn numbers(&self, key: &str) -> Vec<i64> {
        let words = self.get(key).split_ascii_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    }

    /// The id in the innermost namespace.
    pub fn innermost(&self) -> i32 {
        let ids = self.numbers("NSpid");
        ids.last()
            .and_then(|id| i32::try_from(*id).ok())
            .unwrap_or(0)
    }
}

/// The numbers of `/proc/PID/stat` behind the name; the first is field 4 of `proc(5)`.
pub fn stat(pid: i32) -> Result<Vec<u64>> {
    let text = read(pid, "stat")?;
    let behind = text.iter().rposition(|b| *b == b')').unwrap_or(0);
    let numbers = String::from_utf8_lossy(text.get(behind + 1..).unwrap_or_default()).into_owned();
    let parse = |word: &str| {
        word.parse::<i64>()
            .map_or_else(|_| word.parse().unwrap_or(0), i64::cast_unsigned)
    };
    Ok(numbers
        .split_ascii_whitespace()
        .skip(1)
        .map(parse)
        .collect())
}

/// One entry of `smaps`.
#[derive(Debug, Clone, Default)]
pub struct Vma {
    pub start: u64,
    pub end: u64,
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    pub shared: bool,
    pub offset: u64,
    pub device: (u32, u32),
    pub inode: u64,
    /// Path or name in brackets; empty for plain anonymous memory.
    pub name: Vec<u8>,
    /// The two-letter flags.
    pub flags: Vec<[u8; 2]>,
    /// Bytes of private pages, in memory or swapped out.
    pub anonymous: u64,
    pub resident: u64,
    pub protection_key: u32,
}

impl Vma {
    pub fn has(&self, flag: &[u8; 2]) -> bool {
        self.flags.contains(flag)
    }

    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// For messages.
    pub fn describe(&self) -> String {
        let name = OsStr::from_bytes(&self.name).to_string_lossy();
        let name = if name.is_empty() {
            "anonymous".into()
        } else {
            name
        };
        format!("the memory at {:x} ({name})", self.start)
    }
}

/// All mappings of a process.
pub fn smaps(pid: i32) -> Result<Vec<Vma>> {
    let text = read(pid, "smaps")?;
    let mut vmas: Vec<Vma> = Vec::new();
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        if let Some(vma) = header(line) {
            vmas.push(vma);
        } else if let Some(vma) = vmas.last_mut() {
            detail(vma, line);
        }
    }
    let ordered = vmas.iter().all(|vma| vma.start < vma.end)
        && vmas.windows(2).all(|two| two[0].end <= two[1].start);
    if vmas.is_empty() || !ordered {
        return Err(io::Error::from(io::ErrorKind::InvalidData)).doing(|| "parse smaps".into());
    }
    Ok(vmas)
}

/// `start-end perms offset major:minor inode   name`
fn header(line: &[u8]) -> Option<Vma> {
    let mut rest = line;
    let mut word = || {
        let end = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let skip = behind
            .iter()
            .position(|b| *b != b' ')
            .unwrap_or(behind.len());
        rest = &behind[skip..];
        std::str::from_utf8(word).ok()
    };
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = word()?.split_once('-')?;
    let (start, end) = (hex(start)?, hex(end)?);
    let permissions = word()?.as_bytes();
    let offset = hex(word()?)?;
    let (major, minor) = word()?.split_once(':')?;
    let device = (
        u32::from_str_radix(major, 16).ok()?,
        u32::from_str_radix(minor, 16).ok()?,
    );
    let inode = word()?.parse().ok()?;
    let is = |at: usize, letter| permissions.get(at) == Some(&letter);
    Some(Vma {
        start,
        end,
        read: is(0, b'r'),
        write: is(1, b'w'),
        execute: is(2, b'x'),
        shared: is(3, b's'),
        offset,
        device,
        inode,
        name: unescape(rest),
        ..Vma::default()
    })
}

/// The kernel writes a line break in a name as `\012`.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(b"\\012") {
            plain.push(b'\n');
            rest = behind;
        } else {
            plain.push(*first);
            rest = behind;
        }
    }
    plain
}

fn detail(vma: &mut Vma, line: &[u8]) {
    let Some((key, value)) = std::str::from_utf8(line)
        .ok()
        .and_then(|l| l.split_once(':'))
    else {
        return;
    };
    let number = || {
        value
            .split_ascii_whitespace()
            .next()
            .and_then(|n| n.parse::<u64>().ok())
    };
    let bytes = || number().unwrap_or(0).saturating_mul(1024);
    match key {
        "Rss" => vma.resident = bytes(),
        "Anonymous" | "Swap" => vma.anonymous += bytes(),
        "ProtectionKey" => {
            vma.protection_key = number()
                .and_then(|key| u32::try_from(key).ok())
                .unwrap_or(0);
        }
        "VmFlags" => {
            let words = value.split_ascii_whitespace();
            vma.flags = words.filter_map(|w| w.as_bytes().try_into().ok()).collect();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{header, smaps, stat, threads};

    #[test]
    fn a_line_of_smaps_is_understood() {
        let line = b"7f12000-7f13000 r-xp 00001000 fe:01 1234        /tmp/a b\\012c (deleted)";
        let vma = header(line).unwrap();
        assert_eq!(
            (vma.start, vma.end, vma.offset),
            (0x7f1_2000, 0x7f1_3000, 0x1000)
        );
        assert_eq!((vma.device, vma.inode), ((0xfe, 1), 1234));
        assert!(vma.read && vma.execute && !vma.write && !vma.shared);
        assert_eq!(vma.name, b"/tmp/a b\nc (deleted)");
        assert!(header(b"Rss:                   4 kB").is_none());
        assert!(header(b"VmFlags: rd wr mr mw me ac sd").is_none());
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id().cast_signed();
        let vmas = smaps(pid).unwrap();
        assert!(
            vmas.iter()
                .any(|vma| vma.name == b"[stack]" && vma.has(b"gd"))
        );
        assert!(vmas.iter().any(|vma| vma.anonymous > 0));
        assert_eq!(threads(pid).unwrap()[0], pid);
        // Field 20 is the number of threads.
        assert!(stat(pid).unwrap()[16] >= 1);
    }
}
