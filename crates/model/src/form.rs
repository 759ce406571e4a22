//! Forms of the Query protocol, read as the JSON that says the same.
//!
//! Names are paths: `MetricData.member.1.Value=3`. A level whose only child is `member`, or whose
//! children are all numbers (a flattened list), is a list; one whose only child is `entry` is a map.
//! Values are all text, which [`crate::json`] converts where the interface wants something else.
//!
//! See <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html>.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use percent_encoding::percent_decode;

use crate::DecodeError;
use crate::json::Writer;

/// More parameters are refused: PutMetricData, which has the most, allows 1,000 metrics.
const MAX_PARAMETERS: usize = 200_000;
/// Deeper paths are refused, which bounds the stack.
const MAX_DEPTH: usize = 32;

/// The value of a parameter on the top level, such as `Action`.
pub fn parameter(form: &[u8], name: &str) -> Option<String> {
    pairs(form)
        .find(|(key, _)| &**key == name.as_bytes())
        .and_then(|(_, value)| String::from_utf8(value.into_owned()).ok())
}

/// The JSON text of a form. `Action` and `Version` stay in it; no interface has such members on
/// the top level, and unknown ones are skipped.
pub(crate) fn to_json(form: &[u8]) -> Result<Bytes, DecodeError> {
    let mut root = Node::default();
    for (index, (name, value)) in pairs(form).enumerate() {
        if index >= MAX_PARAMETERS {
            return Err(DecodeError::serialization("Too many parameters"));
        }
        let (Ok(name), Ok(value)) = (std::str::from_utf8(&name), std::str::from_utf8(&value))
        else {
            return Err(DecodeError::serialization("Invalid UTF-8 in a parameter"));
        };
        root.put(name, value)?;
    }
    let mut writer = Writer::new();
    root.object(&mut writer);
    Ok(writer.into_bytes())
}

fn pairs(form: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    form.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            let value = pair.get(equals + 1..).unwrap_or_default();
            (decoded(&pair[..equals]), decoded(value))
        })
}

fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'+') {
        return percent_decode(text).into();
    }
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

/// A level of the tree that the names of parameters make up.
#[derive(Default)]
struct Node<'a> {
    value: Option<String>,
    children: BTreeMap<Key<'a>, Node<'a>>,
}

/// Numbers order lists, names everything else.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Index(u32),
    Name(Cow<'a, str>),
}

impl Node<'_> {
    fn put(&mut self, path: &str, value: &str) -> Result<(), DecodeError> {
        let mut node = self;
        for (depth, part) in path.split('.').enumerate() {
            if depth >= MAX_DEPTH {
                return Err(DecodeError::serialization(
                    "A parameter is nested too deeply",
                ));
            }
            let key = match part.parse::<u32>() {
                Ok(index) if depth > 0 => Key::Index(index),
                _ => Key::Name(Cow::Owned(part.to_owned())),
            };
            node = node.children.entry(key).or_default();
        }
        node.value = Some(value.to_owned());
        Ok(())
    }

    fn write(&self, writer: &mut Writer) {
        if self.children.is_empty() {
            writer.string(self.value.as_deref().unwrap_or_default());
        } else if let Some(list) = self.only_child("member") {
            list.array(writer);
        } else if let Some(map) = self.only_child("entry") {
            map.map(writer);
        } else if self.is_numbered() {
            self.array(writer);
        } else {
            self.object(writer);
        }
    }

    fn only_child(&self, name: &str) -> Option<&Self> {
        let (key, child) = self.children.first_key_value()?;
        let named = matches!(key, Key::Name(found) if found == name);
        (named && self.children.len() == 1 && child.is_numbered()).then_some(child)
    }

    fn is_numbered(&self) -> bool {
        !self.children.is_empty() && (self.children.keys()).all(|key| matches!(key, Key::Index(_)))
    }

    fn array(&self, writer: &mut Writer) {
        writer.raw("[");
        for (index, child) in self.children.values().enumerate() {
            writer.raw(if index == 0 { "" } else { "," });
            child.write(writer);
        }
        writer.raw("]");
    }

    fn object(&self, writer: &mut Writer) {
        writer.raw("{");
        for (index, (key, child)) in self.children.iter().enumerate() {
            writer.raw(if index == 0 { "" } else { "," });
            match key {
                Key::Index(index) => writer.string(&index.to_string()),
                Key::Name(name) => writer.string(name),
            }
            writer.raw(":");
            child.write(writer);
        }
        writer.raw("}");
    }

    /// Entries without a key have no place in a map.
    fn map(&self, writer: &mut Writer) {
        let part = |entry: &Self, name: &str| {
            let key = Key::Name(Cow::Owned(name.to_owned()));
            entry.children.get(&key).map(|_| key)
        };
        writer.raw("{");
        let mut first = true;
        for entry in self.children.values() {
            let Some(key) =
                part(entry, "key").and_then(|key| entry.children[&key].value.as_deref())
            else {
                continue;
            };
            writer.raw(if std::mem::take(&mut first) { "" } else { "," });
            writer.string(key);
            writer.raw(":");
            match part(entry, "value") {
                Some(value) => entry.children[&value].write(writer),
                None => writer.raw("null"),
            }
        }
        writer.raw("}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(form: &str) -> String {
        String::from_utf8(to_json(form.as_bytes()).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn names_are_paths() {
        for (form, expected) in [
            ("", "{}"),
            ("A=1&B=x+y%2Bz", r#"{"A":"1","B":"x y+z"}"#),
            ("A.B.C=1&A.B.D=2", r#"{"A":{"B":{"C":"1","D":"2"}}}"#),
            (
                "L.member.2=b&L.member.1=a&L.member.10=c",
                r#"{"L":["a","b","c"]}"#,
            ),
            ("L.1.X=a&L.2.X=b", r#"{"L":[{"X":"a"},{"X":"b"}]}"#),
            (
                "M.entry.1.key=k&M.entry.1.value=v&M.entry.2.key=l&M.entry.2.value.X=w",
                r#"{"M":{"k":"v","l":{"X":"w"}}}"#,
            ),
            ("L=", r#"{"L":""}"#),
            ("=x&&y", r#"{"":"x","y":""}"#),
        ] {
            assert_eq!(json(form), expected, "{form}");
        }
    }

    #[test]
    fn endless_forms_are_refused() {
        assert!(to_json("a.".repeat(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(to_json("a&".repeat(MAX_PARAMETERS + 1).as_bytes()).is_err());
    }

    #[test]
    fn action_is_found_wherever_it_stands() {
        let form = b"Namespace=a&Action=ListMetrics&Version=2010-08-01";
        assert_eq!(parameter(form, "Action").as_deref(), Some("ListMetrics"));
        assert_eq!(parameter(form, "Missing"), None);
    }
}
