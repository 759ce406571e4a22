//! Objects that are compressed, which their names tell.

use std::io::Write;

use super::Unreadable;

/// A small piece can become a thousand times its size, so large ones are cut.
const PIECE_BYTES: usize = 8 << 10;

/// Gives the text of an object, piece by piece.
pub enum Unpack {
    Plain,
    Gzip(Box<flate2::write::MultiGzDecoder<Vec<u8>>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
}

impl Unpack {
    /// By the ending of an object's name.
    pub fn of(key: &str) -> Result<Self, Unreadable> {
        let ending = key.rsplit('.').next().unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "gz" | "gzip" => Ok(Self::Gzip(Box::new(flate2::write::MultiGzDecoder::new(
                Vec::new(),
            )))),
            "zst" | "zstd" => {
                let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).map_err(broken)?;
                // As much memory as the format's own tools take without being asked.
                decoder.window_log_max(27).map_err(broken)?;
                Ok(Self::Zstd(decoder))
            }
            _ => Ok(Self::Plain),
        }
    }

    /// Hands the text of some bytes to `take`, in pieces of bounded size.
    pub fn push(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        if let Self::Plain = self {
            return take(bytes);
        }
        for piece in bytes.chunks(PIECE_BYTES) {
            let text = match self {
                Self::Plain => return Ok(()),
                Self::Gzip(decoder) => {
                    decoder.write_all(piece).map_err(broken)?;
                    std::mem::take(decoder.get_mut())
                }
                Self::Zstd(decoder) => {
                    decoder.write_all(piece).map_err(broken)?;
                    std::mem::take(decoder.get_mut())
                }
            };
            take(&text)?;
        }
        Ok(())
    }

    /// The object has come to its end; so must what is packed in it.
    pub fn finish(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        let text = match self {
            Self::Plain => return Ok(()),
            Self::Gzip(decoder) => {
                decoder.try_finish().map_err(broken)?;
                std::mem::take(decoder.get_mut())
            }
            Self::Zstd(decoder) => {
                decoder.flush().map_err(broken)?;
                std::mem::take(decoder.get_mut())
            }
        };
        take(&text)
    }
}

impl std::fmt::Debug for Unpack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}

fn broken(error: std::io::Error) -> Unreadable {
    Unreadable::new(format!("The object cannot be decompressed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(key: &str, packed: &[u8], size: usize) -> Result<Vec<u8>, String> {
        let mut text = Vec::new();
        let mut read = || {
            let mut unpack = Unpack::of(key)?;
            for piece in packed.chunks(size) {
                unpack.push(piece, |piece| {
                    text.extend_from_slice(piece);
                    Ok(())
                })?;
            }
            unpack.finish(|piece| {
                text.extend_from_slice(piece);
                Ok(())
            })
        };
        read().map_err(|unreadable| unreadable.cause)?;
        Ok(text)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn ending_of_the_name_tells_how_an_object_is_packed() {
        let text = b"a,b\n1,2\n".repeat(10_000);
        let zipped = gzip(&text);
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        for size in [7, 100_000] {
            assert_eq!(unpack("x.csv", &text, size).unwrap(), text);
            assert_eq!(unpack("x.csv.gz", &zipped, size).unwrap(), text);
            assert_eq!(unpack("x.csv.ZSTD", &zstd, size).unwrap(), text);
        }
    }

    #[test]
    fn several_members_are_one_text() {
        let both = [gzip(b"a"), gzip(b"b")].concat();
        assert_eq!(unpack("x.gz", &both, 100).unwrap(), b"ab");
    }

    #[test]
    fn what_is_not_packed_is_an_error() {
        assert!(unpack("x.gz", b"a,b\n", 100).is_err());
        assert!(unpack("x.zst", b"a,b\n", 100).is_err());
        let cut = &gzip(b"some text that is packed")[..15];
        assert!(unpack("x.gz", cut, 100).is_err());
    }
}
