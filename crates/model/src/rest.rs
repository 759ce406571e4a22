//! Members outside the body: path labels, query parameters, headers and the status, as restJson1
//! binds them.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{DecodeError, Timestamp};

/// What stays as it is in a path label or a query value; all else is percent-encoded.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A value that travels as text in a label, a query parameter or a header.
pub trait Text: Sized {
    /// Reads the value.
    fn from_text(text: &str) -> Result<Self, DecodeError>;
    /// Writes the value.
    fn to_text(&self) -> Cow<'_, str>;
}

impl Text for String {
    fn from_text(text: &str) -> Result<Self, DecodeError> {
        Ok(text.to_owned())
    }

    fn to_text(&self) -> Cow<'_, str> {
        self.as_str().into()
    }
}

macro_rules! text_by_parse {
    ($($type:ty = $name:literal),*) => {
        $(impl Text for $type {
            fn from_text(text: &str) -> Result<Self, DecodeError> {
                text.parse().map_err(|_| {
                    DecodeError::serialization(
                        concat!("STRING_VALUE cannot be converted to ", $name),
                    )
                })
            }

            fn to_text(&self) -> Cow<'_, str> {
                self.to_string().into()
            }
        })*
    };
}

text_by_parse!(
    i32 = "Integer",
    i64 = "Long",
    f64 = "Double",
    bool = "Boolean",
    Timestamp = "Timestamp"
);

/// Reads the path segment at `index`, counted from zero, and decodes its escapes.
///
/// Segments are split before they are decoded: an encoded ARN with `%2F` in it is one label.
pub fn label<T: Text>(path: &str, index: usize) -> Result<T, DecodeError> {
    decoded(
        path.trim_start_matches('/')
            .split('/')
            .nth(index)
            .unwrap_or_default(),
    )
}

/// Reads the path from segment `index` on, with its slashes, as a greedy label holds it.
pub fn greedy_label<T: Text>(path: &str, index: usize) -> Result<T, DecodeError> {
    decoded(
        path.trim_start_matches('/')
            .splitn(index + 1, '/')
            .nth(index)
            .unwrap_or_default(),
    )
}

fn decoded<T: Text>(text: &str) -> Result<T, DecodeError> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| DecodeError::serialization("Invalid UTF-8 in the request URI"))?;
    T::from_text(&text)
}

/// Reads a query parameter; of several the first counts.
pub fn query<T: Text>(query: Option<&str>, name: &str) -> Result<Option<T>, DecodeError> {
    parameters(query, name).next().map(query_value).transpose()
}

/// Reads a query parameter that may be repeated; none at all is an absent list.
pub fn query_list<T: Text>(query: Option<&str>, name: &str) -> Result<Option<Vec<T>>, DecodeError> {
    let list: Vec<T> = parameters(query, name)
        .map(query_value)
        .collect::<Result<_, _>>()?;
    Ok((!list.is_empty()).then_some(list))
}

fn parameters<'q>(query: Option<&'q str>, name: &str) -> impl Iterator<Item = &'q str> {
    query
        .unwrap_or_default()
        .split('&')
        .filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let matches = key == name || percent_decode_str(key).eq(name.bytes());
            matches.then_some(value)
        })
}

fn query_value<T: Text>(value: &str) -> Result<T, DecodeError> {
    if value.contains('+') {
        decoded(&value.replace('+', "%20"))
    } else {
        decoded(value)
    }
}

/// Reads a header.
pub fn header<T: Text>(headers: &HeaderMap, name: &str) -> Result<Option<T>, DecodeError> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| DecodeError::serialization(format!("Invalid UTF-8 in header {name}")))?;
    T::from_text(text.trim()).map(Some)
}

/// Adds a header unless the member is absent. A value that no header can carry is left out.
///
/// `name` must be in lower case, which codegen sees to.
pub fn put_header<T: Text>(headers: &mut HeaderMap, name: &'static str, value: &Option<T>) {
    let value = value
        .as_ref()
        .and_then(|value| HeaderValue::from_str(&value.to_text()).ok());
    if let Some(value) = value {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Builds the path and query of a request.
#[derive(Debug)]
pub struct UriBuilder {
    uri: String,
    separator: char,
}

impl UriBuilder {
    /// An empty path.
    pub fn new() -> Self {
        Self {
            uri: String::new(),
            separator: '?',
        }
    }

    /// Appends fixed text of the path.
    #[must_use]
    pub fn literal(mut self, text: &str) -> Self {
        self.uri.push_str(text);
        self
    }

    /// Appends a label's value as one segment.
    #[must_use]
    pub fn label<T: Text>(mut self, value: &T) -> Self {
        self.push_encoded(&value.to_text());
        self
    }

    /// Appends a greedy label's value, keeping its slashes.
    #[must_use]
    pub fn greedy_label<T: Text>(mut self, value: &T) -> Self {
        for (index, segment) in value.to_text().split('/').enumerate() {
            if index > 0 {
                self.uri.push('/');
            }
            self.push_encoded(segment);
        }
        self
    }

    /// Appends a query parameter.
    #[must_use]
    pub fn query<'v, T: Text + 'v>(
        self,
        name: &str,
        values: impl IntoIterator<Item = &'v T>,
    ) -> Self {
        values
            .into_iter()
            .fold(self, |uri, value| uri.fixed_query(name, &value.to_text()))
    }

    /// Adds a parameter that the path of an operation always has.
    pub fn fixed_query(mut self, name: &str, value: &str) -> Self {
        self.uri.push(std::mem::replace(&mut self.separator, '&'));
        self.push_encoded(name);
        self.uri.push('=');
        self.push_encoded(value);
        self
    }

    /// The finished path and query.
    pub fn build(self) -> String {
        self.uri
    }

    fn push_encoded(&mut self, text: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.uri, "{}", utf8_percent_encode(text, UNRESERVED));
    }
}

impl Default for UriBuilder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
