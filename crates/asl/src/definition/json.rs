//! What is wrong with a text that is no JSON, in the words of Jackson, the parser that AWS uses.
//!
//! The text has failed in `serde_json` before: this reads it again, only as far as it goes, to tell
//! where and why.

/// Jackson shows this much of a text that it read from a string.
const MAX_SHOWN: usize = 500;

/// The message, and the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    pub location: String,
}

pub fn problem(text: &str) -> Option<Problem> {
    let mut reader = Reader {
        source: text,
        characters: text.chars().collect(),
        at: 0,
        line: 1,
        column: 1,
        open: Vec::new(),
    };
    let stopped = reader.document().err()?;
    let (line, column) = stopped.place.unwrap_or((reader.line, reader.column));
    let location = reader.location(line, column);
    Some(Problem {
        message: format!("{}\n at {location}", stopped.message),
        location,
    })
}

struct Stopped {
    message: String,
    /// Line and column, where they are not those of the reader.
    place: Option<(usize, usize)>,
}

struct Open {
    bracket: char,
    line: usize,
    column: usize,
}

/// What comes next in a document.
#[derive(Clone, Copy, PartialEq)]
enum Expected {
    Value,
    /// The first element, or the end, of an array.
    FirstElement,
    /// The first name, or the end, of an object.
    FirstName,
    Name,
    /// A comma or the end.
    Separator,
}

struct Reader<'t> {
    source: &'t str,
    characters: Vec<char>,
    at: usize,
    line: usize,
    column: usize,
    open: Vec<Open>,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<(), Stopped> {
        let mut expected = Expected::Value;
        loop {
            self.spaces();
            if self.open.is_empty() && expected == Expected::Separator {
                // Whatever follows the document is not looked at.
                return Ok(());
            }
            let Some(next) = self.peek() else {
                return Err(self.end());
            };
            expected = match expected {
                Expected::FirstElement if next == ']' => self.close(next)?,
                Expected::FirstName if next == '}' => self.close(next)?,
                Expected::Value | Expected::FirstElement => self.value(next)?,
                Expected::FirstName | Expected::Name => self.name(next)?,
                Expected::Separator => match next {
                    ']' | '}' => self.close(next)?,
                    ',' => {
                        self.advance();
                        if self.open.last().is_some_and(|open| open.bracket == '{') {
                            Expected::Name
                        } else {
                            Expected::Value
                        }
                    }
                    other => {
                        let kind = match self.open.last().map(|open| open.bracket) {
                            Some('{') => "Object",
                            _ => "Array",
                        };
                        return Err(self.unexpected(
                            other,
                            &format!("was expecting comma to separate {kind} entries"),
                        ));
                    }
                },
            };
        }
    }

    fn value(&mut self, next: char) -> Result<Expected, Stopped> {
        match next {
            '{' | '[' => {
                self.open.push(Open {
                    bracket: next,
                    line: self.line,
                    column: self.column,
                });
                self.advance();
                Ok(if next == '{' {
                    Expected::FirstName
                } else {
                    Expected::FirstElement
                })
            }
            '"' => {
                self.text()?;
                Ok(Expected::Separator)
            }
            '-' | '0'..='9' => {
                self.number()?;
                Ok(Expected::Separator)
            }
            letter if letter.is_alphabetic() || letter == '_' || letter == '$' => {
                self.word()?;
                Ok(Expected::Separator)
            }
            other => Err(self.unexpected(
                other,
                "expected a valid value (JSON String, Number, Array, Object or token 'null', \
                 'true' or 'false')",
            )),
        }
    }

    fn name(&mut self, next: char) -> Result<Expected, Stopped> {
        if next != '"' {
            return Err(self.unexpected(next, "was expecting double-quote to start field name"));
        }
        self.text()?;
        self.spaces();
        match self.peek() {
            Some(':') => {
                self.advance();
                Ok(Expected::Value)
            }
            Some(other) => Err(self.unexpected(
                other,
                "was expecting a colon to separate field name and value",
            )),
            None => Err(self.end()),
        }
    }

    fn text(&mut self) -> Result<(), Stopped> {
        self.advance();
        loop {
            match self.peek() {
                None => {
                    return Err(self.stopped(
                        "Unexpected end-of-input: was expecting closing quote for a string value",
                    ));
                }
                Some('"') => {
                    self.advance();
                    return Ok(());
                }
                Some('\\') => {
                    self.advance();
                    match self.peek() {
                        Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => self.advance(),
                        Some('u') => self.unicode()?,
                        Some(other) => {
                            self.advance();
                            return Err(self.stopped(&format!(
                                "Unrecognized character escape {}",
                                described(other)
                            )));
                        }
                        None => {
                            return Err(self
                                .stopped("Unexpected end-of-input in character escape sequence"));
                        }
                    }
                }
                Some(control) if control < ' ' => {
                    self.advance();
                    return Err(self.stopped(&format!(
                        "Illegal unquoted character ({}): has to be escaped using backslash to be \
                         included in string value",
                        described(control)
                    )));
                }
                Some(_) => self.advance(),
            }
        }
    }

    fn unicode(&mut self) -> Result<(), Stopped> {
        self.advance();
        for _ in 0..4 {
            match self.peek() {
                Some(digit) if digit.is_ascii_hexdigit() => self.advance(),
                Some(other) => {
                    return Err(self
                        .unexpected(other, "expected a hex-digit for character escape sequence"));
                }
                None => {
                    return Err(
                        self.stopped("Unexpected end-of-input in character escape sequence")
                    );
                }
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Stopped> {
        let began = self.at;
        while self
            .peek()
            .is_some_and(|c| c.is_ascii_digit() || "+-.eE".contains(c))
        {
            self.advance();
        }
        let digits: String = self.characters[began..self.at].iter().collect();
        if serde_json::from_str::<serde_json::Number>(&digits).is_ok() {
            return Ok(());
        }
        if digits.trim_start_matches('-').starts_with('0') {
            return Err(self.stopped("Invalid numeric value: Leading zeroes not allowed"));
        }
        match self.peek() {
            Some(other) => Err(self.unexpected(
                other,
                "Expected digit (0-9) to follow minus sign, for valid numeric value",
            )),
            None => Err(self.end()),
        }
    }

    /// `null`, `true`, `false`, or nothing that Jackson knows.
    fn word(&mut self) -> Result<(), Stopped> {
        let began = self.at;
        while self
            .peek()
            .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$')
        {
            self.advance();
        }
        let word: String = self.characters[began..self.at].iter().collect();
        if ["null", "true", "false"].contains(&word.as_str()) {
            return Ok(());
        }
        Err(self.stopped(&format!(
            "Unrecognized token '{word}': was expecting (JSON String, Number, Array, Object or \
             token 'null', 'true' or 'false')"
        )))
    }

    fn close(&mut self, bracket: char) -> Result<Expected, Stopped> {
        let Some(open) = self.open.last() else {
            return Ok(Expected::Separator);
        };
        let (wanted, kind) = match open.bracket {
            '{' => ('}', "Object"),
            _ => (']', "Array"),
        };
        if bracket != wanted {
            let from = self.location(open.line, open.column);
            self.advance();
            return Err(self.stopped(&format!(
                "Unexpected close marker '{bracket}': expected '{wanted}' (for {kind} starting at \
                 {from})"
            )));
        }
        self.open.pop();
        self.advance();
        Ok(Expected::Separator)
    }

    fn end(&self) -> Stopped {
        let message = match self.open.last() {
            None => "No content to map due to end-of-input".to_owned(),
            Some(open) => {
                let kind = if open.bracket == '{' {
                    "Object"
                } else {
                    "Array"
                };
                let from = self.location(open.line, open.column);
                format!(
                    "Unexpected end-of-input: expected close marker for {kind} (start marker at \
                     {from})"
                )
            }
        };
        self.stopped(&message)
    }

    fn unexpected(&mut self, character: char, expected: &str) -> Stopped {
        // Jackson has read the character already.
        self.advance();
        self.stopped(&format!(
            "Unexpected character ({}): {expected}",
            described(character)
        ))
    }

    fn stopped(&self, message: &str) -> Stopped {
        Stopped {
            message: message.to_owned(),
            place: None,
        }
    }

    fn location(&self, line: usize, column: usize) -> String {
        let shown: String = self.source.chars().take(MAX_SHOWN).collect();
        let rest = self.characters.len().saturating_sub(MAX_SHOWN);
        let rest = if rest > 0 {
            format!("[truncated {rest} chars]")
        } else {
            String::new()
        };
        format!("[Source: (String)\"{shown}\"{rest}; line: {line}, column: {column}]")
    }

    fn spaces(&mut self) {
        while self.peek().is_some_and(|c| " \t\r\n".contains(c)) {
            self.advance();
        }
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn advance(&mut self) {
        if self.peek() == Some('\n') {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        self.at += 1;
    }
}

fn described(character: char) -> String {
    let code = u32::from(character);
    if code < 32 {
        format!("(CTRL-CHAR, code {code})")
    } else if code > 255 {
        format!("'{character}' (code {code} / 0x{code:x})")
    } else {
        format!("'{character}' (code {code})")
    }
}
