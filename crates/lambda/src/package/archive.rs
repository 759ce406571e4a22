//! Reads zip archives that nobody has vouched for.
//!
//! Written for this one purpose instead of using a general library, because a deployment package
//! is judged by what a library hides: duplicate names, sizes that lie, entries that overlap the
//! directory. Nothing is trusted until it has been read: the central directory is bounded before
//! it is loaded, and an entry's size and checksum are compared with what inflating it gives.
//! Follows APPNOTE.TXT 6.3.10 (stored and deflated entries, ZIP64; no encryption, no splitting).

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::read::DeflateDecoder;

/// More entries than any package that AWS could run: each one costs an inode here.
pub const MAX_ENTRIES: u64 = 200_000;
/// The central directory is held in memory, so it is bounded (names, extra fields, comments).
const MAX_DIRECTORY_BYTES: u64 = 64 << 20;
/// The end record (22 bytes) and the longest comment that may follow it.
const MAX_END_BYTES: u64 = 22 + 0xffff;

const END_SIGNATURE: u32 = 0x0605_4b50;
const END64_LOCATOR_SIGNATURE: u32 = 0x0706_4b50;
const END64_SIGNATURE: u32 = 0x0606_4b50;
const ENTRY_SIGNATURE: u32 = 0x0201_4b50;
const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const UNIX: u8 = 3;
const MACOS: u8 = 19;

/// Why an archive cannot be used. None of the texts reach an AWS client; they are for the log.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("the archive is malformed: {0}")]
    Malformed(&'static str),
    #[error("the archive uses a feature that is not supported: {0}")]
    Unsupported(&'static str),
}

/// One entry of the central directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As stored: zip names are bytes, and on Linux so are file names.
    pub name: Vec<u8>,
    /// Unix type and permission bits, if the archive was made on a system that has them.
    pub mode: Option<u32>,
    /// What the directory claims; [`Archive::read`] refuses an entry that says otherwise.
    pub size: u64,
    compressed_size: u64,
    crc32: u32,
    method: Method,
    header_offset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Stored,
    Deflated,
}

/// An archive whose directory has been read.
#[derive(Debug)]
pub struct Archive<R> {
    source: R,
    entries: Vec<Entry>,
    /// Bytes before the archive proper (a self-extracting stub); offsets count from its end.
    base: u64,
    directory_start: u64,
}

struct End {
    entries: u64,
    directory_size: u64,
    directory_offset: u64,
    /// Where the end records begin, which is where the directory must end.
    position: u64,
}

impl<R: Read + Seek> Archive<R> {
    /// Reads and checks the central directory.
    pub fn open(mut source: R) -> Result<Self, ArchiveError> {
        let end = find_end(&mut source)?;
        if end.entries > MAX_ENTRIES {
            return Err(ArchiveError::Malformed("too many entries"));
        }
        if end.directory_size > MAX_DIRECTORY_BYTES {
            return Err(ArchiveError::Malformed("the directory is too large"));
        }
        let directory_start = end
            .position
            .checked_sub(end.directory_size)
            .ok_or(ArchiveError::Malformed("the directory does not fit"))?;
        let base =
            directory_start
                .checked_sub(end.directory_offset)
                .ok_or(ArchiveError::Malformed(
                    "the directory overlaps the end record",
                ))?;
        let directory = read_at(&mut source, directory_start, end.directory_size)?;
        let entries = parse_directory(&directory, end.entries)?;
        Ok(Self {
            source,
            entries,
            base,
            directory_start,
        })
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Inflates one entry into `sink` and verifies its size and checksum.
    pub fn read(
        &mut self,
        index: usize,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ReadError> {
        let entry = self
            .entries
            .get(index)
            .ok_or(ArchiveError::Malformed("no such entry"))?;
        let (size, crc32, method) = (entry.size, entry.crc32, entry.method);
        let start = self.data_start(index)?;
        let compressed_size = self.entries[index].compressed_size;
        if start
            .checked_add(compressed_size)
            .is_none_or(|end| end > self.directory_start)
        {
            return Err(ArchiveError::Malformed("an entry reaches into the directory").into());
        }
        self.source
            .seek(SeekFrom::Start(start))
            .map_err(ArchiveError::Read)?;
        let raw = BufReader::with_capacity(64 << 10, (&mut self.source).take(compressed_size));
        let mut content: Box<dyn Read + '_> = match method {
            Method::Stored => Box::new(raw),
            Method::Deflated => Box::new(DeflateDecoder::new(raw)),
        };
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        let mut total = 0_u64;
        loop {
            let count = content.read(&mut buffer).map_err(corrupt_stream)?;
            if count == 0 {
                break;
            }
            total += count as u64;
            // Checked before the bytes go on, so that a lying entry fills no disk.
            if total > size {
                return Err(ArchiveError::Malformed("an entry is longer than it claims").into());
            }
            hasher.update(&buffer[..count]);
            sink(&buffer[..count]).map_err(ReadError::Sink)?;
        }
        if total != size {
            return Err(ArchiveError::Malformed("an entry is shorter than it claims").into());
        }
        if hasher.finalize() != crc32 {
            return Err(ArchiveError::Malformed("an entry's checksum does not match").into());
        }
        Ok(())
    }

    /// Skips the local header, whose variable parts may differ from the directory's.
    fn data_start(&mut self, index: usize) -> Result<u64, ArchiveError> {
        const HEADER: u64 = 30;
        let offset = self
            .base
            .checked_add(self.entries[index].header_offset)
            .ok_or(ArchiveError::Malformed("an entry lies outside the archive"))?;
        if offset
            .checked_add(HEADER)
            .is_none_or(|end| end > self.directory_start)
        {
            return Err(ArchiveError::Malformed("an entry lies outside the archive"));
        }
        let header = read_at(&mut self.source, offset, HEADER)?;
        let mut fields = Fields(&header);
        if fields.u32()? != LOCAL_SIGNATURE {
            return Err(ArchiveError::Malformed("an entry has no local header"));
        }
        fields.skip(2)?;
        check_flags(fields.u16()?)?;
        fields.skip(18)?;
        let (name_length, extra_length) = (fields.u16()?, fields.u16()?);
        Ok(offset + HEADER + u64::from(name_length) + u64::from(extra_length))
    }
}

/// Why reading an entry stopped: the archive's fault, or the receiver's.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("cannot write the unpacked data")]
    Sink(#[source] io::Error),
}

fn corrupt_stream(cause: io::Error) -> ArchiveError {
    match cause.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            ArchiveError::Malformed("an entry's data is corrupt")
        }
        _ => ArchiveError::Read(cause),
    }
}

fn read_at(
    source: &mut (impl Read + Seek),
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, ArchiveError> {
    source
        .seek(SeekFrom::Start(offset))
        .map_err(ArchiveError::Read)?;
    let mut bytes = Vec::new();
    source
        .take(length)
        .read_to_end(&mut bytes)
        .map_err(ArchiveError::Read)?;
    if bytes.len() as u64 != length {
        return Err(ArchiveError::Malformed("the archive is truncated"));
    }
    Ok(bytes)
}

/// Finds the end record, searching backwards because a comment of any content may follow it.
fn find_end(source: &mut (impl Read + Seek)) -> Result<End, ArchiveError> {
    let length = source.seek(SeekFrom::End(0)).map_err(ArchiveError::Read)?;
    let tail_length = length.min(MAX_END_BYTES);
    let tail_start = length - tail_length;
    let tail = read_at(source, tail_start, tail_length)?;
    let last = tail
        .len()
        .checked_sub(22)
        .ok_or(ArchiveError::Malformed("too short"))?;
    for position in (0..=last).rev() {
        let record = &tail[position..];
        if !record.starts_with(&END_SIGNATURE.to_le_bytes()) {
            continue;
        }
        let mut fields = Fields(&record[4..]);
        let (disk, directory_disk) = (fields.u16()?, fields.u16()?);
        let (entries_here, entries) = (fields.u16()?, fields.u16()?);
        let (size, offset) = (fields.u32()?, fields.u32()?);
        let comment_length = usize::from(fields.u16()?);
        // The comment must reach exactly to the end, or the signature was part of a comment.
        if record.len() != 22 + comment_length {
            continue;
        }
        let position = tail_start + position as u64;
        if entries == 0xffff || size == u32::MAX || offset == u32::MAX {
            return find_end64(source, position);
        }
        if disk != 0 || directory_disk != 0 || entries_here != entries {
            return Err(ArchiveError::Unsupported("split archives"));
        }
        return Ok(End {
            entries: entries.into(),
            directory_size: size.into(),
            directory_offset: offset.into(),
            position,
        });
    }
    Err(ArchiveError::Malformed(
        "no end record: not a zip archive, or truncated",
    ))
}

fn find_end64(source: &mut (impl Read + Seek), end: u64) -> Result<End, ArchiveError> {
    const LOCATOR: u64 = 20;
    const RECORD: u64 = 56;
    let missing = ArchiveError::Malformed("the ZIP64 end record is missing");
    let Some(locator_at) = end.checked_sub(LOCATOR) else {
        return Err(missing);
    };
    let locator = read_at(source, locator_at, LOCATOR)?;
    if !locator.starts_with(&END64_LOCATOR_SIGNATURE.to_le_bytes()) {
        return Err(missing);
    }
    // The locator's own offset ignores what stands before the archive; the record normally sits
    // right before the locator, so that is where it is taken from.
    let Some(position) = locator_at.checked_sub(RECORD) else {
        return Err(missing);
    };
    let record = read_at(source, position, RECORD)?;
    let mut fields = Fields(&record);
    if fields.u32()? != END64_SIGNATURE {
        return Err(missing);
    }
    fields.skip(12)?;
    let (disk, directory_disk) = (fields.u32()?, fields.u32()?);
    let (entries_here, entries) = (fields.u64()?, fields.u64()?);
    if disk != 0 || directory_disk != 0 || entries_here != entries {
        return Err(ArchiveError::Unsupported("split archives"));
    }
    let (directory_size, directory_offset) = (fields.u64()?, fields.u64()?);
    Ok(End {
        entries,
        directory_size,
        directory_offset,
        position,
    })
}

fn parse_directory(mut bytes: &[u8], count: u64) -> Result<Vec<Entry>, ArchiveError> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let mut fields = Fields(bytes);
        entries.push(parse_entry(&mut fields)?);
        bytes = fields.0;
    }
    if !bytes.is_empty() {
        return Err(ArchiveError::Malformed(
            "the directory is longer than its entries",
        ));
    }
    Ok(entries)
}

fn parse_entry(fields: &mut Fields<'_>) -> Result<Entry, ArchiveError> {
    if fields.u32()? != ENTRY_SIGNATURE {
        return Err(ArchiveError::Malformed(
            "the directory does not hold what it claims",
        ));
    }
    let made_by = fields.u16()?;
    fields.skip(2)?;
    check_flags(fields.u16()?)?;
    let method = match fields.u16()? {
        0 => Method::Stored,
        8 => Method::Deflated,
        _ => return Err(ArchiveError::Unsupported("this compression method")),
    };
    fields.skip(4)?;
    let crc32 = fields.u32()?;
    let (compressed_size, size) = (fields.u32()?, fields.u32()?);
    let (name_length, extra_length) = (fields.u16()?, fields.u16()?);
    let comment_length = fields.u16()?;
    let disk = fields.u16()?;
    fields.skip(2)?;
    let attributes = fields.u32()?;
    let header_offset = fields.u32()?;
    let name = fields.take(name_length.into())?.to_vec();
    let extra = fields.take(extra_length.into())?;
    fields.skip(comment_length.into())?;
    if disk != 0 && disk != 0xffff {
        return Err(ArchiveError::Unsupported("split archives"));
    }
    let mut wide = Zip64 {
        extra: Fields(zip64_field(extra)?),
    };
    let [_, system] = made_by.to_le_bytes();
    let mode = attributes >> 16;
    Ok(Entry {
        name,
        mode: (matches!(system, UNIX | MACOS) && mode != 0).then_some(mode),
        // The order is the specification's: each wide value is present only if the narrow one
        // is saturated.
        size: wide.widen(size)?,
        compressed_size: wide.widen(compressed_size)?,
        crc32,
        method,
        header_offset: wide.widen(header_offset)?,
    })
}

fn check_flags(flags: u16) -> Result<(), ArchiveError> {
    const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
    if flags & ENCRYPTED != 0 {
        return Err(ArchiveError::Unsupported("encryption"));
    }
    Ok(())
}

fn zip64_field(extra: &[u8]) -> Result<&[u8], ArchiveError> {
    let mut fields = Fields(extra);
    // Some writers pad the extra area with a few zero bytes; less than a field header is padding.
    while fields.0.len() >= 4 {
        let (id, length) = (fields.u16()?, fields.u16()?);
        let Ok(content) = fields.take(length.into()) else {
            break;
        };
        if id == 1 {
            return Ok(content);
        }
    }
    Ok(&[])
}

struct Zip64<'a> {
    extra: Fields<'a>,
}

impl Zip64<'_> {
    fn widen(&mut self, narrow: u32) -> Result<u64, ArchiveError> {
        if narrow == u32::MAX {
            self.extra.u64()
        } else {
            Ok(narrow.into())
        }
    }
}

/// Little-endian fields taken from the front of a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ArchiveError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(ArchiveError::Malformed("a record is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, length: usize) -> Result<(), ArchiveError> {
        self.take(length).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or(ArchiveError::Malformed("a record is cut short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, ArchiveError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, ArchiveError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ArchiveError> {
        self.array().map(u64::from_le_bytes)
    }
}
