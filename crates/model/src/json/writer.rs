use std::io::Write as _;

use bytes::Bytes;

use crate::json::ToJson;
use crate::{Blob, Timestamp};

/// Appends JSON to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Self {
        // Most answers fit, so that the buffer grows at most once or twice.
        Self {
            out: Vec::with_capacity(512),
        }
    }

    /// What has been written.
    pub fn into_bytes(self) -> Bytes {
        self.out.into()
    }

    /// Starts an object; [`ObjectWriter::end`] closes it.
    pub fn object(&mut self) -> ObjectWriter<'_> {
        self.out.push(b'{');
        ObjectWriter {
            writer: self,
            empty: true,
        }
    }

    /// Writes `text` as it is: a literal, or JSON from elsewhere.
    pub fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Writes a string.
    pub fn string(&mut self, text: &str) {
        self.out.push(b'"');
        let bytes = text.as_bytes();
        let mut copied = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                0..=0x1f => &unicode_escape(*byte),
                _ => continue,
            };
            self.out.extend_from_slice(&bytes[copied..at]);
            self.out.extend_from_slice(escape);
            copied = at + 1;
        }
        self.out.extend_from_slice(&bytes[copied..]);
        self.out.push(b'"');
    }

    /// Writes a whole number.
    pub fn integer(&mut self, value: i64) {
        self.display(format_args!("{value}"));
    }

    /// Writes a number, or the names AWS gives to values that JSON has no number for.
    pub fn float(&mut self, value: f64) {
        if value.is_nan() {
            self.raw("\"NaN\"");
        } else if value.is_infinite() {
            self.raw(if value > 0.0 {
                "\"Infinity\""
            } else {
                "\"-Infinity\""
            });
        } else {
            self.display(format_args!("{value:?}"));
        }
    }

    /// Writes a moment as seconds since the epoch, with as many decimals as it needs.
    pub fn timestamp(&mut self, moment: Timestamp) {
        let micros = moment.as_micros();
        let sign = if micros < 0 { "-" } else { "" };
        let (secs, fraction) = (
            micros.unsigned_abs() / 1_000_000,
            micros.unsigned_abs() % 1_000_000,
        );
        if fraction == 0 {
            self.display(format_args!("{sign}{secs}"));
        } else if fraction % 1_000 == 0 {
            self.display(format_args!("{sign}{secs}.{:03}", fraction / 1_000));
        } else {
            self.display(format_args!("{sign}{secs}.{fraction:06}"));
        }
    }

    /// Writes a blob.
    pub fn base64(&mut self, blob: &Blob) {
        self.out.push(b'"');
        self.out.extend_from_slice(&blob.to_base64());
        self.out.push(b'"');
    }

    /// Writes a list.
    pub fn array<'v, T: ToJson + 'v>(&mut self, values: impl IntoIterator<Item = &'v T>) {
        self.out.push(b'[');
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            value.to_json(self);
        }
        self.out.push(b']');
    }

    fn display(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a Vec cannot fail.
        let _ = self.out.write_fmt(text);
    }
}

fn unicode_escape(byte: u8) -> [u8; 6] {
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]
}

/// An object being written.
#[derive(Debug)]
pub struct ObjectWriter<'a> {
    writer: &'a mut Writer,
    empty: bool,
}

impl ObjectWriter<'_> {
    /// Writes a member that is always there.
    pub fn entry<T: ToJson + ?Sized>(&mut self, name: &str, value: &T) {
        if !std::mem::take(&mut self.empty) {
            self.writer.out.push(b',');
        }
        self.writer.string(name);
        self.writer.out.push(b':');
        value.to_json(self.writer);
    }

    /// Writes a member unless it is absent.
    pub fn member<T: ToJson>(&mut self, name: &str, value: &Option<T>) {
        if let Some(value) = value {
            self.entry(name, value);
        }
    }

    /// Closes the object.
    pub fn end(self) {
        self.writer.out.push(b'}');
    }
}
