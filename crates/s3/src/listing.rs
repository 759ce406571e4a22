//! Listings: the keys of a bucket in the order of their bytes, page by page.
//!
//! A page reads what it shows and little more: keys below a common prefix are jumped over, whatever
//! their number.

use store::Record;

use crate::keys::{self, AFTER_ALL, OBJECT_PREFIX_BYTES};
use crate::record;
use crate::service::{Bucket, S3};
use crate::{Error, Result};

/// Entries of one page at most, as on AWS.
pub(crate) const MAX_PAGE: usize = 1000;
/// What is read first, and again behind each common prefix.
const FIRST_READ: usize = 32;

/// What to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) prefix: String,
    /// Not empty.
    pub(crate) delimiter: Option<String>,
    /// Where to go on.
    pub(crate) after: Option<Position>,
    pub(crate) limit: usize,
}

/// A place between keys: everything up to these bytes is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position(Vec<u8>);

#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// Whether there is more.
    pub(crate) truncated: bool,
}

#[derive(Debug)]
pub(crate) enum Entry {
    Object(String, Box<record::Object>),
    /// Keys that begin alike up to a delimiter.
    Prefix(String),
}

impl Entry {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Object(name, _) | Self::Prefix(name) => name,
        }
    }

    fn position(&self) -> Position {
        match self {
            Self::Object(key, _) => Position(key.as_bytes().to_vec()),
            Self::Prefix(prefix) => Position::behind(prefix),
        }
    }
}

impl Position {
    /// Behind a key that a client names. One that is a common prefix stands for all keys below it,
    /// since listings name those as where to go on.
    pub(crate) fn after(key: &str, prefix: &str, delimiter: Option<&str>) -> Self {
        if common_prefix(key, prefix, delimiter) == Some(key) {
            return Self::behind(key);
        }
        Self(key.as_bytes().to_vec())
    }

    fn behind(prefix: &str) -> Self {
        let mut position = prefix.as_bytes().to_vec();
        position.push(AFTER_ALL);
        Self(position)
    }

    /// As an opaque token. What comes back may be anything: it never leads out of its bucket.
    pub(crate) fn token(&self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&self.0)
    }

    pub(crate) fn parse(token: &str) -> Result<Self> {
        use base64::Engine as _;
        let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token);
        match decoded {
            Ok(position) if position.len() <= keys::MAX_KEY_BYTES + 1 => Ok(Self(position)),
            _ => Err(Error::argument(
                "The continuation token provided is incorrect",
            )),
        }
    }
}

impl Page {
    /// Where the next page begins.
    pub(crate) fn next(&self) -> Option<Position> {
        let last = self.entries.last().filter(|_| self.truncated);
        last.map(Entry::position)
    }
}

impl S3 {
    pub(crate) fn list_page(&self, bucket: &Bucket, query: &Query) -> Result<Page> {
        let base = keys::objects(bucket.record.id);
        let within = [&base, query.prefix.as_bytes()].concat();
        let full = |position: &Position| [base.as_slice(), &position.0].concat();
        let mut after = query.after.as_ref().map(full);
        let mut page = Page::default();
        if query.limit == 0 {
            return Ok(page);
        }
        let mut read = FIRST_READ;
        loop {
            let wanted = (query.limit - page.entries.len() + 1).min(read);
            let found = self.table().scan(&within, after.as_deref(), wanted)?;
            let more = found.len() == wanted;
            read = (read * 2).min(MAX_PAGE + 1);
            let mut jumped = false;
            for found in found {
                if page.entries.len() == query.limit {
                    page.truncated = true;
                    return Ok(page);
                }
                let entry = entry(&found, query)?;
                jumped = matches!(entry, Entry::Prefix(_));
                after = Some(full(&entry.position()));
                page.entries.push(entry);
                if jumped {
                    // Most of what was read lies below this prefix.
                    read = FIRST_READ;
                    break;
                }
            }
            if !more && !jumped {
                return Ok(page);
            }
        }
    }

    /// Objects by key, for those who page themselves.
    pub(crate) fn scan(
        &self,
        bucket: &Bucket,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, record::Object)>> {
        let id = bucket.record.id;
        let within = keys::object(id, prefix);
        let after = after.map(|key| keys::object(id, key));
        let found = self.table().scan(within, after.as_deref(), limit)?;
        found
            .iter()
            .map(|found| Ok((key_of(found)?.to_owned(), record::decode(&found.value)?)))
            .collect()
    }
}

fn entry(found: &Record, query: &Query) -> Result<Entry> {
    let key = key_of(found)?;
    if let Some(prefix) = common_prefix(key, &query.prefix, query.delimiter.as_deref()) {
        return Ok(Entry::Prefix(prefix.to_owned()));
    }
    let object = record::decode(&found.value)?;
    Ok(Entry::Object(key.to_owned(), Box::new(object)))
}

fn key_of(found: &Record) -> Result<&str> {
    let key = found.key.get(OBJECT_PREFIX_BYTES..).unwrap_or_default();
    std::str::from_utf8(key).map_err(|_| Error::Damaged("an object's key".to_owned()))
}

/// The part of a key up to the first delimiter behind the prefix.
pub(crate) fn common_prefix<'k>(
    key: &'k str,
    prefix: &str,
    delimiter: Option<&str>,
) -> Option<&'k str> {
    let delimiter = delimiter?;
    let rest = key.strip_prefix(prefix)?;
    let at = rest.find(delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_prefixes_end_behind_the_delimiter() {
        let of = |key, prefix| common_prefix(key, prefix, Some("/"));
        assert_eq!(of("a/b/c", ""), Some("a/"));
        assert_eq!(of("a/b/c", "a/"), Some("a/b/"));
        assert_eq!(of("a/b", "a/"), None);
        assert_eq!(of("/a", ""), Some("/"));
        assert_eq!(common_prefix("a/b", "", None), None);
        assert_eq!(common_prefix("aXYb", "", Some("XY")), Some("aXY"));
    }

    #[test]
    fn tokens_lead_where_they_were_made_for() {
        let position = Position::after("a/b", "", Some("/"));
        assert_eq!(Position::parse(&position.token()).unwrap(), position);
        assert_eq!(Position::after("a/", "", Some("/")).0, b"a/\xFF");
        assert!(Position::parse("!").is_err());
        assert!(Position::parse(&"A".repeat(3000)).is_err());
    }
}
