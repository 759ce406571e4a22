//! Verifies the engine's sorted tables before the engine opens them.
//!
//! Each keyspace directory has a file `current`, which holds the number and checksum of a version
//! file `v…`, which lists the table files with theirs. The engine checks blocks as it reads them
//! but trusts `current` and the version file, and takes a directory without `current` for one that
//! was never finished, so all of this is checked here.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use crate::{Error, Result};

/// Versions list at most some thousand tables; this is far beyond.
const MAX_VERSION_BYTES: u64 = 64 << 20;

/// A table file and the checksum of its whole content.
struct TableFile {
    path: PathBuf,
    len: u64,
    checksum: u128,
}

/// Checks the keyspaces with these directory names; reads tables up to `budget` bytes in total.
pub(crate) fn check(db: &Path, keyspaces: &[&str], budget: u64) -> Result<()> {
    let mut left = budget;
    for keyspace in keyspaces {
        for table in list(&db.join("keyspaces").join(keyspace))? {
            if table.len <= left {
                left -= table.len;
                verify(&table)?;
            }
        }
    }
    Ok(())
}

/// Finds the damaged table among all of a keyspace's, after the engine met one.
pub(crate) fn find_damage(keyspace: &Path) -> Option<Error> {
    match list(keyspace) {
        Ok(tables) => tables.iter().find_map(|table| verify(table).err()),
        Err(err) => Some(err),
    }
}

/// The tables of a keyspace's current version.
fn list(keyspace: &Path) -> Result<Vec<TableFile>> {
    let current = keyspace.join("current");
    let pointer = read_bounded(&current, 64)?;
    let (version, checksum) = decode_current(&pointer)
        .ok_or_else(|| Error::corrupt(&current, "it is not a version pointer"))?;
    let path = keyspace.join(format!("v{version}"));
    let content = read_bounded(&path, MAX_VERSION_BYTES)?;
    if xxh3_128(&content) != checksum {
        return Err(Error::corrupt(
            path,
            format!("its checksum is not the one in {}", current.display()),
        ));
    }
    let tables = decode_tables(&content)
        .ok_or_else(|| Error::corrupt(&path, "its list of tables cannot be read"))?;
    let folder = keyspace.join("tables");
    tables
        .into_iter()
        .map(|(id, checksum)| {
            let path = folder.join(id.to_string());
            let len = match path.metadata() {
                Ok(metadata) => metadata.len(),
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Error::corrupt(path, "the file is missing"));
                }
                Err(err) => return Err(Error::io("read", &path)(err)),
            };
            Ok(TableFile {
                path,
                len,
                checksum,
            })
        })
        .collect()
}

fn verify(table: &TableFile) -> Result<()> {
    let io = |err| Error::io("read", &table.path)(err);
    let mut file = File::open(&table.path).map_err(io)?;
    let mut hasher = Xxh3Default::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => break,
            len => hasher.update(&buffer[..len]),
        }
    }
    if hasher.digest128() == table.checksum {
        Ok(())
    } else {
        Err(Error::corrupt(&table.path, "its checksum does not match"))
    }
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    match File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut content)) {
        Ok(_) if content.len() as u64 > limit => {
            Err(Error::corrupt(path, "the file is far too large"))
        }
        Ok(_) => Ok(content),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::corrupt(path, "the file is missing"))
        }
        Err(err) => Err(Error::io("read", path)(err)),
    }
}

fn decode_current(pointer: &[u8]) -> Option<(u64, u128)> {
    let (version, rest) = pointer.split_first_chunk::<8>()?;
    let (checksum, kind) = rest.split_first_chunk::<16>()?;
    (kind == [0]).then(|| (u64::from_le_bytes(*version), u128::from_le_bytes(*checksum)))
}

fn decode_tables(version: &[u8]) -> Option<Vec<(u64, u128)>> {
    let archive = sfa::Reader::from_reader(&mut std::io::Cursor::new(version)).ok()?;
    let section = archive.toc().section(b"tables")?;
    let start = usize::try_from(section.pos()).ok()?;
    let end = start.checked_add(usize::try_from(section.len()).ok()?)?;
    let mut input = version.get(start..end)?;
    let mut tables = Vec::new();
    let [levels] = take::<1>(&mut input)?;
    for _ in 0..levels {
        let [runs] = take::<1>(&mut input)?;
        for _ in 0..runs {
            for _ in 0..u32::from_le_bytes(take(&mut input)?) {
                let id = u64::from_le_bytes(take(&mut input)?);
                let [0] = take::<1>(&mut input)? else {
                    return None;
                };
                let checksum = u128::from_le_bytes(take(&mut input)?);
                let _global_seqno = take::<8>(&mut input)?;
                tables.push((id, checksum));
            }
        }
    }
    Some(tables)
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = input.split_first_chunk::<N>()?;
    *input = tail;
    Some(*head)
}
