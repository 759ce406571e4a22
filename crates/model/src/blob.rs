//! Binary members.

use std::fmt;
use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;
use bytes::Bytes;

/// A binary value that shares its bytes with the message it came in.
///
/// JSON carries binary members as base64. Such a blob keeps the text and decodes on demand, so that
/// a code package of tens of megabytes is held once, not twice.
#[derive(Clone, Default)]
pub struct Blob(Form);

#[derive(Clone)]
enum Form {
    Raw(Bytes),
    Base64(Bytes),
}

impl Default for Form {
    fn default() -> Self {
        Self::Raw(Bytes::new())
    }
}

/// A blob's text is not base64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not valid base64: {0}")]
pub struct BlobError(base64::DecodeError);

impl Blob {
    /// A blob of the bytes that `text` encodes. Whether `text` is valid shows when it is decoded.
    pub fn from_base64(text: Bytes) -> Self {
        Self(Form::Base64(text))
    }

    /// The bytes: shared if the blob came as a raw body, else decoded into memory.
    pub fn decode(&self) -> Result<Bytes, BlobError> {
        match &self.0 {
            Form::Raw(bytes) => Ok(bytes.clone()),
            Form::Base64(text) => STANDARD.decode(text).map(Bytes::from).map_err(BlobError),
        }
    }

    /// Reads the bytes piece by piece. Invalid base64 shows as [`std::io::ErrorKind::InvalidData`].
    pub fn reader(&self) -> BlobReader<'_> {
        BlobReader(match &self.0 {
            Form::Raw(bytes) => ReaderForm::Raw(bytes),
            Form::Base64(text) => {
                ReaderForm::Base64(Box::new(DecoderReader::new(text.as_ref(), &STANDARD)))
            }
        })
    }

    /// The number of bytes, or an upper bound within two of it if the text is not valid base64.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Raw(bytes) => bytes.len(),
            Form::Base64(text) => {
                let padding = text
                    .iter()
                    .rev()
                    .take(2)
                    .take_while(|byte| **byte == b'=')
                    .count();
                (text.len() / 4 * 3).saturating_sub(padding)
            }
        }
    }

    /// True if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value as JSON carries it.
    pub fn to_base64(&self) -> Bytes {
        match &self.0 {
            Form::Raw(bytes) => STANDARD.encode(bytes).into(),
            Form::Base64(text) => text.clone(),
        }
    }
}

/// Streams the bytes of a [`Blob`].
pub struct BlobReader<'a>(ReaderForm<'a>);

enum ReaderForm<'a> {
    Raw(&'a [u8]),
    Base64(Box<DecoderReader<'static, base64::engine::GeneralPurpose, &'a [u8]>>),
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.0 {
            ReaderForm::Raw(bytes) => bytes.read(buffer),
            ReaderForm::Base64(decoder) => decoder.read(buffer),
        }
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self(Form::Raw(bytes))
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Form::Raw(bytes.into()))
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        self.decode() == other.decode()
    }
}

// Payloads are never logged, so only the size shows.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_and_raw_forms_of_the_same_bytes_are_equal() {
        let encoded = Blob::from_base64(Bytes::from_static(b"aGVsbG8="));
        let raw = Blob::from(b"hello".to_vec());
        assert_eq!(encoded, raw);
        assert_eq!(encoded.len(), 5);
        assert_eq!(raw.to_base64(), encoded.to_base64());
    }

    #[test]
    fn reader_streams_the_decoded_bytes() {
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let blob = Blob::from_base64(STANDARD.encode(&bytes).into());
        let mut read = Vec::new();
        blob.reader().read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
    }

    #[test]
    fn invalid_base64_is_an_error_when_decoded() {
        let blob = Blob::from_base64(Bytes::from_static(b"not base64!"));
        assert!(blob.decode().is_err());
        let error = blob.reader().read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    }
}
