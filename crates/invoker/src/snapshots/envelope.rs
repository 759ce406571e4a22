//! What the store keeps as an image's description: the frozen process, and what the server knew of
//! its Runtime API.

use serde::{Deserialize, Serialize};
use snapshot::{Image, Memory};

use crate::runtime_api::Pending;

/// Longest header that is read back.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// The server's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Requests that were waiting for their answer.
    pub pending: Vec<Pending>,
    /// What the process's variables have as the token for its credentials.
    pub token: String,
    /// Clones may share the image's memory; see [`Memory`].
    pub shares_memory: bool,
}

impl Header {
    pub fn memory(&self) -> Memory {
        if self.shares_memory {
            Memory::Shared
        } else {
            Memory::Exact
        }
    }
}

/// Puts both into one, so that neither can be there without the other.
pub(crate) fn seal(header: &Header, image: &[u8]) -> Option<Vec<u8>> {
    let header = serde_json::to_vec(header).ok()?;
    let length = u32::try_from(header.len()).ok()?;
    let mut sealed = Vec::with_capacity(4 + header.len() + image.len());
    sealed.extend_from_slice(&length.to_le_bytes());
    sealed.extend_from_slice(&header);
    sealed.extend_from_slice(image);
    Some(sealed)
}

/// Takes them apart again and checks both.
pub(crate) fn open(sealed: &[u8]) -> Result<(Header, Image), String> {
    let (length, rest) = sealed.split_first_chunk().ok_or("it is too short")?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER_BYTES {
        return Err(format!("its header would have {length} bytes"));
    }
    let (header, image) = rest.split_at_checked(length).ok_or("it is cut off")?;
    let header = serde_json::from_slice(header).map_err(|err| err.to_string())?;
    let image = Image::decode(image).map_err(|err| err.to_string())?;
    Ok((header, image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_an_image_is_refused() {
        let header = Header {
            pending: Vec::new(),
            token: "t".into(),
            shares_memory: true,
        };
        let sealed = seal(&header, b"not an image").unwrap();
        for length in 0..=sealed.len() {
            assert!(open(&sealed[..length]).is_err());
        }
        assert!(open(&[0xff; 64]).is_err());
    }
}
