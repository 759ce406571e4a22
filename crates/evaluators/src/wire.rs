//! Frames between the pool and its processes: a length, then as many bytes.

use std::io::{self, Read, Write};

/// More than all data of an execution: an input, a result, the variables.
pub const MAX_REQUEST_BYTES: usize = 128 << 20;
/// A result and the byte that says what it is; `asl` bounds it.
pub const MAX_ANSWER_BYTES: usize = (16 << 20) + 1024;

pub fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| too_long())?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(bytes)
}

/// The next frame; `None` where the other side has closed its end.
pub fn read(from: &mut impl Read, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(err) => return Err(err),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        return Err(too_long());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"one").unwrap();
        write(&mut bytes, b"").unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(read(&mut from, 3).unwrap().unwrap(), b"one");
        assert_eq!(read(&mut from, 3).unwrap().unwrap(), b"");
        assert_eq!(read(&mut from, 3).unwrap(), None);
    }

    #[test]
    fn frame_that_is_too_long_is_refused() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"four").unwrap();
        assert!(read(&mut bytes.as_slice(), 3).is_err());
        assert!(read(&mut &bytes[..6], 4).is_err());
    }
}
