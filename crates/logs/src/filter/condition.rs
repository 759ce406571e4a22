//! Comparisons: an operator and a value, as JSON and field patterns share them.

use super::ParsePatternError;
use super::cursor::Cursor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug)]
pub(super) struct Comparison {
    operator: Operator,
    /// The value as text; `*` in it stands for anything.
    text: String,
    /// The value as a number, if it was written as one.
    number: Option<f64>,
}

pub(super) fn operator(cursor: &mut Cursor<'_>) -> Option<Operator> {
    [
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("=", Operator::Equal),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ]
    .into_iter()
    .find_map(|(token, operator)| cursor.take(token).then_some(operator))
}

/// Reads the value behind an operator, up to one of the characters in `end`.
pub(super) fn comparison(
    cursor: &mut Cursor<'_>,
    operator: Operator,
    end: &[char],
) -> Result<Comparison, ParsePatternError> {
    cursor.skip_spaces();
    let (text, number) = if cursor.peek() == Some('"') {
        (cursor.quoted()?, None)
    } else {
        let stop =
            |next: char| next.is_whitespace() || "\"&|()".contains(next) || end.contains(&next);
        let word = cursor.take_while(|next| !stop(next));
        if word.is_empty() || word.starts_with(['=', '<', '>', '!']) {
            return Err(cursor.error("expected a value"));
        }
        (word.to_owned(), finite(word))
    };
    let ordered = !matches!(operator, Operator::Equal | Operator::NotEqual);
    if ordered && number.is_none() {
        return Err(cursor.error("a comparison by size needs a number"));
    }
    Ok(Comparison {
        operator,
        text,
        number,
    })
}

impl Comparison {
    pub(super) fn holds_for_text(&self, value: &str) -> bool {
        match self.operator {
            Operator::Equal => self.equals(value),
            Operator::NotEqual => !self.equals(value),
            _ => finite(value).is_some_and(|value| self.holds_for_number(value)),
        }
    }

    pub(super) fn holds_for_number(&self, value: f64) -> bool {
        let Some(number) = self.number else {
            return match self.operator {
                Operator::Equal => wildcard(&self.text, &value.to_string()),
                Operator::NotEqual => !wildcard(&self.text, &value.to_string()),
                _ => false,
            };
        };
        match self.operator {
            #[expect(clippy::float_cmp, reason = "the pattern asks for equality")]
            Operator::Equal => value == number,
            #[expect(clippy::float_cmp, reason = "the pattern asks for equality")]
            Operator::NotEqual => value != number,
            Operator::Less => value < number,
            Operator::LessOrEqual => value <= number,
            Operator::Greater => value > number,
            Operator::GreaterOrEqual => value >= number,
        }
    }

    fn equals(&self, value: &str) -> bool {
        match (self.number, finite(value)) {
            #[expect(clippy::float_cmp, reason = "the pattern asks for equality")]
            (Some(number), Some(value)) => number == value,
            _ => wildcard(&self.text, value),
        }
    }
}

/// A number as it may be written in patterns and fields. Words such as `inf` are not.
fn finite(text: &str) -> Option<f64> {
    let numeric =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    if !text.bytes().all(numeric) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Whether `text` is `pattern`, in which each `*` stands for any text.
fn wildcard(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<_> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    // The leftmost place for each part leaves the most for those behind it.
    for part in parts {
        let Some(at) = text.find(part) else {
            return false;
        };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "abc"),
            ("*c", "abc"),
            ("a*c", "ac"),
            ("*b*b*", "xbybz"),
            ("a**", "a"),
        ] {
            assert!(wildcard(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a*", "b"),
            ("*a", "ab"),
            ("a*a", "a"),
            ("*b*b*", "abc"),
            ("a", "ab"),
        ] {
            assert!(!wildcard(pattern, text), "{pattern} {text}");
        }
    }
}
