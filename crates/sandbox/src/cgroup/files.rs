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

/// The control files of one environment. Every call is one or two small writes or reads on a
/// kernel file system, a few microseconds each.
#[derive(Debug)]
pub struct Group {
    paths: Paths,
    freezer: Option<File>,
    /// `memory.peak` is reset per open file, so this one stays open.
    peak: Option<File>,
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
        let peak = paths.limits_v2().and_then(|dir| {
            let path = dir.join("memory.peak");
            // Before Linux 6.12 it cannot be reset, before 5.19 it does not exist.
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .or_else(|_| File::open(path))
                .ok()
        });
        Ok(Self {
            paths,
            freezer,
            peak,
        })
    }

    /// Limits memory, with no swap on top of it.
    pub fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        if let Some(dir) = self.paths.limits_v2() {
            write(&dir.join("memory.max"), bytes)?;
            write_if_present(&dir.join("memory.swap.max"), 0)?;
            // One process of a function without the others is of no use, and AWS ends all of them.
            return write_if_present(&dir.join("memory.oom.group"), 1);
        }
        let Some(dir) = &self.paths.memory else {
            return Ok(());
        };
        write(&dir.join("memory.limit_in_bytes"), bytes)?;
        write_if_present(&dir.join("memory.memsw.limit_in_bytes"), bytes)?;
        write_if_present(&dir.join("memory.swappiness"), 0)
    }

    /// Limits the number of processes and threads.
    pub fn limit_pids(&self, max: u32) -> io::Result<()> {
        match self.paths.limits_v2().or(self.paths.pids.as_deref()) {
            Some(dir) => write(&dir.join("pids.max"), max),
            None => Ok(()),
        }
    }

    /// Limits CPU time to this many CPUs. Without the controller there is no limit.
    pub fn limit_cpu(&self, cpus: f64) -> io::Result<()> {
        let quota = cpu_quota_us(cpus);
        if let Some(dir) = self.paths.limits_v2() {
            return write_if_present(&dir.join("cpu.max"), format!("{quota} {CPU_PERIOD_US}"));
        }
        let Some(dir) = &self.paths.cpu else {
            return Ok(());
        };
        write(&dir.join("cpu.cfs_period_us"), CPU_PERIOD_US)?;
        write(&dir.join("cpu.cfs_quota_us"), quota)
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
        let path = match (self.paths.limits_v2(), &self.paths.memory) {
            (Some(dir), _) => dir.join("memory.events"),
            (None, Some(dir)) => dir.join("memory.oom_control"),
            (None, None) => return 0,
        };
        fs::read_to_string(path)
            .ok()
            .and_then(|text| field(&text, "oom_kill"))
            .unwrap_or(0)
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
        if let Some(file) = &self.peak {
            let mut text = [0; 32];
            let length = file.read_at(&mut text, 0).unwrap_or(0);
            return parse(&text[..length]);
        }
        let path = match (self.paths.limits_v2(), &self.paths.memory) {
            (Some(dir), _) => dir.join("memory.current"),
            (None, Some(dir)) => dir.join("memory.max_usage_in_bytes"),
            (None, None) => return 0,
        };
        fs::read(path).map(|text| parse(&text)).unwrap_or(0)
    }

    /// Starts a new measurement of the peak, where the kernel can.
    pub fn reset_memory_peak(&self) {
        // On failure the peak stays that of the whole life: higher than asked for, never lower.
        if let Some(file) = &self.peak {
            let _ = file.write_at(b"reset", 0);
        } else if let Some(dir) = &self.paths.memory {
            let _ = write(&dir.join("memory.max_usage_in_bytes"), 0);
        }
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

fn write_if_present(path: &PathBuf, value: impl ToString) -> io::Result<()> {
    match write(path, value) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
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

    fn v2(dir: &Path) -> Group {
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
        Group::open(paths).unwrap()
    }

    #[test]
    fn v2_limits_go_into_the_unified_files() {
        let dir = tempfile::tempdir().unwrap();
        let group = v2(dir.path());
        group.limit_memory(128 << 20).unwrap();
        group.limit_pids(1024).unwrap();
        group.limit_cpu(0.5).unwrap();
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
        let group = v2(dir.path());
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
        let group = Group::open(paths).unwrap();
        assert!(group.can_freeze());
        group.limit_memory(1).unwrap();
        group.limit_pids(1).unwrap();
        group.limit_cpu(1.0).unwrap();
        assert_eq!(group.memory_peak(), 0);
        assert!(!dir.path().join("memory.max").exists());
    }

    #[test]
    fn v1_limits_go_into_each_hierarchy() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "memory.limit_in_bytes",
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
        let group = Group::open(paths).unwrap();
        group.limit_memory(1 << 20).unwrap();
        group.limit_cpu(2.0).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("memory.limit_in_bytes"), "1048576");
        assert_eq!(read("cpu.cfs_quota_us"), "40000");
        assert_eq!(group.oom_kills(), 1);
        assert!(!group.can_freeze());
    }

    #[test]
    fn a_cpu_share_below_the_kernels_minimum_is_raised_to_it() {
        assert_eq!(cpu_quota_us(0.001), 1_000);
        assert_eq!(cpu_quota_us(f64::NAN), 1_000);
        assert_eq!(cpu_quota_us(1.0), 20_000);
    }
}
