//! Text to call.

use serde_json::Value;

use super::{Argument, Function, Intrinsic};
use crate::cursor::Cursor;
use crate::path::Path;

/// Calls inside calls, as AWS limits them.
const MAX_DEPTH: usize = 10;
/// Longer calls are refused.
const MAX_LENGTH: usize = 10_000;

/// Why a text is no call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseIntrinsicError {
    #[error("'{name}' is not an intrinsic function")]
    Unknown { name: String },
    #[error("{expected} expected at character {at} of the call '{source_text}'")]
    Syntax {
        source_text: String,
        at: usize,
        expected: &'static str,
    },
    #[error("{path} in an intrinsic function is not a valid path")]
    Path { path: String },
    #[error("{name} does not take {given} arguments")]
    Arguments { name: &'static str, given: usize },
}

pub fn intrinsic(source: &str) -> Result<Intrinsic, ParseIntrinsicError> {
    let mut parser = Parser {
        cursor: Cursor::new(source),
    };
    if source.len() > MAX_LENGTH {
        return Err(parser.expected("a shorter call"));
    }
    let call = parser.call(0)?;
    parser.cursor.spaces();
    if !parser.cursor.rest().is_empty() {
        return Err(parser.expected("the end"));
    }
    Ok(call)
}

struct Parser<'s> {
    cursor: Cursor<'s>,
}

impl Parser<'_> {
    fn call(&mut self, depth: usize) -> Result<Intrinsic, ParseIntrinsicError> {
        if depth == MAX_DEPTH {
            return Err(self.expected("no more than ten calls inside one another"));
        }
        self.cursor.spaces();
        let began = self.cursor.at();
        let name = self.cursor.run(|c| c.is_ascii_alphanumeric() || c == '.');
        let Some(function) = Function::named(name) else {
            let name = name.to_owned();
            return Err(ParseIntrinsicError::Unknown { name });
        };
        self.cursor.spaces();
        self.need("(", "'('")?;
        let mut arguments = Vec::new();
        self.cursor.spaces();
        if !self.cursor.take(")") {
            loop {
                arguments.push(self.argument(depth)?);
                self.cursor.spaces();
                if self.cursor.take(")") {
                    break;
                }
                self.need(",", "',' or ')'")?;
                self.cursor.spaces();
            }
        }
        if !function.takes(arguments.len()) {
            return Err(ParseIntrinsicError::Arguments {
                name: function.name(),
                given: arguments.len(),
            });
        }
        Ok(Intrinsic {
            source: self.cursor.since(began).into(),
            function,
            arguments,
        })
    }

    fn argument(&mut self, depth: usize) -> Result<Argument, ParseIntrinsicError> {
        match self.cursor.peek() {
            Some('\'') => self.text().map(Argument::Value),
            Some('$') => {
                let path = self.path_text();
                match Path::parse(path.trim_end()) {
                    Ok(path) => Ok(Argument::Path(path)),
                    Err(_) => Err(ParseIntrinsicError::Path {
                        path: path.to_owned(),
                    }),
                }
            }
            Some('S') => self.call(depth + 1).map(Argument::Call),
            _ => {
                let word = self
                    .cursor
                    .run(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                match serde_json::from_str(word) {
                    Ok(value) => Ok(Argument::Value(value)),
                    Err(_) => Err(self.expected("an argument")),
                }
            }
        }
    }

    /// Up to the comma or parenthesis that ends the argument, outside of brackets and quotes.
    fn path_text(&mut self) -> &str {
        let rest = self.cursor.rest();
        let (mut brackets, mut parentheses, mut quote) = (0_usize, 0_usize, None);
        let end = rest.find(|character| {
            match (quote, character) {
                (Some(open), _) if open == character => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(character),
                (None, '[') => brackets += 1,
                (None, ']') => brackets = brackets.saturating_sub(1),
                (None, '(') => parentheses += 1,
                (None, ')') if parentheses > 0 => parentheses -= 1,
                (None, ',' | ')') => return brackets == 0,
                _ => {}
            }
            false
        });
        self.cursor.pass(end.unwrap_or(rest.len()))
    }

    /// A text in single quotes. A backslash stays before a brace, which means something to
    /// `States.Format` alone, and makes any other character stand for itself.
    fn text(&mut self) -> Result<Value, ParseIntrinsicError> {
        self.need("'", "a quote")?;
        let mut text = String::new();
        loop {
            match self.cursor.advance() {
                None => return Err(self.expected("a closing quote")),
                Some('\'') => return Ok(Value::String(text)),
                Some('\\') => match self.cursor.advance() {
                    None => return Err(self.expected("a closing quote")),
                    Some(brace @ ('{' | '}')) => text.extend(['\\', brace]),
                    Some(escaped) => text.push(escaped),
                },
                Some(other) => text.push(other),
            }
        }
    }

    fn need(&mut self, text: &str, expected: &'static str) -> Result<(), ParseIntrinsicError> {
        if self.cursor.take(text) {
            Ok(())
        } else {
            Err(self.expected(expected))
        }
    }

    fn expected(&self, expected: &'static str) -> ParseIntrinsicError {
        let (source_text, at) = self.cursor.shown();
        ParseIntrinsicError::Syntax {
            source_text,
            at,
            expected,
        }
    }
}
