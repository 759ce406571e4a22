//! JSON Lines: one item a line.

use super::{Item, Unreadable, limit_item, parse};

/// Turns lines, given in pieces, into items.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    pub fn push(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<(), Unreadable> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.keep(&rest[..end])?;
            rest = &rest[end + 1..];
            self.end_line(items)?;
        }
        self.keep(rest)
    }

    pub fn finish(&mut self, items: &mut Vec<Item>) -> Result<(), Unreadable> {
        self.end_line(items)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        limit_item(self.line.len() + bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, items: &mut Vec<Item>) -> Result<(), Unreadable> {
        self.number += 1;
        let line = self
            .line
            .strip_prefix(b"\xef\xbb\xbf")
            .filter(|_| self.number == 1);
        let line = line.unwrap_or(&self.line);
        if !line.trim_ascii().is_empty() {
            let value = parse(line).map_err(|error| {
                Unreadable::new(format!("Line {} is not valid JSON: {error}", self.number))
            })?;
            items.push(Item::plain(value));
        }
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(text: &[u8], size: usize) -> Result<Vec<Value>, String> {
        let mut items = Vec::new();
        let mut read = || {
            let mut lines = Lines::default();
            for piece in text.chunks(size) {
                lines.push(piece, &mut items)?;
            }
            lines.finish(&mut items)
        };
        read().map_err(|unreadable| unreadable.cause)?;
        Ok(items.into_iter().map(|item| item.value).collect())
    }

    #[test]
    fn each_line_is_an_item_and_empty_ones_are_none() {
        let text = b"\xef\xbb\xbf{\"a\":1}\r\n\n  \n[2]\n\"three\"";
        for size in [1, 3, 1000] {
            assert_eq!(
                json!(read(text, size).unwrap()),
                json!([{"a": 1}, [2], "three"])
            );
        }
        assert!(read(b"", 1).unwrap().is_empty());
    }

    #[test]
    fn broken_line_is_named() {
        let cause = read(b"{}\n{\n", 10).unwrap_err();
        assert!(cause.starts_with("Line 2 is not valid JSON"), "{cause}");
        assert!(read(b"\xff\n", 10).is_err());
    }

    #[test]
    fn deep_and_huge_lines_are_errors() {
        assert!(read(&b"[".repeat(100_000), 4096).is_err());
        let mut lines = Lines::default();
        let piece = vec![b' '; 1 << 20];
        let mut items = Vec::new();
        let result = (0..9).try_for_each(|_| lines.push(&piece, &mut items));
        assert!(result.unwrap_err().cause.contains("8 MB"));
    }
}
