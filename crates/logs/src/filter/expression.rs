//! Conditions joined with `&&`, `||` and parentheses.

use super::ParsePatternError;
use super::cursor::Cursor;

/// Patterns come from outside; deeper nesting than this is refused.
const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug)]
pub(super) enum Expression<T> {
    Is(T),
    All(Vec<Self>),
    Any(Vec<Self>),
}

type Result<T> = std::result::Result<T, ParsePatternError>;
type Leaf<T> = fn(&mut Cursor<'_>) -> Result<T>;

/// Parses an expression; `&&` binds tighter than `||`. `leaf` reads one condition.
pub(super) fn parse<T>(cursor: &mut Cursor<'_>, leaf: Leaf<T>) -> Result<Expression<T>> {
    any(cursor, leaf, 0)
}

fn any<T>(cursor: &mut Cursor<'_>, leaf: Leaf<T>, depth: usize) -> Result<Expression<T>> {
    let mut parts = vec![all(cursor, leaf, depth)?];
    while joined(cursor, "||") {
        parts.push(all(cursor, leaf, depth)?);
    }
    Ok(if parts.len() == 1 {
        parts.remove(0)
    } else {
        Expression::Any(parts)
    })
}

fn all<T>(cursor: &mut Cursor<'_>, leaf: Leaf<T>, depth: usize) -> Result<Expression<T>> {
    let mut parts = vec![one(cursor, leaf, depth)?];
    while joined(cursor, "&&") {
        parts.push(one(cursor, leaf, depth)?);
    }
    Ok(if parts.len() == 1 {
        parts.remove(0)
    } else {
        Expression::All(parts)
    })
}

fn one<T>(cursor: &mut Cursor<'_>, leaf: Leaf<T>, depth: usize) -> Result<Expression<T>> {
    cursor.skip_spaces();
    if !cursor.take("(") {
        return leaf(cursor).map(Expression::Is);
    }
    if depth == MAX_DEPTH {
        return Err(cursor.error("too many parentheses"));
    }
    let inner = any(cursor, leaf, depth + 1)?;
    cursor.skip_spaces();
    cursor.expect(")", "expected a closing parenthesis")?;
    Ok(inner)
}

fn joined(cursor: &mut Cursor<'_>, token: &str) -> bool {
    cursor.skip_spaces();
    cursor.take(token)
}

impl<T> Expression<T> {
    pub(super) fn holds(&self, is: &impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Is(condition) => is(condition),
            Self::All(parts) => parts.iter().all(|part| part.holds(is)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(is)),
        }
    }
}
