//! A position in a pattern.

use super::ParsePatternError;

pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

type Result<T> = std::result::Result<T, ParsePatternError>;

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Takes `token` if it comes next.
    pub(super) fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Takes `word` if it comes next, in any case, and no letter or digit follows.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let found = rest
            .get(..word.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(word))
            && !rest[word.len()..].starts_with(|next: char| next.is_alphanumeric());
        if found {
            self.at += word.len();
        }
        found
    }

    pub(super) fn expect(&mut self, token: &str, reason: &'static str) -> Result<()> {
        if self.take(token) {
            Ok(())
        } else {
            Err(self.error(reason))
        }
    }

    pub(super) fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    pub(super) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|next| !wanted(next)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Reads text in double quotes, in which a backslash makes the next character plain. The
    /// opening quote comes next.
    pub(super) fn quoted(&mut self) -> Result<String> {
        self.expect("\"", "expected a quote")?;
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(self.error("a quote that is never closed")),
                Some('"') => return Ok(text),
                Some('\\') => match self.next() {
                    Some(escaped @ ('"' | '\\')) => text.push(escaped),
                    Some(other) => text.extend(['\\', other]),
                    None => return Err(self.error("a quote that is never closed")),
                },
                Some(plain) => text.push(plain),
            }
        }
    }

    pub(super) fn error(&self, reason: &'static str) -> ParsePatternError {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        ParsePatternError {
            reason,
            at: before.chars().count() + 1,
        }
    }
}
