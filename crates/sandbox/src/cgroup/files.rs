//! Reading and writing the control files of one environment, by the server.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Paths;

/// Length of a CPU accounting period; AWS uses 20 ms.
const CPU_PERIOD_US: u64 = 20_000;
/// The kernel accepts no smaller share of a period.
const CPU_QUOTA_MIN_US: u64 = 1_000;

/// The control files of one environment. Those that every invocation needs stay open: finding a
/// file takes ten times as long as reading it.
#[derive(Debug)]
pub struct Group {
    paths: Paths,
    freezer: Option<File>,
    peak: Option<Peak>,
    oom: Option<File>,
}

/// How the most memory used is asked for.
#[derive(Debug)]
enum Peak {
    /// A file that starts anew when this is written to it. `memory.peak` does so per open file.
    Kept(File, &'static str),
    /// Only what is used now is known.
    Current(File),
}

impl Group {
    /// Opens the files that are needed again and again.
    pub fn open(paths: Paths) -> io::Result<Self> {
        let freezer = match (&paths.freezer, &paths.unified) {
            (Some(v1), _) => Some(v1.join("freezer.state")),
            (None, Some(v2)) => Some(v2.join("cgroup.freeze")),
            (None, None) => None,
        };
        let freezer = freezer
            .map(|path| OpenOptions::new().write(true).open(path))
            .transpose()?;
        let oom = match (paths.limits_v2(), &paths.memory) {
            (Some(dir), _) => File::open(dir.join("memory.events")).ok(),
            (None, Some(dir)) => File::open(dir.join("memory.oom_control")).ok(),
            (None, None) => None,
        };
        let peak = paths.peak();
        Ok(Self {
            paths,
            freezer,
            peak,
            oom,
        })
    }

    /// Whether freezing is possible.
    pub fn can_freeze(&self) -> bool {
        self.freezer.is_some()
    }

    /// Asks the kernel to stop everything. Each process stops the next time it would run user
    /// code; a process that waits inside the kernel counts as stopped.
    pub fn freeze(&self) -> io::Result<()> {
        self.write_freezer("FROZEN", "1")
    }

    /// Lets everything continue.
    pub fn thaw(&self) -> io::Result<()> {
        self.write_freezer("THAWED", "0")
    }

    fn write_freezer(&self, v1: &str, v2: &str) -> io::Result<()> {
        let Some(file) = &self.freezer else {
            return Ok(());
        };
        let text = if self.paths.freezer.is_some() { v1 } else { v2 };
        file.write_at(text.as_bytes(), 0).map(drop)
    }

    /// Whether everything has stopped.
    pub fn is_frozen(&self) -> io::Result<bool> {
        if let Some(dir) = &self.paths.freezer {
            return Ok(fs::read_to_string(dir.join("freezer.state"))?.trim() == "FROZEN");
        }
        let Some(dir) = &self.paths.unified else {
            return Ok(false);
        };
        Ok(field(&fs::read_to_string(dir.join("cgroup.events"))?, "frozen") == Some(1))
    }

    /// Processes killed because memory ran out.
    pub fn oom_kills(&self) -> u64 {
        let mut text = [0; 512];
        let length = self.oom.as_ref().map(|file| file.read_at(&mut text, 0));
        let Some(Ok(length)) = length else { return 0 };
        let text = String::from_utf8_lossy(&text[..length]);
        field(&text, "oom_kill").unwrap_or(0)
    }

    /// The file whose change announces that memory ran out, and whether the change is told by
    /// `POLLPRI` on it (v2) or has to be registered with an eventfd (v1).
    pub fn oom_source(&self) -> io::Result<Option<OomSource>> {
        if let Some(dir) = self.paths.limits_v2() {
            return Ok(Some(OomSource::Poll(
                File::open(dir.join("memory.events"))?.into(),
            )));
        }
        let Some(dir) = &self.paths.memory else {
            return Ok(None);
        };
        let control = File::open(dir.join("memory.oom_control"))?;
        let event = rustix::event::eventfd(
            0,
            rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK,
        )?;
        let registration = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        write(&dir.join("cgroup.event_control"), registration)?;
        Ok(Some(OomSource::Eventfd(event)))
    }

    /// The most memory used since the start or the last reset.
    pub fn memory_peak(&self) -> u64 {
        let (Some(Peak::Kept(file, _)) | Some(Peak::Current(file))) = &self.peak else {
            return 0;
        };
        let mut text = [0; 32];
        let length = file.read_at(&mut text, 0).unwrap_or(0);
        parse(&text[..length])
    }

    /// Starts a new measurement of the peak, where the kernel can.
    pub fn reset_memory_peak(&self) {
        // On failure the peak stays that of the whole life: higher than asked for, never lower.
        if let Some(Peak::Kept(file, reset)) = &self.peak {
            let _ = file.write_at(reset.as_bytes(), 0);
        }
    }
}

/// The files that limit an environment, opened while it waits in the pool: they are written when
/// it gets its function, which somebody waits for.
#[derive(Debug, Default)]
pub struct Limits {
    /// In the order in which they have to be written.
    memory: Vec<Knob>,
    pids: Option<Knob>,
    cpu: Option<Cpu>,
}

#[derive(Debug)]
enum Cpu {
    V1 { period: Knob, quota: Knob },
    V2(Knob),
}

impl Limits {
    /// Opens the files, and sets what is the same for all functions: no swap.
    pub fn open(paths: &Paths) -> io::Result<Self> {
        if let Some(dir) = paths.limits_v2() {
            Knob::set_if_present(dir, "memory.swap.max", 0)?;
            // One process of a function without the others is of no use, and AWS ends all of them.
            Knob::set_if_present(dir, "memory.oom.group", 1)?;
            return Ok(Self {
                memory: vec![Knob::open(dir, "memory.max")?],
                pids: Some(Knob::open(dir, "pids.max")?),
                cpu: Knob::open_if_present(dir, "cpu.max")?.map(Cpu::V2),
            });
        }
        let mut limits = Self::default();
        if let Some(dir) = &paths.memory {
            Knob::set_if_present(dir, "memory.swappiness", 0)?;
            limits
                .memory
                .push(Knob::open(dir, "memory.limit_in_bytes")?);
            let with_swap = Knob::open_if_present(dir, "memory.memsw.limit_in_bytes")?;
            limits.memory.extend(with_swap);
        }
        if let Some(dir) = &paths.pids {
            limits.pids = Some(Knob::open(dir, "pids.max")?);
        }
        if let Some(dir) = &paths.cpu {
            limits.cpu = Some(Cpu::V1 {
                period: Knob::open(dir, "cpu.cfs_period_us")?,
                quota: Knob::open(dir, "cpu.cfs_quota_us")?,
            });
        }
        Ok(limits)
    }

    /// Limits memory in bytes, with no swap on top of it; the number of processes and threads; and CPU
    /// time to so many CPUs. What there is no controller for is not limited.
    pub fn set(&self, memory: u64, pids: u32, cpus: Option<f64>) -> io::Result<()> {
        for knob in &self.memory {
            knob.set(memory)?;
        }
        if let Some(knob) = &self.pids {
            knob.set(pids)?;
        }
        let Some(cpus) = cpus else { return Ok(()) };
        let limit = cpu_quota_us(cpus);
        match &self.cpu {
            Some(Cpu::V2(knob)) => knob.set(format!("{limit} {CPU_PERIOD_US}")),
            Some(Cpu::V1 { period, quota }) => {
                period.set(CPU_PERIOD_US)?;
                quota.set(limit)
            }
            None => Ok(()),
        }
    }
}

/// A control file, open for writing.
#[derive(Debug)]
struct Knob {
    file: File,
    path: PathBuf,
}

impl Knob {
    fn open(dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(name);
        let file = OpenOptions::new().write(true).open(&path)?;
        Ok(Self { file, path })
    }

    fn open_if_present(dir: &Path, name: &str) -> io::Result<Option<Self>> {
        match Self::open(dir, name) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    fn set_if_present(dir: &Path, name: &str, value: u32) -> io::Result<()> {
        match Self::open_if_present(dir, name)? {
            Some(knob) => knob.set(value),
            None => Ok(()),
        }
    }

    fn set(&self, value: impl ToString) -> io::Result<()> {
        let written = self.file.write_all_at(value.to_string().as_bytes(), 0);
        written.map_err(|err| {
            let message = format!("write {}: {err}", self.path.display());
            io::Error::new(err.kind(), message)
        })
    }
}

/// See [`Group::oom_source`].
#[derive(Debug)]
pub enum OomSource {
    /// Readable when it happened.
    Eventfd(OwnedFd),
    /// Has priority data when one of several counters changed.
    Poll(OwnedFd),
}

impl Paths {
    fn limits_v2(&self) -> Option<&Path> {
        self.unified.as_deref().filter(|_| self.unified_limits)
    }

    fn peak(&self) -> Option<Peak> {
        let both = |path: &Path| OpenOptions::new().read(true).write(true).open(path).ok();
        if let Some(dir) = self.limits_v2() {
            // Before Linux 6.12 it cannot be reset, before 5.19 it does not exist.
            let path = dir.join("memory.peak");
            let kept = both(&path).or_else(|| File::open(&path).ok());
            let current = || File::open(dir.join("memory.current")).ok();
            let kept = kept.map(|file| Peak::Kept(file, "reset"));
            return kept.or_else(|| current().map(Peak::Current));
        }
        let file = both(&self.memory.as_ref()?.join("memory.max_usage_in_bytes"))?;
        Some(Peak::Kept(file, "0"))
    }
}

fn cpu_quota_us(cpus: f64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "20,000 is exact")]
    let quota = (cpus.clamp(0.0, 10_000.0) * CPU_PERIOD_US as f64).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped above"
    )]
    let quota = quota as u64;
    quota.max(CPU_QUOTA_MIN_US)
}

fn write(path: &PathBuf, value: impl ToString) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(value.to_string().as_bytes())
        .map_err(|err| io::Error::new(err.kind(), format!("write {}: {err}", path.display())))
}

fn parse(text: &[u8]) -> u64 {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// The number after a name in a file of `name value` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(dir: &Path) -> (Group, Limits) {
        for name in [
            "memory.max",
            "memory.swap.max",
            "memory.oom.group",
            "pids.max",
            "cpu.max",
        ] {
            fs::write(dir.join(name), "").unwrap();
        }
        fs::write(dir.join("cgroup.freeze"), "").unwrap();
        fs::write(dir.join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        fs::write(dir.join("memory.peak"), "4096\n").unwrap();
        fs::write(
            dir.join("memory.events"),
            "low 0\noom 3\noom_kill 2\noom_group_kill 1\n",
        )
        .unwrap();
        let paths = Paths {
            unified: Some(dir.into()),
            unified_limits: true,
            ..Paths::default()
        };
        let limits = Limits::open(&paths).unwrap();
        (Group::open(paths).unwrap(), limits)
    }

    #[test]
    fn v2_limits_go_into_the_unified_files() {
        let dir = tempfile::tempdir().unwrap();
        let (group, limits) = v2(dir.path());
        limits.set(128 << 20, 1024, Some(0.5)).unwrap();
        group.freeze().unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("memory.max"), "134217728");
        assert_eq!(read("memory.swap.max"), "0");
        assert_eq!(read("memory.oom.group"), "1");
        assert_eq!(read("pids.max"), "1024");
        assert_eq!(read("cpu.max"), "10000 20000");
        assert_eq!(read("cgroup.freeze"), "1");
        group.thaw().unwrap();
        assert_eq!(read("cgroup.freeze"), "0");
    }

    #[test]
    fn v2_measurements_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (group, _) = v2(dir.path());
        assert_eq!(group.oom_kills(), 2);
        assert_eq!(group.memory_peak(), 4096);
        assert!(group.is_frozen().unwrap());
        group.reset_memory_peak();
        assert!(
            fs::read_to_string(dir.path().join("memory.peak"))
                .unwrap()
                .starts_with("reset")
        );
    }

    #[test]
    fn a_unified_hierarchy_without_controllers_only_freezes() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.freeze"), "").unwrap();
        let paths = Paths {
            unified: Some(dir.path().into()),
            ..Paths::default()
        };
        let limits = Limits::open(&paths).unwrap();
        let group = Group::open(paths).unwrap();
        assert!(group.can_freeze());
        limits.set(1, 1, Some(1.0)).unwrap();
        assert_eq!(group.memory_peak(), 0);
        assert!(!dir.path().join("memory.max").exists());
    }

    #[test]
    fn v1_limits_go_into_each_hierarchy() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "memory.limit_in_bytes",
            "memory.swappiness",
            "cpu.cfs_period_us",
            "cpu.cfs_quota_us",
            "pids.max",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::write(
            dir.path().join("memory.oom_control"),
            "under_oom 0\noom_kill 1\n",
        )
        .unwrap();
        let here = Some(dir.path().to_owned());
        let paths = Paths {
            memory: here.clone(),
            pids: here.clone(),
            cpu: here,
            ..Paths::default()
        };
        fs::write(dir.path().join("memory.max_usage_in_bytes"), "8192\n").unwrap();
        let limits = Limits::open(&paths).unwrap();
        let group = Group::open(paths).unwrap();
        limits.set(1 << 20, 7, Some(2.0)).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("memory.limit_in_bytes"), "1048576");
        assert_eq!(read("memory.swappiness"), "0");
        assert_eq!(read("pids.max"), "7");
        assert_eq!(read("cpu.cfs_quota_us"), "40000");
        assert_eq!(group.oom_kills(), 1);
        assert_eq!(group.memory_peak(), 8192);
        assert!(!group.can_freeze());
    }

    #[test]
    fn a_cpu_share_below_the_kernels_minimum_is_raised_to_it() {
        assert_eq!(cpu_quota_us(0.001), 1_000);
        assert_eq!(cpu_quota_us(f64::NAN), 1_000);
        assert_eq!(cpu_quota_us(1.0), 20_000);
    }
}
