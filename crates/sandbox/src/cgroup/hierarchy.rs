//! Finding the hierarchies, and making and removing groups in them, by the spawner.
//!
//! All groups of one spawner are below one directory per hierarchy, named after the spawner's
//! process id and start time and the server's process id. A later spawner recognises what a killed
//! one left behind by that name and removes it.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};

use super::{Freezer, Kind, Paths};

const PREFIX: &str = "firn-";
/// The leaf that the server itself moves to, because v2 groups with limited children may not
/// contain processes.
const SERVER_SUFFIX: &str = "-server";
const V1_CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "freezer"];

/// The hierarchies in use, with this server's directory in each.
#[derive(Debug, Default)]
pub struct Tree {
    v1: Vec<(&'static str, PathBuf)>,
    v2: Option<PathBuf>,
    v2_limits: bool,
    freezer: Freezer,
    note: Option<PathBuf>,
    /// What could not be used, for the doctor.
    pub notes: Vec<String>,
}

/// The groups of one environment.
#[derive(Debug)]
pub struct Cell {
    /// Where the function's processes are.
    pub paths: Paths,
    /// Writing "0" here moves the writing thread into a v1 group. The right to do so is that of
    /// the opener, so the environment's init can use them without any right of its own. A thread
    /// that moves itself needs none of the kernel's global locks that a move by others takes.
    pub join: Vec<OwnedFd>,
    /// Into which init is created, in the unified hierarchy.
    pub init: Option<OwnedFd>,
    /// Into which init creates function processes.
    pub function: Option<OwnedFd>,
    remove: Vec<PathBuf>,
}

impl Tree {
    /// Finds what this process may use, and removes what dead servers left. `freezer` forces one
    /// kind of freezer.
    pub fn discover(server: Pid, freezer: Option<Freezer>, notes: &Path) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let found = parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let name = own_name(server);
        let mut tree = Self::default();
        remove_noted(notes);
        for controller in V1_CONTROLLERS {
            let Some((_, dir)) = found.v1.iter().find(|(name, _)| name == controller) else {
                continue;
            };
            remove_stale(dir);
            match make_base(dir, &name) {
                Ok(base) => tree.v1.push((controller, base)),
                Err(err) => tree.notes.push(format!("cgroup v1 {controller}: {err}")),
            }
        }
        if let Some(unified) = &found.v2 {
            tree.use_unified(unified, &name, server);
        }
        tree.choose_freezer(freezer);
        tree.leave_note(notes, &name);
        tree
    }

    /// Says where the groups are: a later server may be started in another place of the hierarchy,
    /// and would not come across them.
    fn leave_note(&mut self, notes: &Path, name: &str) {
        let bases = self.v1.iter().map(|(_, base)| base).chain(&self.v2);
        let text: String = bases
            .filter_map(|base| Some(format!("{}\n", base.to_str()?)))
            .collect();
        let note = notes.join(name);
        if fs::create_dir_all(notes)
            .and_then(|()| fs::write(&note, text))
            .is_ok()
        {
            self.note = Some(note);
        }
    }

    /// Where limits come from.
    pub fn kind(&self) -> Kind {
        let has = |name| self.v1.iter().any(|(controller, _)| *controller == name);
        match () {
            () if self.v2_limits => Kind::V2,
            () if has("memory") && has("pids") => Kind::V1,
            () => Kind::None,
        }
    }

    /// How processes are frozen.
    pub fn freezer(&self) -> Freezer {
        self.freezer
    }

    fn use_unified(&mut self, found: &Unified, name: &str, server: Pid) {
        let own = strip_server_leaf(&found.own);
        for dir in [&own, &found.root] {
            remove_stale(dir);
        }
        let mut problems = Vec::new();
        // The own group is the right place. A root server whose group has other processes (a login
        // session, say) may still use the top of the hierarchy, as container engines do.
        for dir in [&own, &found.root] {
            match enable_controllers(dir, server).and_then(|()| make_base(dir, name)) {
                Ok(base) => {
                    self.v2_limits = controllers(&base).is_superset(&wanted());
                    if self.v2_limits {
                        let _ = fs::write(base.join("cgroup.subtree_control"), enable_text(&base));
                    }
                    self.v2 = Some(base);
                    return;
                }
                Err(err) => problems.push(format!("cgroup v2 {}: {err}", dir.display())),
            }
        }
        self.notes.append(&mut problems);
    }

    fn choose_freezer(&mut self, forced: Option<Freezer>) {
        let v2 = self.v2.is_some();
        let v1 = self.v1.iter().any(|(name, _)| *name == "freezer");
        self.freezer = match forced {
            Some(Freezer::V1) if v1 => Freezer::V1,
            Some(Freezer::Signals) => Freezer::Signals,
            _ if v2 => Freezer::V2,
            _ if v1 => Freezer::V1,
            _ => Freezer::Signals,
        };
        // Only what is used is created per environment.
        if self.v2_limits {
            self.drop_v1(|_| true);
        }
        if self.freezer != Freezer::V1 {
            self.drop_v1(|name| name == "freezer");
        }
        let unified_is_used = self.freezer == Freezer::V2 || self.v2_limits;
        if let Some(base) = self.v2.take_if(|_| !unified_is_used) {
            let _ = fs::remove_dir(base);
        }
    }

    fn drop_v1(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.v1.retain(|(name, base)| {
            let keep = !unwanted(name);
            if !keep {
                let _ = fs::remove_dir(base);
            }
            keep
        });
    }

    /// Makes the groups of one environment. `owner` is the host user and group of its init, which
    /// may then create processes inside the function's group, and nothing else.
    pub fn make(&self, id: u64, owner: Option<u32>) -> io::Result<Cell> {
        let mut cell = Cell {
            paths: Paths {
                unified_limits: self.v2_limits,
                ..Paths::default()
            },
            join: Vec::new(),
            init: None,
            function: None,
            remove: Vec::new(),
        };
        let result = self.fill(&mut cell, id, owner);
        if result.is_err() {
            cell.remove();
        }
        result.map(|()| cell)
    }

    fn fill(&self, cell: &mut Cell, id: u64, owner: Option<u32>) -> io::Result<()> {
        for (controller, base) in &self.v1 {
            let dir = base.join(format!("env-{id}"));
            cell.mkdir(&dir)?;
            let tasks = OpenOptions::new().write(true).open(dir.join("tasks"))?;
            cell.join.push(tasks.into());
            let paths = &mut cell.paths;
            *match *controller {
                "memory" => &mut paths.memory,
                "pids" => &mut paths.pids,
                "cpu" => &mut paths.cpu,
                _ => &mut paths.freezer,
            } = Some(dir);
        }
        let Some(base) = &self.v2 else { return Ok(()) };
        let dir = base.join(format!("env-{id}"));
        cell.mkdir(&dir)?;
        if self.v2_limits {
            fs::write(dir.join("cgroup.subtree_control"), enable_text(&dir))?;
        }
        let (init, function) = (dir.join("init"), dir.join("function"));
        cell.mkdir(&init)?;
        cell.mkdir(&function)?;
        if let Some(owner) = owner {
            // Creating a process inside another group takes write access to these two files.
            for dir in [&dir, &function] {
                std::os::unix::fs::chown(dir.join("cgroup.procs"), Some(owner), Some(owner))?;
            }
        }
        cell.init = Some(File::open(&init)?.into());
        cell.function = Some(File::open(&function)?.into());
        cell.paths.unified = Some(function);
        Ok(())
    }

    /// Removes this server's directories; nothing may be inside any more.
    pub fn remove(&self) {
        for base in self.v1.iter().map(|(_, base)| base).chain(&self.v2) {
            remove_tree(base);
        }
        let _ = self.note.as_ref().map(fs::remove_file);
    }
}

impl Cell {
    fn mkdir(&mut self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)?;
        self.remove.push(dir.to_owned());
        Ok(())
    }

    /// Closes what only init needs, which has copies.
    pub fn release(&mut self) {
        self.join.clear();
        self.init = None;
        self.function = None;
    }

    /// Thaws what v1 froze, since it cannot die before.
    pub fn thaw(&self) {
        if let Some(dir) = &self.paths.freezer {
            let _ = fs::write(dir.join("freezer.state"), "THAWED");
        }
    }

    /// Removes the directories; true when all are gone.
    pub fn remove(&mut self) -> bool {
        while let Some(dir) = self.remove.last() {
            match fs::remove_dir(dir) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return false,
                _ => self.remove.pop(),
            };
        }
        true
    }
}

/// Where this process is, in every hierarchy.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    v1: Vec<(String, PathBuf)>,
    v2: Option<Unified>,
}

#[derive(Debug, PartialEq, Eq)]
struct Unified {
    root: PathBuf,
    own: PathBuf,
}

/// Reads mountinfo and /proc/self/cgroup.
fn parse(mountinfo: &str, membership: &str) -> Found {
    let mut found = Found::default();
    for line in mountinfo.lines() {
        // 36 35 98:0 /root /mount/point rw,... shared:1 - fstype source options
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let (left, right): (Vec<_>, Vec<_>) =
            (left.split(' ').collect(), right.split(' ').collect());
        let (Some(root), Some(point)) = (left.get(3), left.get(4)) else {
            continue;
        };
        let options = right.get(2).copied().unwrap_or_default();
        match right.first() {
            Some(&"cgroup2") if found.v2.is_none() => {
                let Some(own) = own_path(membership, |names| names.is_empty()) else {
                    continue;
                };
                let own = below(point, root, own);
                found.v2 = Some(Unified {
                    root: PathBuf::from(point),
                    own,
                });
            }
            Some(&"cgroup") => {
                for name in V1_CONTROLLERS {
                    if !options.split(',').any(|option| option == name)
                        || found.v1.iter().any(|(known, _)| known == name)
                    {
                        continue;
                    }
                    let Some(own) =
                        own_path(membership, |names| names.split(',').any(|n| n == name))
                    else {
                        continue;
                    };
                    found.v1.push((name.to_owned(), below(point, root, own)));
                }
            }
            _ => {}
        }
    }
    found
}

fn own_path(membership: &str, matches: impl Fn(&str) -> bool) -> Option<&str> {
    membership.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        matches(names).then_some(path)
    })
}

/// The directory of the group `path`, in a mount of the subtree `root` at `point`.
fn below(point: &str, root: &str, path: &str) -> PathBuf {
    let relative = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    Path::new(point).join(relative)
}

fn wanted() -> HashSet<String> {
    HashSet::from(["memory".to_owned(), "pids".to_owned()])
}

fn controllers(dir: &Path) -> HashSet<String> {
    let text = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn enable_text(dir: &Path) -> String {
    let available = controllers(dir);
    let enabled = ["memory", "pids", "cpu"]
        .into_iter()
        .filter(|name| available.contains(*name));
    enabled.map(|name| format!("+{name} ")).collect()
}

/// Lets children of `dir` have limits. That requires that no process is directly inside; if those
/// that are belong to us, they move to a leaf.
fn enable_controllers(dir: &Path, server: Pid) -> io::Result<()> {
    if !controllers(dir).is_superset(&wanted()) {
        return Ok(());
    }
    let control = dir.join("cgroup.subtree_control");
    let Err(first) = fs::write(&control, enable_text(dir)) else {
        return Ok(());
    };
    if first.raw_os_error() != Some(libc::EBUSY) {
        return Err(first);
    }
    let ours = [
        server.as_raw_nonzero().get(),
        rustix::process::getpid().as_raw_nonzero().get(),
    ];
    let inside = fs::read_to_string(dir.join("cgroup.procs"))?;
    let inside: Vec<i32> = inside
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    if let Some(other) = inside.iter().find(|pid| !ours.contains(pid)) {
        let text = format!(
            "process {other}, which is not ours, is in this group; start the server in a group of \
             its own (systemd: `Delegate=yes`)"
        );
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    let server = server.as_raw_nonzero().get();
    let start = start_time(server).unwrap_or(0);
    let leaf = dir.join(format!("{PREFIX}{server}-{start}{SERVER_SUFFIX}"));
    match fs::create_dir(&leaf) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
        _ => {}
    }
    for pid in inside {
        fs::write(leaf.join("cgroup.procs"), pid.to_string())?;
    }
    fs::write(&control, enable_text(dir))
}

fn strip_server_leaf(own: &Path) -> PathBuf {
    let leaf = own
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    match own.parent() {
        Some(parent) if leaf.starts_with(PREFIX) && leaf.ends_with(SERVER_SUFFIX) => parent.into(),
        _ => own.into(),
    }
}

fn make_base(dir: &Path, name: &str) -> io::Result<PathBuf> {
    let base = dir.join(name);
    fs::create_dir(&base)?;
    Ok(base)
}

fn own_name(server: Pid) -> String {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let start = start_time(pid).unwrap_or(0);
    format!("{PREFIX}{pid}-{start}-{}", server.as_raw_nonzero())
}

/// When a process started, in clock ticks since boot: tells it from a later one with its number.
/// `None` for one that has ended, also while its parent has not yet taken note of that.
fn start_time(pid: i32) -> Option<u64> {
    started(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn started(stat: &str) -> Option<u64> {
    // The name, in parentheses, may contain anything; the fields after it are a letter and numbers.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Removes the directories of spawners and servers that no longer run.
fn remove_stale(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_stale(name)) else {
            continue;
        };
        // In a server's leaf there may be others that it started, which are not ours to end.
        if !name.ends_with(SERVER_SUFFIX) {
            clear(&entry.path());
        }
        let _ = fs::remove_dir(entry.path());
    }
}

/// Removes what the notes of dead spawners name.
fn remove_noted(notes: &Path) {
    let entries = fs::read_dir(notes).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        if !name.to_str().is_some_and(is_stale) {
            continue;
        }
        for base in fs::read_to_string(entry.path())
            .unwrap_or_default()
            .lines()
            .map(Path::new)
        {
            // A damaged note must not send us anywhere else.
            if base.file_name() == Some(&name) {
                clear(base);
                let _ = fs::remove_dir(base);
            }
        }
        let _ = fs::remove_file(entry.path());
    }
}

fn is_stale(name: &str) -> bool {
    let mut parts = name.strip_prefix(PREFIX).unwrap_or_default().splitn(3, '-');
    let pid = parts.next().and_then(|pid| pid.parse::<i32>().ok());
    let start = parts.next().and_then(|start| start.parse::<u64>().ok());
    let (Some(pid), Some(start), Some(_)) = (pid, start, parts.next()) else {
        return false;
    };
    start_time(pid) != Some(start)
}

/// Kills what is in the groups below `base` and removes them.
fn clear(base: &Path) {
    for_each_group(base, &mut |dir| {
        // A frozen process of v1 cannot die.
        let state = dir.join("freezer.state");
        if state.exists() {
            let _ = fs::write(state, "THAWED");
        }
        let processes = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in processes
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter_map(Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    });
    // Dying takes a moment, and nobody tells when a group of another process has become empty.
    for _ in 0..20 {
        remove_tree_below(base);
        if fs::read_dir(base).is_ok_and(|mut entries| {
            !entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_dir()))
        }) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn for_each_group(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for child in children(dir) {
        for_each_group(&child, visit);
    }
    visit(dir);
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let directories = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

fn remove_tree_below(dir: &Path) {
    for child in children(dir) {
        remove_tree(&child);
    }
}

fn remove_tree(dir: &Path) {
    remove_tree_below(dir);
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 25 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 /docker/abc /sys/fs/cgroup/pids ro,nosuid shared:11 master:2 - cgroup cgroup rw,pids
33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 25 0:30 / /home rw - ext4 /dev/sda rw";
    const MEMBERSHIP: &str = "\
9:name=systemd:/
8:pids:/docker/abc/x
4:memory:/process_api/7d
2:cpu,cpuacct:/
0::/user.slice";

    #[test]
    fn a_mixed_host_is_understood() {
        let found = parse(HYBRID, MEMBERSHIP);
        let v1 = [
            ("memory", "/sys/fs/cgroup/memory/process_api/7d"),
            ("cpu", "/sys/fs/cgroup/cpu,cpuacct"),
            ("pids", "/sys/fs/cgroup/pids/x"),
        ];
        assert_eq!(
            found.v1,
            v1.map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
        );
        let v2 = found.v2.unwrap();
        assert_eq!(v2.own, Path::new("/sys/fs/cgroup/unified/user.slice"));
    }

    #[test]
    fn nonsense_in_proc_is_ignored() {
        assert_eq!(
            parse("a b - cgroup\n - cgroup2 x y\n\n", "::\n1\n"),
            Found::default()
        );
    }

    #[test]
    fn only_directories_of_the_dead_are_stale() {
        let own = own_name(rustix::process::getpid());
        assert!(!is_stale(&own));
        let (alive, _) = own.rsplit_once('-').unwrap();
        assert!(!is_stale(&format!("{alive}{SERVER_SUFFIX}")));
        assert!(is_stale(&format!("{alive}9{SERVER_SUFFIX}")));
        assert!(is_stale("firn-999999999-1-5"));
        for foreign in [
            "firn",
            "firn-",
            "firn-a-b-c",
            "system.slice",
            "firn-1",
            "firn-1-2",
            "x-1-1-1",
        ] {
            assert!(!is_stale(foreign), "{foreign}");
        }
    }

    #[test]
    fn notes_of_the_dead_lead_to_their_groups_and_nowhere_else() {
        let (notes, groups) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dead = groups.path().join("firn-999999999-1-5");
        let innocent = groups.path().join("innocent");
        fs::create_dir_all(dead.join("env-1")).unwrap();
        fs::create_dir(&innocent).unwrap();
        let text = format!("{}\n{}\n", dead.display(), innocent.display());
        fs::write(notes.path().join("firn-999999999-1-5"), text).unwrap();
        let alive = own_name(rustix::process::getpid());
        fs::write(notes.path().join(&alive), "").unwrap();
        remove_noted(notes.path());
        assert!(!dead.exists());
        assert!(innocent.exists());
        assert!(notes.path().join(alive).exists());
        assert!(!notes.path().join("firn-999999999-1-5").exists());
    }

    #[test]
    fn a_process_that_has_ended_is_not_running_though_its_number_is_taken() {
        let stat =
            |state| format!("7 (a) b) {state} 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 882466 0 0 0");
        assert_eq!(started(&stat("S")), Some(882_466));
        assert_eq!(started(&stat("Z")), None);
        assert_eq!(started("7 (a"), None);
    }

    #[test]
    fn the_servers_own_leaf_is_not_where_groups_go() {
        let leaf = Path::new("/x/firn.service/firn-12-34-server");
        assert_eq!(strip_server_leaf(leaf), Path::new("/x/firn.service"));
        assert_eq!(strip_server_leaf(Path::new("/x/a")), Path::new("/x/a"));
    }

    #[test]
    fn controllers_are_enabled_only_where_they_exist() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("cgroup.controllers"),
            "cpuset cpu io memory pids\n",
        )
        .unwrap();
        fs::write(dir.path().join("cgroup.subtree_control"), "").unwrap();
        let server = rustix::process::getpid();
        enable_controllers(dir.path(), server).unwrap();
        let written = fs::read_to_string(dir.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(written, "+memory +pids +cpu ");
    }
}
