//! JSON as the AWS protocols use it.
//!
//! Generated types read and write themselves through [`FromJson`] and [`ToJson`], without an
//! intermediate tree. Reading follows AWS: unknown members are skipped, a `null` member is an absent
//! one, the last of two equal keys wins, and a value of the wrong type is a `SerializationException`
//! in AWS's words. Strings without escapes and all blobs are read without copying.
//!
//! Protocols with other formats carry the same members: what they read is turned into JSON first,
//! and the [`Writer`] knows their formats, too.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::validation::Missing;
use crate::{Blob, DecodeError, Timestamp};

pub use reader::{Kind, Reader};
pub use writer::{ObjectWriter, Writer};

/// A value that can be read from JSON.
pub trait FromJson: Sized {
    /// Reads one value. Required members that are absent are noted in the reader.
    fn from_json(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// A value that can be written as JSON.
pub trait ToJson {
    /// Writes one value.
    fn to_json(&self, writer: &mut Writer);
}

/// Reads a whole document. An empty document reads as an empty object, as AWS takes it.
///
/// The second value names the required members that were absent.
pub fn from_body<T: FromJson + Default>(body: &Bytes) -> Result<(T, Missing), DecodeError> {
    if body.is_empty() {
        return from_body(&Bytes::from_static(b"{}"));
    }
    let mut reader = Reader::new(body);
    let value = T::from_json(&mut reader)?;
    reader.end()?;
    Ok((value, reader.into_missing()))
}

/// Reads a whole document whose values are all strings, converting them where something else is
/// wanted.
pub(crate) fn from_text_body<T: FromJson + Default>(
    body: &Bytes,
) -> Result<(T, Missing), DecodeError> {
    let mut reader = Reader::of_text(body);
    let value = T::from_json(&mut reader)?;
    reader.end()?;
    Ok((value, reader.into_missing()))
}

/// Writes a document.
pub fn to_bytes<T: ToJson + ?Sized>(value: &T) -> Bytes {
    let mut writer = Writer::new();
    value.to_json(&mut writer);
    writer.into_bytes()
}

impl FromJson for String {
    fn from_json(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(reader.text()?.into_owned())
    }
}

impl ToJson for str {
    fn to_json(&self, writer: &mut Writer) {
        writer.string(self);
    }
}

impl ToJson for String {
    fn to_json(&self, writer: &mut Writer) {
        writer.string(self);
    }
}

impl FromJson for bool {
    fn from_json(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.boolean()
    }
}

impl ToJson for bool {
    fn to_json(&self, writer: &mut Writer) {
        writer.boolean(*self);
    }
}

impl FromJson for i32 {
    fn from_json(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.integer("Integer")
    }
}

impl ToJson for i32 {
    fn to_json(&self, writer: &mut Writer) {
        writer.integer(i64::from(*self));
    }
}

impl FromJson for i64 {
    fn from_json(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.integer("Long")
    }
}

impl ToJson for i64 {
    fn to_json(&self, writer: &mut Writer) {
        writer.integer(*self);
    }
}

impl FromJson for f64 {
    fn from_json(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.float()
    }
}

impl ToJson for f64 {
    fn to_json(&self, writer: &mut Writer) {
        writer.float(*self);
    }
}

impl FromJson for Blob {
    fn from_json(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_base64(reader.text_bytes()?))
    }
}

impl ToJson for Blob {
    fn to_json(&self, writer: &mut Writer) {
        writer.base64(self);
    }
}

impl FromJson for Timestamp {
    fn from_json(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.timestamp()
    }
}

impl ToJson for Timestamp {
    fn to_json(&self, writer: &mut Writer) {
        writer.timestamp(*self);
    }
}

impl<T: FromJson> FromJson for Box<T> {
    fn from_json(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::from_json(reader).map(Box::new)
    }
}

impl<T: ToJson> ToJson for Box<T> {
    fn to_json(&self, writer: &mut Writer) {
        (**self).to_json(writer);
    }
}

impl<T: FromJson + Default> FromJson for Vec<T> {
    fn from_json(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut list = Self::new();
        reader.array(|reader| {
            list.push(reader.element(list.len())?);
            Ok(())
        })?;
        Ok(list)
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self, writer: &mut Writer) {
        writer.array(self);
    }
}

impl<T: FromJson + Default> FromJson for BTreeMap<String, T> {
    fn from_json(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = Self::new();
        reader.object(|key, reader| {
            let value = reader.entry(key)?;
            map.insert(key.to_owned(), value);
            Ok(())
        })?;
        Ok(map)
    }
}

impl<T: ToJson> ToJson for BTreeMap<String, T> {
    fn to_json(&self, writer: &mut Writer) {
        let mut object = writer.map();
        for (key, value) in self {
            object.entry(key, value);
        }
        object.end();
    }
}
