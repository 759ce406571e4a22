//! How functions are stored.
//!
//! One record holds what changes (`f/account/region/name`), and each published version has one of
//! its own (`v/account/region/name/number`), so that publishing the thousandth version does not
//! write the other 999. Records are JSON with a format number; a later format reads the earlier
//! ones here.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::attached::Attached;
use crate::error::Error;
use crate::function::{Alias, Function, FunctionId, Scope, Version};

const FORMAT: u32 = 1;
pub const HEADS: &str = "f/";
pub const VERSIONS: &str = "v/";

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    body: T,
}

/// The changing part of a function, or what is left of a deleted one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "lives only while a record is read or written"
)]
pub enum Head {
    Live {
        latest: Version,
        next_version: u64,
        first_version: u64,
        aliases: BTreeMap<String, Alias>,
        tags: BTreeMap<String, String>,
        #[serde(default)]
        attached: Attached,
    },
    /// Keeps the numbers of deleted versions from being given again.
    Deleted { next_version: u64 },
}

impl Head {
    pub fn of(function: &Function) -> Self {
        Self::Live {
            latest: Version::clone(&function.latest),
            next_version: function.next_version,
            first_version: function.first_version,
            aliases: function.aliases.clone(),
            tags: function.tags.clone(),
            attached: function.attached.clone(),
        }
    }
}

/// Names cannot hold a slash, so keys of different functions never run into one another.
pub fn head_key(id: &FunctionId) -> String {
    format!("{HEADS}{}", path(id))
}

pub fn version_key(id: &FunctionId, number: u64) -> String {
    // Twenty digits hold every u64, so that keys sort as numbers do.
    format!("{}{number:020}", versions_prefix(id))
}

pub fn versions_prefix(id: &FunctionId) -> String {
    format!("{VERSIONS}{}/", path(id))
}

fn path(id: &FunctionId) -> String {
    format!("{}/{}/{}", id.scope.account, id.scope.region, id.name)
}

/// The function that a key belongs to, and the version's number if it is a version's key.
pub fn parse_key(key: &[u8]) -> Option<(FunctionId, Option<u64>)> {
    let text = std::str::from_utf8(key).ok()?;
    let (is_version, rest) = match text.strip_prefix(HEADS) {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix(VERSIONS)?),
    };
    let mut parts = rest.split('/');
    let scope = Scope {
        account: parts.next()?.parse().ok()?,
        region: parts.next()?.parse().ok()?,
    };
    let id = FunctionId {
        scope,
        name: parts.next()?.to_owned(),
    };
    let number = if is_version {
        Some(parts.next()?.parse().ok()?)
    } else {
        None
    };
    Some((id, number))
}

pub fn encode<T: Serialize>(body: &T, of: &FunctionId) -> Result<Bytes, Error> {
    serde_json::to_vec(&Envelope {
        format: FORMAT,
        body,
    })
    .map(Bytes::from)
    .map_err(|cause| Error::Record {
        of: of.arn(),
        cause,
    })
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8], of: &FunctionId) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let unreadable = |cause| Error::Record {
        of: of.arn(),
        cause,
    };
    let Format { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
    if format != FORMAT {
        return Err(Error::RecordFormat {
            of: of.arn(),
            format,
        });
    }
    serde_json::from_slice::<Envelope<T>>(bytes)
        .map(|read| read.body)
        .map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::tests::function;

    #[test]
    fn a_function_survives_being_stored() {
        let mut function = function("f");
        function.publish(None, clock::Timestamp::from_secs(1));
        let id = &function.id;
        let bytes = encode(&Head::of(&function), id).unwrap();
        let Head::Live {
            latest,
            next_version,
            ..
        } = decode(&bytes, id).unwrap()
        else {
            panic!("not a live function")
        };
        assert_eq!(
            (latest, next_version),
            (Version::clone(&function.latest), 2)
        );
        let version = encode(&function.versions[&1], id).unwrap();
        assert_eq!(
            decode::<Version>(&version, id).unwrap(),
            *function.versions[&1]
        );
    }

    #[test]
    fn unknown_formats_and_damage_are_reported() {
        let id = function("f").id;
        let unknown = decode::<Version>(br#"{"format":2,"body":{}}"#, &id).unwrap_err();
        assert!(matches!(unknown, Error::RecordFormat { format: 2, .. }));
        assert!(matches!(
            decode::<Version>(b"{", &id),
            Err(Error::Record { .. })
        ));
    }

    #[test]
    fn keys_name_their_function_and_sort_by_number() {
        let id = function("a.b_c-d").id;
        assert_eq!(
            parse_key(head_key(&id).as_bytes()),
            Some((id.clone(), None))
        );
        assert_eq!(
            parse_key(version_key(&id, 9).as_bytes()),
            Some((id.clone(), Some(9)))
        );
        assert!(version_key(&id, 9) < version_key(&id, 10));
        assert_eq!(parse_key(b"x/y"), None);
    }
}
