//! Patterns on space-delimited events: `[ip, user, ..., status = 5* || status = 404, size > 1000]`.

use super::ParsePatternError;
use super::condition::{self, Comparison};
use super::cursor::Cursor;
use super::expression::{self, Expression};

#[derive(Clone, Debug)]
pub(super) struct Fields {
    before: Vec<Option<Expression<Comparison>>>,
    /// Fields behind `...`, which stands for any number of them.
    after: Option<Vec<Option<Expression<Comparison>>>>,
}

type Result<T> = std::result::Result<T, ParsePatternError>;

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Fields> {
    cursor.expect("[", "expected an opening bracket")?;
    let mut fields = Fields {
        before: Vec::new(),
        after: None,
    };
    cursor.skip_spaces();
    if cursor.take("]") {
        fields.after = Some(Vec::new());
        return Ok(fields);
    }
    loop {
        cursor.skip_spaces();
        if cursor.take("...") {
            if fields.after.replace(Vec::new()).is_some() {
                return Err(cursor.error("a second ellipsis"));
            }
        } else {
            let field = field(cursor)?;
            fields
                .after
                .as_mut()
                .unwrap_or(&mut fields.before)
                .push(field);
        }
        cursor.skip_spaces();
        if cursor.take("]") {
            return Ok(fields);
        }
        cursor.expect(",", "expected a comma or a closing bracket")?;
    }
}

/// One field: nothing or a name, or conditions on it.
fn field(cursor: &mut Cursor<'_>) -> Result<Option<Expression<Comparison>>> {
    if matches!(cursor.peek(), Some(',' | ']')) {
        return Ok(None);
    }
    let mut ahead = Cursor::new(cursor.rest());
    let name = name(&mut ahead);
    ahead.skip_spaces();
    if !name.is_empty() && matches!(ahead.peek(), Some(',' | ']')) {
        let _ = self::name(cursor);
        return Ok(None);
    }
    expression::parse(cursor, comparison).map(Some)
}

fn comparison(cursor: &mut Cursor<'_>) -> Result<Comparison> {
    cursor.skip_spaces();
    if name(cursor).is_empty() {
        return Err(cursor.error("expected the name of a field"));
    }
    cursor.skip_spaces();
    let operator =
        condition::operator(cursor).ok_or_else(|| cursor.error("expected an operator"))?;
    condition::comparison(cursor, operator, &[',', ']'])
}

fn name<'a>(cursor: &mut Cursor<'a>) -> &'a str {
    cursor.take_while(|next| next.is_alphanumeric() || "_-@:/#$".contains(next))
}

impl Fields {
    pub(super) fn matches(&self, message: &str) -> bool {
        let fields = split(message);
        let after = self.after.as_deref().unwrap_or_default();
        let needed = self.before.len() + after.len();
        let fits = match self.after {
            Some(_) => fields.len() >= needed,
            None => fields.len() == needed,
        };
        if !fits {
            return false;
        }
        let front = self.before.iter().zip(&fields);
        let back = after.iter().rev().zip(fields.iter().rev());
        front.chain(back).all(|(condition, field)| {
            condition.as_ref().is_none_or(|condition| {
                condition.holds(&|comparison| comparison.holds_for_text(field))
            })
        })
    }
}

/// The fields of an event: words, or what is within double quotes or brackets.
fn split(message: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = message.trim_start();
    while let Some(first) = rest.chars().next() {
        let close = match first {
            '"' => Some('"'),
            '[' => Some(']'),
            _ => None,
        };
        let enclosed = close.and_then(|close| rest[1..].split_once(close));
        let (field, behind) = match enclosed {
            Some(parts) => parts,
            None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        fields.push(field);
        rest = behind.trim_start();
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;

    const LINE: &str =
        r#"127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534"#;

    fn check(pattern: &str) -> bool {
        Pattern::parse(pattern)
            .unwrap_or_else(|err| panic!("{pattern}: {err}"))
            .matches(LINE)
    }

    #[test]
    fn fields_are_matched_by_place() {
        for pattern in [
            "[ip, id, user, timestamp, request, status_code, size]",
            "[]",
            "[...]",
            "[ip, user, ...]",
            "[..., status_code, bytes]",
            "[ip, ..., status = 404, bytes]",
            "[ip, id, user, timestamp, request = *index*, status_code = 4*, bytes > 1000]",
            "[ip, id, user, timestamp, request, status = 404 || status = 410, size >= 1534]",
            r#"[ip, id, user = "frank", ..., size != 0]"#,
            "[ip = 127.* && ip != 10.*, ...]",
            "[,,,,,,]",
        ] {
            assert!(check(pattern), "{pattern}");
        }
        for pattern in [
            "[ip, user]",
            "[ip, id, user, timestamp, request, status_code, size, more]",
            "[ip, id, user, timestamp, request, status_code = 5*, bytes]",
            "[ip, id, user, timestamp, request, status_code, bytes < 1000]",
            "[ip, id, user = fran, ...]",
        ] {
            assert!(!check(pattern), "{pattern}");
        }
    }

    #[test]
    fn malformed_fields_are_errors() {
        for pattern in [
            "[",
            "[a",
            "[a,",
            "[a b]",
            "[a =]",
            "[..., ...]",
            "[= 1]",
            "[a > x]",
        ] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
