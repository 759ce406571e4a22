//! Values on their way into the library, in this process or over to another one, and out of it.
//!
//! JSON would do as the form between processes if `serde_json` read every number as it was written,
//! which it does only with a feature that makes all other reading slower.

use jsonata_core::value::{JArray, JMap, JValue};
use serde_json::Value;

/// What a name is bound to.
pub enum Bound<'a> {
    Value(&'a Value),
    /// An object of these members.
    Members(Vec<(&'static str, &'a Value)>),
}

impl<'a> Bound<'a> {
    /// All values in it.
    pub fn values(&self) -> Vec<&'a Value> {
        match self {
            Self::Value(value) => vec![value],
            Self::Members(members) => members.iter().map(|(_, member)| *member).collect(),
        }
    }

    pub fn value(&self) -> JValue {
        match self {
            Self::Value(value) => from(value),
            Self::Members(members) => {
                let members = members.iter();
                let map: JMap = members
                    .map(|(name, member)| ((*name).to_owned(), from(member)))
                    .collect();
                JValue::object(map.into_inner())
            }
        }
    }

    pub fn write(&self, into: &mut Vec<u8>) {
        match self {
            Self::Value(value) => write(value, into),
            Self::Members(members) => {
                into.push(OBJECT);
                write_length(members.len(), into);
                for (name, member) in members {
                    write_text(name, into);
                    write(member, into);
                }
            }
        }
    }
}

/// As `JValue::from`, without a copy of the value.
fn from(value: &Value) -> JValue {
    match value {
        Value::Null => JValue::Null,
        Value::Bool(value) => JValue::Bool(*value),
        Value::Number(number) => JValue::Number(number.as_f64().unwrap_or(0.0)),
        Value::String(text) => JValue::string(text.as_str()),
        Value::Array(elements) => array(elements.iter().map(from).collect()),
        Value::Object(members) => {
            let members = members.iter();
            let map: JMap = members
                .map(|(name, member)| (name.clone(), from(member)))
                .collect();
            JValue::object(map.into_inner())
        }
    }
}

fn array(elements: Vec<JValue>) -> JValue {
    let is_flat = !elements
        .iter()
        .any(|element| matches!(element, JValue::Array(_)));
    JValue::Array(JArray::new_flat(elements, is_flat))
}

/// A value of the library as JSON; `None` for a function.
pub fn plain(value: &JValue) -> Option<Value> {
    if value.is_undefined() {
        return Some(Value::Null);
    }
    let text = value.to_json_string().ok()?;
    serde_json::from_str(&text).ok()
}

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const NUMBER: u8 = 3;
const TEXT: u8 = 4;
const ARRAY: u8 = 5;
const OBJECT: u8 = 6;
/// Deeper than any data, since `serde_json` reads 127 levels.
const MAX_DEPTH: usize = 256;

fn write(value: &Value, into: &mut Vec<u8>) {
    match value {
        Value::Null => into.push(NULL),
        Value::Bool(false) => into.push(FALSE),
        Value::Bool(true) => into.push(TRUE),
        Value::Number(number) => {
            into.push(NUMBER);
            into.extend(number.as_f64().unwrap_or(0.0).to_bits().to_be_bytes());
        }
        Value::String(text) => {
            into.push(TEXT);
            write_text(text, into);
        }
        Value::Array(elements) => {
            into.push(ARRAY);
            write_length(elements.len(), into);
            for element in elements {
                write(element, into);
            }
        }
        Value::Object(members) => {
            into.push(OBJECT);
            write_length(members.len(), into);
            for (name, member) in members {
                write_text(name, into);
                write(member, into);
            }
        }
    }
}

pub fn write_text(text: &str, into: &mut Vec<u8>) {
    write_length(text.len(), into);
    into.extend(text.as_bytes());
}

pub fn write_length(length: usize, into: &mut Vec<u8>) {
    into.extend((length as u64).to_be_bytes());
}

/// What is left to read of a message. `None` from any of these is a message that nobody has sent.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn number(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    /// How many of something follow, each of which takes a byte at least.
    pub fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(self.number()?).ok()?;
        (length <= self.0.len()).then_some(length)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        let length = self.length()?;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        std::str::from_utf8(bytes).ok()
    }

    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub fn value(&mut self) -> Option<JValue> {
        self.value_within(MAX_DEPTH)
    }

    fn value_within(&mut self, depth: usize) -> Option<JValue> {
        let inside = depth.checked_sub(1)?;
        Some(match self.byte()? {
            NULL => JValue::Null,
            FALSE => JValue::Bool(false),
            TRUE => JValue::Bool(true),
            NUMBER => JValue::Number(f64::from_bits(self.number()?)),
            TEXT => JValue::string(self.text()?),
            ARRAY => {
                let length = self.length()?;
                let elements = (0..length).map(|_| self.value_within(inside));
                array(elements.collect::<Option<_>>()?)
            }
            OBJECT => {
                let length = self.length()?;
                let members = (0..length)
                    .map(|_| Some((self.text()?.to_owned(), self.value_within(inside)?)));
                let map: JMap = members.collect::<Option<_>>()?;
                JValue::object(map.into_inner())
            }
            _ => return None,
        })
    }
}
