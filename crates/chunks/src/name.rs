//! Names: of accounts, images, side records and chunks. All of them become parts of paths and
//! object keys, so they are checked once, here.

use std::fmt;
use std::sync::Arc;

use crate::{Error, Result};

const MAX_NAME: usize = 128;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Up to 128 letters, digits, `-`, `_` and `.`, not beginning with a dot.
            pub fn new(name: &str) -> Result<Self> {
                check($what, name)?;
                Ok(Self(name.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $type {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self> {
                Self::new(name)
            }
        }
    };
}

name!(
    /// An account: the boundary that no content, name or key crosses.
    Account,
    "account"
);
name!(
    /// What an image is called within its account.
    ImageId,
    "image"
);

pub(crate) fn check(what: &'static str, name: &str) -> Result<()> {
    let fits = (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fits {
        return Ok(());
    }
    Err(Error::InvalidName {
        what,
        name: name.chars().take(MAX_NAME).collect(),
    })
}

/// What a chunk is called: a keyed hash of its plaintext, so that equal chunks of one account
/// meet and nothing can be learnt from the name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkName(pub(crate) [u8; 32]);

impl fmt::Display for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_directory() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a\0",
            "../x",
            "é",
            ".hidden",
            &"a".repeat(129),
        ] {
            assert!(ImageId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            Account::new("123456789012").unwrap().as_str(),
            "123456789012"
        );
        assert!(ImageId::new("3f.a-b_C").is_ok());
    }
}
