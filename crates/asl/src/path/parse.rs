//! Text to path. Every path is bounded in length and depth, since it comes from outside.

use serde_json::Value;

use super::filter::{Comparison, Expression, Operand};
use super::{Path, Root, Step};
use crate::cursor::Cursor;

/// Longer paths are refused; a whole definition may have a mebibyte.
const MAX_LENGTH: usize = 65_536;
/// Parentheses and filters inside filters.
const MAX_DEPTH: usize = 32;
/// Steps of one path; values are not nested so deeply. Each may take a place on the stack.
const MAX_STEPS: usize = 256;

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expected} expected at character {at} of '{source_text}'")]
pub struct ParsePathError {
    source_text: String,
    at: usize,
    expected: &'static str,
}

pub fn path(source: &str) -> Result<Path, ParsePathError> {
    let mut parser = Parser {
        cursor: Cursor::new(source),
        depth: 0,
    };
    if source.len() > MAX_LENGTH {
        return Err(parser.expected("a shorter path"));
    }
    let path = parser.path()?;
    match parser.cursor.peek() {
        None => Ok(path),
        Some(_) => Err(parser.expected("the end of the path")),
    }
}

struct Parser<'s> {
    cursor: Cursor<'s>,
    depth: usize,
}

impl Parser<'_> {
    fn path(&mut self) -> Result<Path, ParsePathError> {
        let began = self.cursor.at();
        if !self.cursor.take("$") {
            return Err(self.expected("'$'"));
        }
        let root = if self.cursor.take("$") {
            Root::Context
        } else {
            match self.cursor.run(is_variable) {
                "" => Root::Input,
                name => Root::Variable(name.into()),
            }
        };
        let steps = self.steps()?;
        Ok(Path {
            source: self.cursor.since(began).trim_end().into(),
            root,
            steps,
        })
    }

    fn steps(&mut self) -> Result<Vec<Step>, ParsePathError> {
        let mut steps = Vec::new();
        loop {
            if self.cursor.take("..") {
                steps.push(Step::Descent);
                match self.cursor.peek() {
                    Some('[') => {}
                    _ => steps.push(self.dotted()?),
                }
            } else if self.cursor.take(".") {
                match self.cursor.peek() {
                    // Jayway accepts `$.['a']`.
                    Some('[') => {}
                    _ => steps.push(self.dotted()?),
                }
            } else if self.cursor.peek() == Some('[') {
                steps.push(self.bracketed()?);
            } else {
                return Ok(steps);
            }
            if steps.len() > MAX_STEPS {
                return Err(self.expected("a path of fewer steps"));
            }
            // What follows would be passed over, also where it makes the path an indefinite one.
            if steps.last() == Some(&Step::Length) && matches!(self.cursor.peek(), Some('.' | '['))
            {
                return Err(self.expected("nothing after length()"));
            }
        }
    }

    fn dotted(&mut self) -> Result<Step, ParsePathError> {
        if self.cursor.take("*") {
            return Ok(Step::Wildcard);
        }
        // Inside a filter the signs of comparisons end a name.
        let in_filter = self.depth > 0;
        let name = self
            .cursor
            .run(|c| is_name(c) && !(in_filter && "=<>!&|".contains(c)));
        if name.is_empty() {
            return Err(self.expected("a name"));
        }
        if self.cursor.take("(") {
            self.cursor.spaces();
            if name == "length" && self.cursor.take(")") {
                return Ok(Step::Length);
            }
            return Err(self.expected("no function but length()"));
        }
        Ok(Step::Name(name.into()))
    }

    fn bracketed(&mut self) -> Result<Step, ParsePathError> {
        self.need("[", "'['")?;
        self.cursor.spaces();
        let step = match self.cursor.peek() {
            Some('*') => {
                self.cursor.advance();
                Step::Wildcard
            }
            Some('?') => {
                self.cursor.advance();
                Step::Filter(Box::new(self.filter()?))
            }
            Some('\'' | '"') => {
                let names = self.list(Self::quoted)?;
                match <[String; 1]>::try_from(names) {
                    Ok([name]) => Step::Name(name.into()),
                    Err(names) => Step::Names(names.into_iter().map(Into::into).collect()),
                }
            }
            _ => self.numbers()?,
        };
        self.cursor.spaces();
        self.need("]", "']'")?;
        Ok(step)
    }

    /// `3`, `0, 2`, `1:`, `:2`, `1:2`.
    fn numbers(&mut self) -> Result<Step, ParsePathError> {
        let first = self.integer_if_any()?;
        self.cursor.spaces();
        if self.cursor.take(":") {
            self.cursor.spaces();
            return Ok(Step::Slice(first, self.integer_if_any()?));
        }
        let Some(first) = first else {
            return Err(self.expected("an index"));
        };
        let mut all = vec![first];
        while self.cursor.take(",") {
            self.cursor.spaces();
            match self.integer_if_any()? {
                Some(number) => all.push(number),
                None => return Err(self.expected("an index")),
            }
            self.cursor.spaces();
        }
        Ok(match <[i64; 1]>::try_from(all) {
            Ok([index]) => Step::Index(index),
            Err(all) => Step::Indices(all),
        })
    }

    fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<T, ParsePathError>,
    ) -> Result<Vec<T>, ParsePathError> {
        let mut all = vec![one(self)?];
        self.cursor.spaces();
        while self.cursor.take(",") {
            self.cursor.spaces();
            all.push(one(self)?);
            self.cursor.spaces();
        }
        Ok(all)
    }

    fn filter(&mut self) -> Result<Expression, ParsePathError> {
        self.cursor.spaces();
        self.need("(", "'('")?;
        let expression = self.nested(Self::any_of)?;
        self.cursor.spaces();
        self.need(")", "')'")?;
        Ok(expression)
    }

    fn any_of(&mut self) -> Result<Expression, ParsePathError> {
        self.terms("||", Self::all_of, Expression::Any)
    }

    fn all_of(&mut self) -> Result<Expression, ParsePathError> {
        self.terms("&&", Self::term, Expression::All)
    }

    /// One term, or several with a sign between them.
    fn terms(
        &mut self,
        sign: &str,
        mut one: impl FnMut(&mut Self) -> Result<Expression, ParsePathError>,
        several: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, ParsePathError> {
        let mut terms = vec![one(self)?];
        loop {
            self.cursor.spaces();
            if !self.cursor.take(sign) {
                return Ok(match <[Expression; 1]>::try_from(terms) {
                    Ok([term]) => term,
                    Err(terms) => several(terms),
                });
            }
            terms.push(one(self)?);
        }
    }

    fn term(&mut self) -> Result<Expression, ParsePathError> {
        self.cursor.spaces();
        if self.cursor.peek() == Some('!') {
            self.cursor.advance();
            let inner = self.nested(Self::term)?;
            return Ok(Expression::Not(Box::new(inner)));
        }
        if self.cursor.take("(") {
            let inner = self.nested(Self::any_of)?;
            self.cursor.spaces();
            self.need(")", "')'")?;
            return Ok(inner);
        }
        let left = self.operand()?;
        self.cursor.spaces();
        let Some(comparison) = self.comparison() else {
            return Ok(Expression::Exists(left));
        };
        self.cursor.spaces();
        Ok(Expression::Compare(left, comparison, self.operand()?))
    }

    fn comparison(&mut self) -> Option<Comparison> {
        // The longer sign first: `<=` begins with `<`.
        let signs = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
            ("in ", Comparison::In),
            ("nin ", Comparison::NotIn),
            ("contains ", Comparison::Contains),
        ];
        let found = signs.into_iter().find(|(sign, _)| self.cursor.take(sign));
        found.map(|(_, comparison)| comparison)
    }

    fn operand(&mut self) -> Result<Operand, ParsePathError> {
        match self.cursor.peek() {
            Some('@') => {
                self.cursor.advance();
                Ok(Operand::Element(self.nested(Self::steps)?))
            }
            Some('$') => Ok(Operand::Path(Box::new(self.nested(Self::path)?))),
            Some('[') => {
                self.cursor.advance();
                self.cursor.spaces();
                let values = if self.cursor.peek() == Some(']') {
                    Vec::new()
                } else {
                    self.list(Self::literal)?
                };
                self.need("]", "']'")?;
                Ok(Operand::Value(Value::Array(values)))
            }
            _ => Ok(Operand::Value(self.literal()?)),
        }
    }

    fn literal(&mut self) -> Result<Value, ParsePathError> {
        if let Some('\'' | '"') = self.cursor.peek() {
            return self.quoted().map(Value::String);
        }
        let word = self
            .cursor
            .run(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        serde_json::from_str(word).map_err(|_| self.expected("a value"))
    }

    /// A text between quotes of either kind; a backslash takes the next character as it is.
    fn quoted(&mut self) -> Result<String, ParsePathError> {
        let Some(quote @ ('\'' | '"')) = self.cursor.peek() else {
            return Err(self.expected("a quote"));
        };
        self.cursor.advance();
        let mut text = String::new();
        loop {
            match self.cursor.advance() {
                None => return Err(self.expected("a closing quote")),
                Some('\\') => match self.cursor.advance() {
                    None => return Err(self.expected("a closing quote")),
                    Some(escaped) => text.push(escaped),
                },
                Some(end) if end == quote => return Ok(text),
                Some(other) => text.push(other),
            }
        }
    }

    fn integer_if_any(&mut self) -> Result<Option<i64>, ParsePathError> {
        let digits = self.cursor.run(|c| c.is_ascii_digit() || c == '-');
        if digits.is_empty() {
            return Ok(None);
        }
        digits
            .parse()
            .map(Some)
            .map_err(|_| self.expected("an index"))
    }

    fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, ParsePathError>,
    ) -> Result<T, ParsePathError> {
        if self.depth == MAX_DEPTH {
            return Err(self.expected("a less nested filter"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn need(&mut self, text: &str, expected: &'static str) -> Result<(), ParsePathError> {
        if self.cursor.take(text) {
            Ok(())
        } else {
            Err(self.expected(expected))
        }
    }

    fn expected(&self, expected: &'static str) -> ParsePathError {
        let (source_text, at) = self.cursor.shown();
        ParsePathError {
            source_text,
            at,
            expected,
        }
    }
}

/// What may stand in a name after a dot. Jayway takes everything that does not end it.
fn is_name(character: char) -> bool {
    !matches!(character, '.' | '[' | ']' | '(' | ')' | ',' | '\'' | '"')
        && !character.is_whitespace()
}

/// Variable names are Unicode identifiers.
fn is_variable(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
