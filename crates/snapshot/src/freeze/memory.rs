//! What the address space consists of.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;

use super::error::{Doing, Result, unsupported};
use super::objects::{Objects, read_memory};
use super::pagemap::{Pagemap, Pick};
use super::pages::{Between, Pages, save};
use super::proc::Vma;
use super::registers::RSP;
use super::root::{self, Root};
use super::tracee::Tracee;
use crate::{Advice, Backing, MappedFile, Mapping, PAGE, Segment, Special};

/// Mappings up to this size that are nearly all private are saved whole, which saves a clone a
/// mapping of the file below.
const SMALL: u64 = 64 * PAGE;
const NEARLY: u64 = 16 * PAGE;

/// Names of the mappings that the kernel makes by itself.
pub const SPECIAL: [&[u8]; 3] = [b"[vvar]", b"[vvar_vclock]", b"[vdso]"];

pub struct Memory {
    pub mappings: Vec<Mapping>,
    pub special: Vec<Special>,
    pub files: Vec<MappedFile>,
}

/// A mapping of which the content has not been written yet.
struct Planned<'a> {
    vma: &'a Vma,
    backing: Backing,
    content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// As the backing.
    None,
    /// The process's own pages.
    Private,
    /// Everything: the backing has no name.
    All,
}

pub fn collect(
    tracee: &Tracee,
    vmas: &[Vma],
    root: &Root,
    scratch: &[&str],
    objects: &mut Objects,
    pages: &mut Pages<'_>,
) -> Result<Memory> {
    let map = Pagemap::open(tracee.pid).doing(|| "open the pagemap".into())?;
    refuse_guards(&map, vmas)?;
    let mut files = Files::new(root, scratch);
    let mut special = Vec::new();
    let mut planned = Vec::new();
    for vma in vmas {
        if SPECIAL.contains(&&*vma.name) {
            special.push(Special {
                name: root::show(&vma.name).into_owned(),
                start: vma.start,
                end: vma.end,
            });
        } else if vma.name != b"[vsyscall]" {
            planned.push(plan(tracee.pid, vma, &mut files, objects)?);
        }
    }
    let segments = write(tracee, &map, &planned, &files, pages)?;
    let mappings = planned
        .iter()
        .zip(segments)
        .map(|(planned, segments)| Mapping {
            start: planned.vma.start,
            end: planned.vma.end,
            protection: protection(planned.vma),
            backing: planned.backing,
            segments,
            advice: advice(planned.vma),
        });
    Ok(Memory {
        mappings: mappings.collect(),
        special,
        files: files.list,
    })
}

/// Decides what a mapping shows, or that this cannot be told.
fn plan<'a>(
    pid: i32,
    vma: &'a Vma,
    files: &mut Files<'_>,
    objects: &mut Objects,
) -> Result<Planned<'a>> {
    refuse_odd(vma)?;
    let plan = |backing, content| {
        Ok(Planned {
            vma,
            backing,
            content,
        })
    };
    let name = &*vma.name;
    if vma.inode == 0 || (name == b"/dev/zero" && !vma.shared) {
        let known = name.is_empty()
            || matches!(name, b"[heap]" | b"[stack]" | b"/dev/zero")
            || name.starts_with(b"[anon:")
            || name.starts_with(b"[stack:");
        if !known || vma.shared {
            return unsupported(vma.describe());
        }
        let content = if vma.has(b"wf") {
            Content::None
        } else {
            Content::Private
        };
        return plan(Backing::Anonymous, content);
    }
    let nameless = root::deleted(name).is_some() || name.starts_with(b"[anon_shmem:");
    match (vma.shared, nameless) {
        (true, true) => {
            let object = objects.add_mapping(pid, vma);
            let offset = vma.offset;
            plan(Backing::Object { object, offset }, Content::None)
        }
        (false, true) => plan(Backing::Anonymous, Content::All),
        (shared, false) => {
            let writable = shared && vma.has(b"mw");
            let file = files.add(vma, writable)?;
            let offset = vma.offset;
            if shared {
                plan(Backing::Shared { file, offset }, Content::None)
            } else {
                plan(Backing::Private { file, offset }, Content::Private)
            }
        }
    }
}

fn refuse_odd(vma: &Vma) -> Result<()> {
    const ODD: [(&[u8; 2], &str); 10] = [
        (b"io", "shows a device"),
        (b"pf", "shows a device"),
        (b"mm", "shows a device"),
        (b"sf", "shows persistent memory"),
        (b"ht", "uses huge pages of hugetlbfs"),
        (b"um", "is watched by a userfaultfd"),
        (b"uw", "is watched by a userfaultfd"),
        (b"ui", "is watched by a userfaultfd"),
        (b"ss", "is a shadow stack"),
        (b"sl", "is sealed"),
    ];
    for (flag, what) in ODD {
        if vma.has(flag) {
            return unsupported(format!("{} {what}", vma.describe()));
        }
    }
    let odd_name = |name: &[u8]| -> Option<&str> {
        let starts = |prefix: &[u8]| name.starts_with(prefix);
        if starts(b"/SYSV") && vma.shared {
            Some("is System V shared memory")
        } else if starts(b"/[aio]") {
            Some("is a context of asynchronous I/O")
        } else if starts(b"anon_inode:[io_uring]") {
            Some("is an io_uring")
        } else if starts(b"/secretmem") {
            Some("is secret memory")
        } else if starts(b"anon_inode:") || starts(b"socket:") {
            Some("does not show a file")
        } else {
            None
        }
    };
    match odd_name(&vma.name) {
        Some(what) => unsupported(format!("{} {what}", vma.describe())),
        None if vma.protection_key != 0 => {
            unsupported(format!("{} has a protection key", vma.describe()))
        }
        None => Ok(()),
    }
}

/// Guard regions look like ordinary memory, but are not.
fn refuse_guards(map: &Pagemap, vmas: &[Vma]) -> Result<()> {
    if let Some(vma) = vmas.iter().find(|vma| vma.has(b"gu")) {
        return unsupported(format!("{} has guard regions", vma.describe()));
    }
    let (Some(first), Some(last)) = (
        vmas.first(),
        vmas.iter().rfind(|vma| vma.name != b"[vsyscall]"),
    ) else {
        return Ok(());
    };
    let found = map.runs(Pick::Guard, first.start, last.end);
    // Kernels that cannot be asked cheaply have no guard regions.
    let found = found.unwrap_or_default();
    match found.first() {
        Some((at, _)) => unsupported(format!("the memory at {at:x} is a guard region")),
        None => Ok(()),
    }
}

fn protection(vma: &Vma) -> u32 {
    let bit = |set, bit: i32| if set { bit.cast_unsigned() } else { 0 };
    bit(vma.read, libc::PROT_READ)
        | bit(vma.write, libc::PROT_WRITE)
        | bit(vma.execute, libc::PROT_EXEC)
}

fn advice(vma: &Vma) -> Advice {
    Advice {
        grows_down: vma.has(b"gd"),
        no_reserve: vma.has(b"nr"),
        huge_pages: match (vma.has(b"hg"), vma.has(b"nh")) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        },
        dont_fork: vma.has(b"dc"),
        dont_dump: vma.has(b"dd"),
        wipe_on_fork: vma.has(b"wf"),
        locked: vma.has(b"lo"),
        mergeable: vma.has(b"mg"),
    }
}

/// Writes the contents: what every clone touches first lies together.
fn write(
    tracee: &Tracee,
    map: &Pagemap,
    planned: &[Planned<'_>],
    files: &Files<'_>,
    pages: &mut Pages<'_>,
) -> Result<Vec<Vec<Segment>>> {
    let stacks: Vec<u64> = tracee
        .threads
        .iter()
        .map(|thread| thread.registers[RSP])
        .collect();
    let class = |planned: &Planned<'_>| {
        let vma = planned.vma;
        let is_stack = stacks.iter().any(|sp| (vma.start..vma.end).contains(sp));
        match (is_stack, planned.backing) {
            (true, _) => 0,
            (_, Backing::Private { .. }) => 1,
            _ if vma.name == b"[heap]" => 2,
            _ => 3,
        }
    };
    let mut order: Vec<usize> = (0..planned.len()).collect();
    order.sort_by_key(|at| class(&planned[*at]));
    let mut segments = vec![Vec::new(); planned.len()];
    for at in order {
        let planned = &planned[at];
        let (runs, between) = match planned.content {
            Content::None => continue,
            Content::All => (vec![(planned.vma.start, planned.vma.end)], Between::Zeroes),
            Content::Private if planned.vma.anonymous == 0 => continue,
            Content::Private => {
                let (mut runs, between) = private_runs(map, planned, files)?;
                forget_dead(planned.vma, &stacks, &mut runs);
                (runs, between)
            }
        };
        let read = |at, bytes: &mut [u8]| match planned.content {
            Content::All => read_memory(&tracee.memory, at, bytes),
            _ => tracee.memory.read_exact_at(bytes, at),
        };
        segments[at] = save(pages, &read, &runs, between)?;
    }
    Ok(segments)
}

type Runs = Vec<(u64, u64)>;

/// What leaf functions may use below the stack pointer without moving it.
const RED_ZONE: u64 = 128;

/// Leaves out what lies below the stack pointer: what was there has returned, and any signal may
/// have written over it. A thaw copies stacks page by page.
fn forget_dead(vma: &Vma, stack_pointers: &[u64], runs: &mut Runs) {
    let inside = stack_pointers
        .iter()
        .filter(|pointer| (vma.start..vma.end).contains(*pointer));
    let Some(lowest) = inside.min().filter(|_| vma.has(b"gd")) else {
        return;
    };
    let live = (lowest.saturating_sub(RED_ZONE) & !(PAGE - 1)).max(vma.start);
    runs.retain_mut(|(start, end)| {
        *start = live.max(*start);
        *start < *end
    });
}

fn private_runs(
    map: &Pagemap,
    planned: &Planned<'_>,
    files: &Files<'_>,
) -> Result<(Runs, Between)> {
    let vma = planned.vma;
    let runs = map.runs(Pick::Private, vma.start, vma.end);
    let mut runs = runs.doing(|| "read the pagemap".into())?;
    let private: u64 = runs.iter().map(|(start, end)| end - start).sum();
    let file = match planned.backing {
        Backing::Private { file, offset } => {
            let size = files.list[file as usize].size.next_multiple_of(PAGE);
            // Beyond the end of its file there is no memory to save.
            let end = vma.start + size.saturating_sub(offset);
            runs.retain(|(start, _)| *start < end);
            Some(end)
        }
        _ => None,
    };
    let complete = file.is_none_or(|end| end >= vma.end);
    if complete && vma.len() <= SMALL && vma.len() - private <= NEARLY && private > 0 {
        runs = vec![(vma.start, vma.end)];
        return Ok((runs, Between::File));
    }
    let between = if file.is_some() {
        Between::File
    } else {
        Between::Zeroes
    };
    Ok((runs, between))
}

/// Files that mappings show.
struct Files<'a> {
    root: &'a Root,
    scratch: &'a [&'a str],
    list: Vec<MappedFile>,
    /// Number and inode.
    by_path: HashMap<Vec<u8>, (u32, u64)>,
}

impl<'a> Files<'a> {
    fn new(root: &'a Root, scratch: &'a [&'a str]) -> Self {
        Self {
            root,
            scratch,
            list: Vec::new(),
            by_path: HashMap::new(),
        }
    }

    fn add(&mut self, vma: &Vma, writable: bool) -> Result<u32> {
        let path = &vma.name;
        let show = || root::show(path);
        if writable && !root::is_below(path, self.scratch) {
            return unsupported(format!("the file {} is mapped for writing", show()));
        }
        if let Some((file, inode)) = self.by_path.get(path)
            && *inode == vma.inode
        {
            self.list[*file as usize].writable |= writable;
            return Ok(*file);
        }
        if !path.starts_with(b"/") {
            return unsupported(vma.describe());
        }
        let Ok(stat) = self.root.stat(path) else {
            return unsupported(format!("the mapped file {} cannot be reached", show()));
        };
        if !root::is_regular(&stat) {
            return unsupported(format!("{} is mapped, and no regular file", show()));
        }
        // The device can differ without a difference, on overlays.
        if stat.st_ino != vma.inode {
            return unsupported(format!("the mapped file {} has been replaced", show()));
        }
        let file = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(MappedFile {
            path: path.clone(),
            writable,
            size: root::size(&stat),
            modified_ns: root::modified_ns(&stat),
        });
        self.by_path.insert(path.clone(), (file, vma.inode));
        Ok(file)
    }
}
