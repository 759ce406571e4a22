//! Looks into mapped programs and libraries.
//!
//! The files belong to the function and can hold anything; every number in them is checked.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A loadable part of a file.
#[derive(Debug, Clone, Copy)]
struct Load {
    offset: u64,
    address: u64,
    file_len: u64,
    executable: bool,
}

/// An ELF file for this kind of machine.
pub struct Elf<'a> {
    file: &'a File,
    loads: Vec<Load>,
    dynamic: Option<(u64, u64)>,
}

/// An exported function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// As linked.
    pub address: u64,
}

const PAGE_MASK: u64 = !(crate::PAGE - 1);
/// Nobody has more, and each is read.
const MAX_HEADERS: usize = 256;
const MAX_DYNAMIC: usize = 64 << 10;
/// Longest chain of a hash bucket that is followed.
const MAX_CHAIN: u32 = 1 << 20;

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(part) = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()) {
        word[..N].copy_from_slice(part);
    }
    u64::from_le_bytes(word)
}

impl<'a> Elf<'a> {
    /// `None` if it is no ELF file, or not one for 64 bits, little endian.
    pub fn open(file: &'a File) -> Option<Self> {
        let mut header = [0; 64];
        file.read_exact_at(&mut header, 0).ok()?;
        if header[..6] != *b"\x7fELF\x02\x01" {
            return None;
        }
        let (table, size, count) = (
            number::<8>(&header, 0x20),
            usize::try_from(number::<2>(&header, 0x36)).ok()?,
            usize::try_from(number::<2>(&header, 0x38)).ok()?,
        );
        if size < 56 || count > MAX_HEADERS {
            return None;
        }
        let mut headers = vec![0; size * count];
        file.read_exact_at(&mut headers, table).ok()?;
        let mut elf = Self {
            file,
            loads: Vec::new(),
            dynamic: None,
        };
        for header in headers.chunks_exact(size) {
            elf.take_header(header);
        }
        Some(elf)
    }

    fn take_header(&mut self, header: &[u8]) {
        const LOAD: u64 = 1;
        const DYNAMIC: u64 = 2;
        let (offset, len) = (number::<8>(header, 8), number::<8>(header, 32));
        match number::<4>(header, 0) {
            LOAD => self.loads.push(Load {
                offset,
                address: number::<8>(header, 16),
                file_len: len,
                executable: number::<4>(header, 4) & 1 != 0,
            }),
            DYNAMIC => self.dynamic = Some((offset, len)),
            _ => {}
        }
    }

    /// Difference between addresses at run time and as linked, from the mapping of a piece of code
    /// that begins at `start` and shows the file from `offset`.
    pub fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        let code = self.loads.iter().filter(|load| load.executable);
        let mut shown = code.filter(|load| {
            let end = load.offset.saturating_add(load.file_len);
            (load.offset & PAGE_MASK) <= offset && offset < end
        });
        let load = shown.next()?;
        let linked = load.address.wrapping_sub(load.offset).wrapping_add(offset);
        Some(start.wrapping_sub(linked))
    }

    /// Reads at an address as linked.
    fn read(&self, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        let holds = |load: &&Load| {
            let inside = address.checked_sub(load.address);
            inside.is_some_and(|inside| inside.saturating_add(bytes.len() as u64) <= load.file_len)
        };
        let load = self.loads.iter().find(holds);
        let load = load.ok_or(io::ErrorKind::InvalidData)?;
        let at = load.offset.checked_add(address - load.address);
        self.file
            .read_exact_at(bytes, at.ok_or(io::ErrorKind::InvalidData)?)
    }

    fn word<const N: usize>(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; N];
        self.read(address, &mut bytes).ok()?;
        Some(number::<N>(&bytes, 0))
    }

    /// A function that the file exports by its dynamic symbol table.
    pub fn function(&self, name: &str) -> Option<Function> {
        const HASH: u64 = 4;
        const STRINGS: u64 = 5;
        const SYMBOLS: u64 = 6;
        const GNU_HASH: u64 = 0x6fff_fef5;
        let (offset, len) = self.dynamic?;
        let mut entries = vec![0; usize::try_from(len).ok()?.min(MAX_DYNAMIC)];
        self.file.read_exact_at(&mut entries, offset).ok()?;
        let find = |tag| {
            let (entries, _) = entries.as_chunks::<16>();
            let entry = entries.iter().find(|entry| number::<8>(*entry, 0) == tag)?;
            Some(number::<8>(entry, 8))
        };
        let tables = Tables {
            elf: self,
            symbols: find(SYMBOLS)?,
            strings: find(STRINGS)?,
        };
        match (find(GNU_HASH), find(HASH)) {
            (Some(table), _) => tables.gnu_hash(table, name),
            (None, Some(table)) => tables.system_v_hash(table, name),
            (None, None) => None,
        }
    }
}

struct Tables<'a> {
    elf: &'a Elf<'a>,
    symbols: u64,
    strings: u64,
}

impl Tables<'_> {
    /// Symbol number `index`, if it has this name and is an ordinary function that is defined here.
    fn symbol(&self, index: u64, name: &str) -> Option<Function> {
        const FUNCTION: u8 = 2;
        let at = self.symbols.checked_add(index.checked_mul(24)?)?;
        let mut symbol = [0; 24];
        self.elf.read(at, &mut symbol).ok()?;
        let section = number::<2>(&symbol, 6);
        let name_at = self.strings.checked_add(number::<4>(&symbol, 0))?;
        let mut its_name = vec![0; name.len() + 1];
        self.elf.read(name_at, &mut its_name).ok()?;
        let same = its_name.strip_suffix(&[0]) == Some(name.as_bytes());
        let address = number::<8>(&symbol, 8);
        (same && symbol[4] & 0xf == FUNCTION && section != 0).then_some(Function { address })
    }

    fn gnu_hash(&self, table: u64, name: &str) -> Option<Function> {
        let word = |index: u64| {
            self.elf
                .word::<4>(table.checked_add(index.checked_mul(4)?)?)
        };
        let (buckets, first, bloom) = (word(0)?, word(1)?, word(2)?);
        if buckets == 0 {
            return None;
        }
        let hash = name.bytes().fold(5381_u32, |hash, byte| {
            hash.wrapping_mul(33).wrapping_add(u32::from(byte))
        });
        // Behind the header of four words and the filter of `bloom` double words.
        let bucket_at = 4 + bloom * 2;
        let chain_at = bucket_at + buckets;
        let begin = word(bucket_at + u64::from(hash) % buckets)?;
        for index in begin..begin + u64::from(MAX_CHAIN) {
            let entry = word(chain_at.checked_add(index.checked_sub(first)?)?)?;
            if entry | 1 == u64::from(hash | 1)
                && let Some(found) = self.symbol(index, name)
            {
                return Some(found);
            }
            if entry & 1 != 0 {
                return None;
            }
        }
        None
    }

    fn system_v_hash(&self, table: u64, name: &str) -> Option<Function> {
        let word = |index: u64| {
            self.elf
                .word::<4>(table.checked_add(index.checked_mul(4)?)?)
        };
        let buckets = word(0)?;
        if buckets == 0 {
            return None;
        }
        let hash = name.bytes().fold(0_u32, |hash, byte| {
            let hash = (hash << 4).wrapping_add(u32::from(byte));
            let high = hash & 0xf000_0000;
            (hash ^ (high >> 24)) & !high
        });
        let mut index = word(2 + u64::from(hash) % buckets)?;
        for _ in 0..MAX_CHAIN {
            if index == 0 {
                return None;
            }
            if let Some(found) = self.symbol(index, name) {
                return Some(found);
            }
            index = word(2 + buckets + index)?;
        }
        None
    }
}

/// Which of the words occur anywhere in a file.
pub fn mentions(file: &File, words: &[&'static str]) -> io::Result<Vec<&'static str>> {
    const CHUNK: usize = 1 << 20;
    let overlap = words.iter().map(|word| word.len()).max().unwrap_or(1) - 1;
    let mut found = vec![false; words.len()];
    let mut buffer = vec![0; CHUNK];
    let finders: Vec<_> = words
        .iter()
        .map(|word| memchr::memmem::Finder::new(*word))
        .collect();
    let mut at = 0;
    loop {
        let got = match file.read_at(&mut buffer, at) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            got => got?,
        };
        for (finder, found) in finders.iter().zip(&mut found) {
            *found |= finder.find(&buffer[..got]).is_some();
        }
        if got <= overlap {
            break;
        }
        at += (got - overlap) as u64;
    }
    let found = words.iter().zip(found).filter(|(_, found)| *found);
    Ok(found.map(|(word, _)| *word).collect())
}

#[cfg(test)]
mod tests {
    use super::{Elf, mentions};
    use proptest::prelude::*;
    use std::fs::File;
    use std::io::Write;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn libc_path() -> String {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps
            .lines()
            .find(|line| line.contains("/libc.so") || line.contains("/libc-"));
        line.unwrap()
            .split_ascii_whitespace()
            .last()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn a_function_of_libc_is_found_where_it_is() {
        let path = libc_path();
        let file = File::open(&path).unwrap();
        let elf = Elf::open(&file).unwrap();
        let function = elf.function("getpid").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let code = maps
            .lines()
            .find(|line| line.ends_with(&path) && line.contains("r-xp"));
        let words: Vec<_> = code.unwrap().split_ascii_whitespace().collect();
        let start = u64::from_str_radix(words[0].split('-').next().unwrap(), 16).unwrap();
        let offset = u64::from_str_radix(words[2], 16).unwrap();
        let bias = elf.bias(start, offset).unwrap();
        let expected = libc::getpid as *const () as u64;
        // A program can see another address, of its own jump table; this one has none.
        assert_eq!(bias + function.address, expected);
        assert_eq!(elf.function("no_such_function"), None);
    }

    #[test]
    fn words_are_found_also_across_chunks() {
        let mut bytes = vec![b'x'; (1 << 20) - 3];
        bytes.extend(b"jemalloc and more");
        assert_eq!(
            mentions(&file(&bytes), &["jemalloc", "mimalloc"]).unwrap(),
            ["jemalloc"]
        );
        assert!(
            mentions(&file(b"mimallo"), &["mimalloc"])
                .unwrap()
                .is_empty()
        );
        assert!(mentions(&file(b""), &["mimalloc"]).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn a_broken_file_does_no_harm(changes in prop::collection::vec((0_usize..2048, any::<u8>()), 1..40)) {
            let mut bytes = std::fs::read(libc_path()).unwrap();
            // The headers, and the hash tables, which lie near the beginning.
            for (at, value) in changes {
                bytes[at] = value;
            }
            let file = file(&bytes);
            if let Some(elf) = Elf::open(&file) {
                let _ = elf.function("getpid");
                let _ = elf.bias(0x1000, 0);
            }
        }

        #[test]
        fn noise_is_no_program(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut noise = b"\x7fELF\x02\x01".to_vec();
            noise.extend(bytes);
            let file = file(&noise);
            if let Some(elf) = Elf::open(&file) {
                let _ = elf.function("getpid");
            }
        }
    }
}
