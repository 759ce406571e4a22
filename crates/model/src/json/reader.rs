use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::json::FromJson;
use crate::validation::{Missing, push_member};
use crate::{DecodeError, Timestamp};

/// Reads a JSON document front to back.
#[derive(Debug)]
pub struct Reader<'a> {
    document: &'a Bytes,
    at: usize,
    depth: u32,
    missing: Missing,
    /// Values are all strings, to be converted to what is wanted.
    of_text: bool,
}

/// What the next value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// Deeper documents are refused, which bounds the stack.
const MAX_DEPTH: u32 = 128;

impl<'a> Reader<'a> {
    /// A reader at the start of `document`.
    pub fn new(document: &'a Bytes) -> Self {
        Self {
            document,
            at: 0,
            depth: 0,
            missing: Missing::default(),
            of_text: false,
        }
    }

    /// A reader of a document whose values are all strings.
    pub(crate) fn of_text(document: &'a Bytes) -> Self {
        Self {
            of_text: true,
            ..Self::new(document)
        }
    }

    /// The text of a value that is to be converted; `None` if the document has values of its own
    /// kinds.
    fn convertible(&mut self, kind: Kind) -> Result<Option<Cow<'a, str>>, DecodeError> {
        if self.of_text && kind == Kind::String {
            return self.string().map(Some);
        }
        Ok(None)
    }

    /// In a document of strings, an empty one stands for an empty list, map or structure.
    fn is_empty_text(&mut self, kind: Kind) -> bool {
        let empty =
            self.of_text && kind == Kind::String && self.document[self.at..].starts_with(b"\"\"");
        self.at += if empty { 2 } else { 0 };
        empty
    }

    /// Checks that nothing but white space is left.
    pub fn end(&mut self) -> Result<(), DecodeError> {
        self.skip_space();
        if self.at == self.document.len() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }

    /// The required members that were absent.
    pub fn into_missing(self) -> Missing {
        self.missing
    }

    /// What the next value is, by its first byte.
    pub fn peek(&mut self) -> Result<Kind, DecodeError> {
        self.skip_space();
        match self.document.get(self.at) {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't') => Ok(Kind::True),
            Some(b'f') => Ok(Kind::False),
            Some(b'n') => Ok(Kind::Null),
            _ => Err(self.malformed()),
        }
    }

    /// Reads an object, calling `member` at each value with its key.
    pub fn object(
        &mut self,
        mut member: impl FnMut(&str, &mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        match self.peek()? {
            Kind::Object => {}
            kind if self.is_empty_text(kind) => return Ok(()),
            Kind::Array => return Err(unexpected_list()),
            _ => return Err(unexpected_scalar()),
        }
        self.enter()?;
        self.skip_space();
        if self.take(b'}') {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            self.skip_space();
            if self.document.get(self.at) != Some(&b'"') {
                return Err(self.malformed());
            }
            let key = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            member(&key, self)?;
            self.skip_space();
            if self.take(b',') {
                continue;
            }
            self.expect(b'}')?;
            self.depth -= 1;
            return Ok(());
        }
    }

    /// Reads a list, calling `element` at each value.
    pub fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        match self.peek()? {
            Kind::Array => {}
            kind if self.is_empty_text(kind) => return Ok(()),
            Kind::Object => return Err(unexpected_structure()),
            _ => return Err(unexpected_scalar()),
        }
        self.enter()?;
        self.skip_space();
        if self.take(b']') {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            element(self)?;
            self.skip_space();
            if self.take(b',') {
                continue;
            }
            self.expect(b']')?;
            self.depth -= 1;
            return Ok(());
        }
    }

    /// Reads a member of a structure; `null` is an absent one.
    pub fn member<T: FromJson>(
        &mut self,
        name: &'static str,
        slot: &mut Option<T>,
    ) -> Result<(), DecodeError> {
        *slot = match self.peek()? {
            Kind::Null => {
                self.literal(b"null")?;
                None
            }
            _ => Some(self.nested(|path| push_member(path, name))?),
        };
        Ok(())
    }

    /// Moves a required member into place, or notes that it is absent.
    pub fn require<T>(&mut self, name: &'static str, slot: &mut T, value: Option<T>) {
        match value {
            Some(value) => *slot = value,
            None => {
                let mut path = String::new();
                push_member(&mut path, name);
                self.missing.note(&path);
            }
        }
    }

    pub(super) fn element<T: FromJson + Default>(
        &mut self,
        index: usize,
    ) -> Result<T, DecodeError> {
        self.present_or_note(|path| {
            // AWS counts list members from one.
            path.push_str(&(index + 1).to_string());
            path.push_str(".member");
        })
    }

    pub(super) fn entry<T: FromJson + Default>(&mut self, key: &str) -> Result<T, DecodeError> {
        self.present_or_note(|path| {
            path.push_str(key);
            path.push_str(".member");
        })
    }

    fn present_or_note<T: FromJson + Default>(
        &mut self,
        prefix: impl Fn(&mut String),
    ) -> Result<T, DecodeError> {
        if self.peek()? == Kind::Null {
            self.literal(b"null")?;
            let mut path = String::new();
            prefix(&mut path);
            self.missing.note(&path);
            return Ok(T::default());
        }
        self.nested(prefix)
    }

    /// Reads a value and puts `prefix` before the path of whatever is missing in it.
    fn nested<T: FromJson>(&mut self, prefix: impl Fn(&mut String)) -> Result<T, DecodeError> {
        let before = self.missing.len();
        let value = T::from_json(self)?;
        self.missing.prefix_from(before, prefix);
        Ok(value)
    }

    /// Reads a string value.
    pub fn text(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        match self.peek()? {
            Kind::String => self.string(),
            kind => Err(cannot_convert(kind, "String")),
        }
    }

    /// Reads a string value as bytes that share the document's memory, unless it has escapes.
    pub fn text_bytes(&mut self) -> Result<Bytes, DecodeError> {
        match self.peek()? {
            Kind::String => {}
            kind => return Err(cannot_convert(kind, "Blob")),
        }
        let start = self.at + 1;
        let rest = &self.document[start..];
        match memchr::memchr2(b'"', b'\\', rest) {
            Some(length) if rest[length] == b'"' => {
                self.at = start + length + 1;
                Ok(self.document.slice(start..start + length))
            }
            _ => Ok(self.string()?.into_owned().into()),
        }
    }

    /// Reads `true` or `false`.
    pub fn boolean(&mut self) -> Result<bool, DecodeError> {
        match self.peek()? {
            Kind::True => self.literal(b"true").map(|()| true),
            Kind::False => self.literal(b"false").map(|()| false),
            kind => match self.convertible(kind)?.as_deref() {
                Some("true") => Ok(true),
                Some("false") => Ok(false),
                _ => Err(cannot_convert(kind, "Boolean")),
            },
        }
    }

    /// Reads a whole number that fits the type called `name`.
    pub fn integer<T: TryFrom<i64>>(&mut self, name: &str) -> Result<T, DecodeError> {
        let kind = self.peek()?;
        let converted = self.convertible(kind)?;
        let text = match &converted {
            Some(text) => text,
            None if kind == Kind::Number => self.number()?,
            None => return Err(cannot_convert(kind, name)),
        };
        let value = text.parse::<i64>().ok().or_else(|| whole(text));
        value
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| cannot_convert(kind, name))
    }

    /// Reads a number, or one of the names AWS gives to values that JSON has no number for.
    pub fn float(&mut self) -> Result<f64, DecodeError> {
        match self.peek()? {
            Kind::Number => {
                let text = self.number()?;
                text.parse()
                    .map_err(|_| cannot_convert(Kind::Number, "Double"))
            }
            Kind::String => match self.string()?.as_ref() {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                text if self.of_text => text
                    .parse()
                    .map_err(|_| cannot_convert(Kind::String, "Double")),
                _ => Err(cannot_convert(Kind::String, "Double")),
            },
            kind => Err(cannot_convert(kind, "Double")),
        }
    }

    /// Reads a moment: seconds since the epoch, or an RFC 3339 date and time.
    pub fn timestamp(&mut self) -> Result<Timestamp, DecodeError> {
        match self.peek()? {
            Kind::Number => {
                let text = self.number()?;
                epoch_seconds(text).ok_or_else(|| cannot_convert(Kind::Number, "Timestamp"))
            }
            Kind::String => {
                let text = self.string()?;
                text.parse()
                    .map_err(|_| cannot_convert(Kind::String, "Timestamp"))
            }
            kind => Err(cannot_convert(kind, "Timestamp")),
        }
    }

    /// Passes over one value of any kind.
    pub fn skip(&mut self) -> Result<(), DecodeError> {
        match self.peek()? {
            Kind::Object => self.object(|_, reader| reader.skip()),
            Kind::Array => self.array(Self::skip),
            Kind::String => self.string().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::True => self.literal(b"true"),
            Kind::False => self.literal(b"false"),
            Kind::Null => self.literal(b"null"),
        }
    }

    /// Collects the top-level string members of an object, whatever else it holds.
    pub(crate) fn strings(&mut self) -> Result<BTreeMap<String, String>, DecodeError> {
        let mut found = BTreeMap::new();
        self.object(|key, reader| {
            if reader.peek()? == Kind::String {
                found.insert(key.to_owned(), reader.string()?.into_owned());
                return Ok(());
            }
            reader.skip()
        })?;
        Ok(found)
    }

    fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            match self.document.get(at) {
                Some(b'"') => break,
                Some(b'\\') => return self.escaped_string(start, at),
                Some(0x20..) => at += 1,
                Some(_) | None => {
                    self.at = at;
                    return Err(self.malformed());
                }
            }
        }
        self.at = at + 1;
        std::str::from_utf8(&self.document[start..at])
            .map(Cow::Borrowed)
            .map_err(|_| invalid_utf8())
    }

    #[cold]
    fn escaped_string(&mut self, start: usize, escape: usize) -> Result<Cow<'a, str>, DecodeError> {
        let mut text = self.document[start..escape].to_vec();
        self.at = escape;
        loop {
            let byte = self.next_byte()?;
            match byte {
                b'"' => break,
                b'\\' => {
                    let character = self.escape()?;
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0x20.. => text.push(byte),
                _ => return Err(self.malformed()),
            }
        }
        String::from_utf8(text)
            .map(Cow::Owned)
            .map_err(|_| invalid_utf8())
    }

    fn escape(&mut self) -> Result<char, DecodeError> {
        Ok(match self.next_byte()? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode_escape()?,
            _ => return Err(self.malformed()),
        })
    }

    /// Reads the digits of `\uXXXX`, and a second escape if they are half of a pair. A half without
    /// its partner has no character, so it reads as U+FFFD.
    fn unicode_escape(&mut self) -> Result<char, DecodeError> {
        let first = self.hex4()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        if !self.document[self.at..].starts_with(b"\\u") {
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let after_first = self.at;
        self.at += 2;
        let second = self.hex4()?;
        if !(0xdc00..0xe000).contains(&second) {
            self.at = after_first;
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let scalar = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        Ok(char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = char::from(self.next_byte()?).to_digit(16);
            value = value * 16 + digit.ok_or_else(|| self.malformed())?;
        }
        Ok(value)
    }

    /// Reads the text of a number, by JSON's grammar.
    fn number(&mut self) -> Result<&'a str, DecodeError> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') && !self.digits() {
            return Err(self.malformed());
        }
        if self.take(b'.') && !self.digits() {
            return Err(self.malformed());
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            if !self.digits() {
                return Err(self.malformed());
            }
        }
        std::str::from_utf8(&self.document[start..self.at]).map_err(|_| invalid_utf8())
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while matches!(self.document.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at > start
    }

    fn literal(&mut self, text: &[u8]) -> Result<(), DecodeError> {
        if !self.document[self.at..].starts_with(text) {
            return Err(self.malformed());
        }
        self.at += text.len();
        Ok(())
    }

    fn skip_space(&mut self) {
        while matches!(
            self.document.get(self.at),
            Some(b' ' | b'\t' | b'\n' | b'\r')
        ) {
            self.at += 1;
        }
    }

    fn next_byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.document.get(self.at).ok_or_else(|| self.malformed())?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.document.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), DecodeError> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }

    fn enter(&mut self) -> Result<(), DecodeError> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(DecodeError::serialization(
                "The request is nested too deeply",
            ));
        }
        Ok(())
    }

    #[cold]
    fn malformed(&self) -> DecodeError {
        match self.document.get(self.at) {
            None => DecodeError::serialization("Unexpected end of input"),
            Some(_) => {
                DecodeError::serialization(format!("Could not parse JSON at byte {}", self.at))
            }
        }
    }
}

/// A whole number in a form such as `1e3` or `5.0`, as some clients write it.
fn whole(text: &str) -> Option<i64> {
    let value: f64 = text.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to be whole and in range"
    )]
    (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64)
}

/// Microseconds are kept exactly where an `f64` would round them.
fn epoch_seconds(text: &str) -> Option<Timestamp> {
    let value: f64 = text.parse().ok()?;
    if value.abs() > 9e12 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "range checked above")]
    Some(Timestamp::from_micros((value * 1e6).round() as i64))
}

#[cold]
fn cannot_convert(kind: Kind, target: &str) -> DecodeError {
    let found = match kind {
        Kind::Object => return unexpected_structure(),
        Kind::Array => return unexpected_list(),
        Kind::String => "STRING_VALUE",
        Kind::Number => "NUMBER_VALUE",
        Kind::True => "TRUE_VALUE",
        Kind::False => "FALSE_VALUE",
        Kind::Null => "NULL_VALUE",
    };
    DecodeError::serialization(format!("{found} cannot be converted to {target}"))
}

fn unexpected_structure() -> DecodeError {
    DecodeError::serialization("Start of structure or map found where not expected.")
}

fn unexpected_list() -> DecodeError {
    DecodeError::serialization("Start of list found where not expected")
}

fn unexpected_scalar() -> DecodeError {
    DecodeError::serialization("Unexpected field type")
}

fn invalid_utf8() -> DecodeError {
    DecodeError::serialization("Invalid UTF-8 in a string")
}
