//! How layers are stored: `l/account/region/name` holds the next number, and
//! `v/account/region/name/number` a version. Records are JSON with a format number.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::LayerId;
use crate::error::Error;
use crate::function::Scope;

const FORMAT: u32 = 1;

/// Outlives all versions, so that their numbers are not given again.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub next_version: u64,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    body: T,
}

/// Names cannot hold a slash, so keys of different layers never run into one another.
pub fn head_key(id: &LayerId) -> String {
    format!("l/{}", path(id))
}

pub fn version_key(id: &LayerId, number: u64) -> String {
    // Twenty digits hold every u64.
    format!("v/{}/{number:020}", path(id))
}

fn path(id: &LayerId) -> String {
    format!("{}/{}/{}", id.scope.account, id.scope.region, id.name)
}

/// The layer that a key belongs to, and the version's number if it is a version's key.
pub fn parse_key(key: &[u8]) -> Option<(LayerId, Option<u64>)> {
    let mut parts = std::str::from_utf8(key).ok()?.split('/');
    let is_version = match parts.next()? {
        "l" => false,
        "v" => true,
        _ => return None,
    };
    let scope = Scope {
        account: parts.next()?.parse().ok()?,
        region: parts.next()?.parse().ok()?,
    };
    let name = parts.next()?.to_owned();
    let number = match is_version {
        true => Some(parts.next()?.parse().ok()?),
        false => None,
    };
    Some((LayerId { scope, name }, number))
}

pub fn encode<T: Serialize>(body: &T, of: &LayerId) -> Result<Bytes, Error> {
    let envelope = Envelope {
        format: FORMAT,
        body,
    };
    let bytes = serde_json::to_vec(&envelope).map_err(unreadable(of))?;
    Ok(bytes.into())
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8], of: &LayerId) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(bytes).map_err(unreadable(of))?;
    if format != FORMAT {
        return Err(Error::RecordFormat {
            of: of.arn(),
            format,
        });
    }
    let read: Envelope<T> = serde_json::from_slice(bytes).map_err(unreadable(of))?;
    Ok(read.body)
}

fn unreadable(of: &LayerId) -> impl FnOnce(serde_json::Error) -> Error {
    move |cause| Error::Record {
        of: of.arn(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::super::LayerVersion;
    use super::*;

    fn id() -> LayerId {
        LayerId {
            scope: crate::function::tests::function("f").id.scope,
            name: "a_b-c".to_owned(),
        }
    }

    #[test]
    fn keys_name_their_layer() {
        let id = id();
        let parsed = |key: &str| parse_key(key.as_bytes());
        assert_eq!(parsed(&head_key(&id)), Some((id.clone(), None)));
        assert_eq!(parsed(&version_key(&id, 9)), Some((id.clone(), Some(9))));
        assert_eq!(parsed("x/y"), None);
    }

    #[test]
    fn a_version_survives_being_stored_and_damage_is_reported() {
        let (id, version) = (id(), LayerVersion::sample());
        let bytes = encode(&version, &id).unwrap();
        assert_eq!(decode::<LayerVersion>(&bytes, &id).unwrap(), version);
        let unknown = decode::<Head>(br#"{"format":2,"body":{}}"#, &id).unwrap_err();
        assert!(matches!(unknown, Error::RecordFormat { format: 2, .. }));
        assert!(matches!(
            decode::<Head>(b"{", &id),
            Err(Error::Record { .. })
        ));
    }
}
