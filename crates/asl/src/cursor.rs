//! A place in a text that is being parsed.

/// What of a text stands in an error message at most.
const SHOWN: usize = 256;

pub struct Cursor<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Cursor<'s> {
    pub const fn new(source: &'s str) -> Self {
        Self { source, at: 0 }
    }

    /// The place itself, for [`Cursor::since`].
    pub const fn at(&self) -> usize {
        self.at
    }

    /// What has been passed since the cursor was at a place.
    pub fn since(&self, place: usize) -> &'s str {
        &self.source[place..self.at]
    }

    /// What has not been passed yet.
    pub fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn advance(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Passes so many bytes, which have to be whole characters.
    pub fn pass(&mut self, bytes: usize) -> &'s str {
        let passed = &self.rest()[..bytes];
        self.at += bytes;
        passed
    }

    /// Passes all characters that belong to something.
    pub fn run(&mut self, belongs: impl Fn(char) -> bool) -> &'s str {
        let rest = self.rest();
        self.pass(rest.find(|c| !belongs(c)).unwrap_or(rest.len()))
    }

    pub fn spaces(&mut self) {
        self.run(char::is_whitespace);
    }

    /// Passes a text, if it stands here.
    pub fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// How the text begins, and at which of its characters the cursor is.
    pub fn shown(&self) -> (String, usize) {
        let begins = self.source.chars().take(SHOWN).collect();
        (begins, self.source[..self.at].chars().count())
    }
}
