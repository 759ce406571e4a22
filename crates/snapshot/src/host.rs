//! The machine that an image belongs to.
//!
//! Memory of a process holds choices that were made for one processor and one kernel: which
//! variant of `memcpy` to call, code compiled at run time, the layout of the extended registers,
//! addresses of functions in the vDSO.

use std::io;

use crate::Host;

/// This machine. Constant while the kernel runs.
pub fn host() -> io::Result<Host> {
    let names = rustix::system::uname();
    let mut vdso = Hash::default();
    vdso.add(&own_vdso()?);
    Ok(Host {
        machine: names.machine().to_string_lossy().into_owned(),
        kernel: names.release().to_string_lossy().into_owned(),
        vdso: vdso.finish(),
        cpu: cpu(),
    })
}

/// The vDSO's bytes are the same for all processes.
fn own_vdso() -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"));
    let Some((start, end)) = line
        .and_then(|line| line.split(' ').next())
        .and_then(|range| range.split_once('-'))
    else {
        return Ok(Vec::new());
    };
    let parse = |hex| u64::from_str_radix(hex, 16).map_err(io::Error::other);
    let (start, end) = (parse(start)?, parse(end)?);
    let len = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    std::fs::File::open("/proc/self/mem")?.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

#[cfg(target_arch = "x86_64")]
#[allow(unused_unsafe, reason = "a safe function from Rust 1.94 on")]
fn cpuid(leaf: u32, subleaf: u32) -> std::arch::x86_64::CpuidResult {
    // SAFETY: every 64-bit processor has the instruction.
    unsafe { std::arch::x86_64::__cpuid_count(leaf, subleaf) }
}

/// Says that the kernel has enabled XSAVE, in ecx of leaf 1.
#[cfg(target_arch = "x86_64")]
const OSXSAVE: u32 = 1 << 27;

/// What the processor says that it can do: the leaves that programs choose code by.
#[cfg(target_arch = "x86_64")]
fn cpu() -> u64 {
    let mut hash = Hash::default();
    let highest = cpuid(0, 0);
    hash.add_words(&[highest.ebx, highest.ecx, highest.edx]);
    let features = cpuid(1, 0);
    // Not ebx, whose upper byte tells the core that this runs on.
    hash.add_words(&[features.eax, features.ecx, features.edx]);
    for subleaf in 0..2 {
        if highest.eax >= 7 {
            let leaf = cpuid(7, subleaf);
            hash.add_words(&[leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]);
        }
    }
    if highest.eax >= 0xd && features.ecx & OSXSAVE != 0 {
        for subleaf in 0..32 {
            let leaf = cpuid(0xd, subleaf);
            // ebx of the first two is the size of what is in use at the moment.
            let size = if subleaf < 2 { 0 } else { leaf.ebx };
            hash.add_words(&[leaf.eax, size, leaf.ecx, leaf.edx]);
        }
        hash.add(&enabled_features().to_ne_bytes());
    }
    hash.finish()
}

/// XCR0: the parts of the extended state that the kernel has switched on.
#[cfg(target_arch = "x86_64")]
fn enabled_features() -> u64 {
    const LEGACY: u64 = 0b11;
    if cpuid(1, 0).ecx & OSXSAVE == 0 {
        return LEGACY;
    }
    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: XCR0 exists wherever the kernel has enabled XSAVE.
        unsafe { std::arch::x86_64::_xgetbv(0) }
    }
    // SAFETY: the processor and the kernel have XSAVE, as OSXSAVE just said.
    unsafe { xcr0() }
}

/// Where the last of the extended features of the mask ends, in the standard form of the state.
#[cfg(target_arch = "x86_64")]
pub fn extended_state_end(mask: u64) -> usize {
    let enabled = enabled_features() & mask;
    let features = (2..63).filter(|feature| enabled & (1 << feature) != 0);
    let places = features.map(|feature| cpuid(0xd, feature));
    let ends = places.map(|place| (place.ebx + place.eax) as usize);
    ends.max().unwrap_or(0)
}

/// There is no such state on other machines.
#[cfg(not(target_arch = "x86_64"))]
pub fn extended_state_end(_mask: u64) -> usize {
    0
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu() -> u64 {
    let mut hash = Hash::default();
    let features = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    for line in features.lines().filter(|line| line.starts_with("Features")) {
        hash.add(line.as_bytes());
    }
    hash.finish()
}

/// FNV-1a: the same in every build, for comparing, not for defence.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn add_words(&mut self, words: &[u32]) {
        for word in words {
            self.add(&word.to_ne_bytes());
        }
    }

    fn finish(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn a_machine_is_always_the_same() {
        let first = host().unwrap();
        // On other cores, too.
        for _ in 0..8 {
            let again = std::thread::spawn(host).join().unwrap().unwrap();
            assert_eq!(again, first);
        }
        assert!(!first.kernel.is_empty());
    }
}
