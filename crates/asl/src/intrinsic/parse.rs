//! Text to call.

use serde_json::Value;

use super::{Argument, Function, Intrinsic};
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
    let mut parser = Parser { source, at: 0 };
    if source.len() > MAX_LENGTH {
        return Err(parser.expected("a shorter call"));
    }
    let call = parser.call(0)?;
    parser.spaces();
    if parser.at < source.len() {
        return Err(parser.expected("the end"));
    }
    Ok(call)
}

struct Parser<'s> {
    source: &'s str,
    at: usize,
}

impl Parser<'_> {
    fn call(&mut self, depth: usize) -> Result<Intrinsic, ParseIntrinsicError> {
        if depth == MAX_DEPTH {
            return Err(self.expected("no more than ten calls inside one another"));
        }
        self.spaces();
        let began = self.at;
        let name = self.run(|c| c.is_ascii_alphanumeric() || c == '.');
        let Some(function) = Function::named(name) else {
            let name = name.to_owned();
            return Err(ParseIntrinsicError::Unknown { name });
        };
        self.spaces();
        self.need('(', "'('")?;
        let mut arguments = Vec::new();
        self.spaces();
        if !self.take(')') {
            loop {
                arguments.push(self.argument(depth)?);
                self.spaces();
                if self.take(')') {
                    break;
                }
                self.need(',', "',' or ')'")?;
                self.spaces();
            }
        }
        if !function.takes(arguments.len()) {
            return Err(ParseIntrinsicError::Arguments {
                name: function.name(),
                given: arguments.len(),
            });
        }
        Ok(Intrinsic {
            source: self.source[began..self.at].into(),
            function,
            arguments,
        })
    }

    fn argument(&mut self, depth: usize) -> Result<Argument, ParseIntrinsicError> {
        match self.peek() {
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
                let word = self.run(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                match serde_json::from_str(word) {
                    Ok(value) => Ok(Argument::Value(value)),
                    Err(_) => Err(self.expected("an argument")),
                }
            }
        }
    }

    /// Up to the comma or parenthesis that ends the argument, outside of brackets and quotes.
    fn path_text(&mut self) -> &str {
        let rest = &self.source[self.at..];
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
        let end = end.unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// A text in single quotes. A backslash stays before a brace, which means something to
    /// `States.Format` alone, and makes any other character stand for itself.
    fn text(&mut self) -> Result<Value, ParseIntrinsicError> {
        self.need('\'', "a quote")?;
        let mut text = String::new();
        loop {
            match self.advance() {
                None => return Err(self.expected("a closing quote")),
                Some('\'') => return Ok(Value::String(text)),
                Some('\\') => match self.advance() {
                    None => return Err(self.expected("a closing quote")),
                    Some(brace @ ('{' | '}')) => text.extend(['\\', brace]),
                    Some(escaped) => text.push(escaped),
                },
                Some(other) => text.push(other),
            }
        }
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &str {
        let rest = &self.source[self.at..];
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn spaces(&mut self) {
        self.run(char::is_whitespace);
    }

    fn peek(&self) -> Option<char> {
        self.source[self.at..].chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take(&mut self, character: char) -> bool {
        let found = self.peek() == Some(character);
        if found {
            self.at += character.len_utf8();
        }
        found
    }

    fn need(&mut self, character: char, expected: &'static str) -> Result<(), ParseIntrinsicError> {
        if self.take(character) {
            Ok(())
        } else {
            Err(self.expected(expected))
        }
    }

    fn expected(&self, expected: &'static str) -> ParseIntrinsicError {
        ParseIntrinsicError::Syntax {
            source_text: self.source.chars().take(256).collect(),
            at: self.source[..self.at].chars().count(),
            expected,
        }
    }
}
