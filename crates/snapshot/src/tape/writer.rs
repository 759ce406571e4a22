//! Writing a tape: entries in streams, and the data that they point to.
//!
//! ```text
//! base           interpreter, read and execute
//! base + 4096    what the tape writes while it plays, read and write
//! ...            constants, then the streams of entries, read only
//! ```
//!
//! Addresses of data are known when an entry is written; streams are laid out at the end.

use std::collections::HashMap;

use super::TapeError;
use super::blob;
use crate::PAGE;

/// The length of the hole of the address space that a tape asks for; the kernel's own mappings are
/// parked at its end.
pub const REGION: u64 = 32 << 20;
/// Of which the tape itself may use so much.
const MAX_TAPE: u64 = REGION - (1 << 20);
pub const ENTRY_BYTES: u64 = 64;

/// What an entry's call must answer.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// Exactly this.
    Is(u64),
    /// Anything but an error.
    Success,
    Anything,
    /// Of a `connect` that need not wait.
    Connecting,
}

const PSEUDO: u64 = 0x10000;

/// What the interpreter does besides calls. The numbers are in `blob.rs`.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Loads all registers from a signal frame.
    Return { frame: u64 },
    /// Sleeps until the word is set.
    Wait { word: u64 },
    /// Sets the word and wakes all.
    Release { word: u64 },
    /// Counts up, and wakes who gathers at `all`.
    Arrive { word: u64, all: u32 },
    /// Sleeps until the count is `all`.
    Gather { word: u64, all: u32 },
    /// Calls a C function without arguments.
    Call { function: u64, stack: u64 },
    /// Goes on with the entries and the interpreter of another tape.
    Goto { code: u64, entry: u64 },
}

/// One sequence of entries, which one thread plays.
#[derive(Debug, Default)]
pub struct Stream {
    words: Vec<u64>,
    label: Option<(u64, u64)>,
}

impl Stream {
    pub fn call(&mut self, number: i64, args: &[u64], expect: Expect) {
        let mut entry = [0; 8];
        entry[0] = number.cast_unsigned();
        for (to, from) in entry[1..7].iter_mut().zip(args) {
            *to = *from;
        }
        entry[7] = match expect {
            Expect::Is(value) => value,
            Expect::Success => 1 << 63,
            Expect::Anything => (1 << 63) + 1,
            Expect::Connecting => (1 << 63) + 2,
        };
        self.words.extend(entry);
    }

    pub fn step(&mut self, step: Step) {
        let (number, a, b) = match step {
            Step::Return { frame } => (0, frame, 0),
            Step::Wait { word } => (1, word, 0),
            Step::Release { word } => (2, word, 0),
            Step::Arrive { word, all } => (3, word, u64::from(all)),
            Step::Gather { word, all } => (4, word, u64::from(all)),
            Step::Call { function, stack } => (6, function, stack),
            Step::Goto { code, entry } => (7, code, entry),
        };
        self.words.extend([PSEUDO + number, a, b, 0, 0, 0, 0, 0]);
    }

    /// Says what the entries from here on are about, for the case that one fails.
    pub fn label(&mut self, (address, len): (u64, u64)) {
        if self.label != Some((address, len)) {
            self.label = Some((address, len));
            self.words.extend([PSEUDO + 5, address, len, 0, 0, 0, 0, 0]);
        }
    }

    pub fn entries(&self) -> usize {
        self.words.len() / 8
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }
}

/// A tape in the making.
pub struct Writer {
    pub base: u64,
    writable_len: u64,
    writable_used: u64,
    writable: Vec<(u64, u64)>,
    constants: Vec<u8>,
    texts: HashMap<Vec<u8>, u64>,
    /// Constants (offset) that become the address of a stream.
    streams: Vec<(usize, Stream)>,
    pub main: Stream,
}

/// A finished tape, from its base on.
pub struct Written {
    pub bytes: Vec<u8>,
    /// Address of the main thread's entries.
    pub entry: u64,
    /// Bytes of the writable part, which begins one page after the base.
    pub writable_len: u64,
}

impl Writer {
    /// `writable`: how many words the tape will need to write.
    pub fn new(base: u64, writable_words: usize) -> Self {
        // The first 64 bytes are the interpreter's.
        let writable_len = (64 + writable_words as u64 * 8).next_multiple_of(PAGE);
        Self {
            base,
            writable_len,
            writable_used: 64,
            writable: Vec::new(),
            constants: Vec::new(),
            texts: HashMap::new(),
            streams: Vec::new(),
            main: Stream::default(),
        }
    }

    /// A word that the tape may change.
    pub fn word(&mut self, initial: u64) -> Result<u64, TapeError> {
        let offset = self.writable_used;
        if offset + 8 > self.writable_len {
            return Err(TapeError::TooLarge);
        }
        self.writable_used += 8;
        if initial != 0 {
            self.writable.push((offset, initial));
        }
        Ok(self.base + PAGE + offset)
    }

    fn constants_base(&self) -> u64 {
        self.base + PAGE + self.writable_len
    }

    /// Room for constant bytes; returns their address.
    pub fn constant(&mut self, bytes: &[u8], align: usize) -> u64 {
        self.constants
            .resize(self.constants.len().next_multiple_of(align), 0);
        let address = self.constants_base() + self.constants.len() as u64;
        self.constants.extend(bytes);
        address
    }

    pub fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.constant(&bytes, 8)
    }

    /// A C string; equal ones are kept once.
    pub fn text(&mut self, text: &[u8]) -> u64 {
        if let Some(address) = self.texts.get(text) {
            return *address;
        }
        let address = self.constant(text, 1);
        self.constants.push(0);
        self.texts.insert(text.to_vec(), address);
        address
    }

    /// Labels what follows in the main stream.
    pub fn about(&mut self, text: &str) {
        let address = self.text(text.as_bytes());
        self.main.label((address, text.len() as u64));
    }

    /// A constant that holds the address of another thread's entries.
    pub fn stream(&mut self, stream: Stream) -> u64 {
        let address = self.words(&[0]);
        self.streams.push((self.constants.len() - 8, stream));
        address
    }

    pub fn call(&mut self, number: i64, args: &[u64], expect: Expect) {
        self.main.call(number, args, expect);
    }

    pub fn finish(mut self) -> Result<Written, TapeError> {
        let constants_len = (self.constants.len() as u64).next_multiple_of(ENTRY_BYTES);
        let entry = self.constants_base() + constants_len;
        let mut next = entry + self.main.words.len() as u64 * 8;
        for (at, stream) in &self.streams {
            self.constants[*at..*at + 8].copy_from_slice(&next.to_le_bytes());
            next += stream.words.len() as u64 * 8;
        }
        if next - self.base > MAX_TAPE {
            return Err(TapeError::TooLarge);
        }
        let mut bytes = blob::code().to_vec();
        bytes.resize(usize_of(PAGE), 0);
        bytes.extend(blob::REPORT);
        bytes.resize(usize_of(PAGE + self.writable_len), 0);
        for (offset, value) in &self.writable {
            let at = usize_of(PAGE + offset);
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes.extend(&self.constants);
        bytes.resize(usize_of(entry - self.base), 0);
        let streams = self.streams.iter().map(|(_, stream)| stream);
        for stream in std::iter::once(&self.main).chain(streams) {
            bytes.extend(stream.bytes());
        }
        Ok(Written {
            bytes,
            entry,
            writable_len: self.writable_len,
        })
    }
}

/// Tapes exist on 64-bit machines only.
fn usize_of(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
