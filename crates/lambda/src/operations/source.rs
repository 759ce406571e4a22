//! Where a request says the code is, and what of it firn can fetch.

use model::Blob;
use protocol::Caller;

use crate::Lambda;
use crate::error::{Error, InvalidParameter};
use crate::objects::Location;
use crate::package::MAX_ZIPPED_BYTES;

/// The alternatives of a request; exactly one of them should be there.
#[derive(Debug)]
pub struct Source {
    pub zip_file: Option<Blob>,
    pub from_s3: Option<Location>,
    pub from_image: bool,
}

impl Source {
    /// The zip in the request. `doing` is "creating" or "updating".
    pub async fn zip(
        self,
        lambda: &Lambda,
        caller: &Caller,
        doing: &'static str,
    ) -> Result<Blob, Error> {
        if self.from_image {
            return Err(InvalidParameter::ImageForZip { doing }.into());
        }
        if let Some(location) = self.from_s3 {
            return lambda.fetch_code(caller, location).await;
        }
        let zip = self.zip_file.ok_or(InvalidParameter::NoCode)?;
        if zip.len() as u64 > MAX_ZIPPED_BYTES {
            return Err(Error::ZipTooLarge);
        }
        if zip.is_empty() {
            return Err(InvalidParameter::EmptyZip.into());
        }
        Ok(zip)
    }
}

/// Refuses what was asked for and cannot be given, by the member's name.
pub fn refuse(features: &[(&'static str, bool)]) -> Result<(), Error> {
    match features.iter().find(|(_, present)| *present) {
        Some((what, _)) => Err(Error::NotSupported { what, advice: "" }),
        None => Ok(()),
    }
}
