//! Filter patterns: the little languages that FilterLogEvents selects events with.
//!
//! A pattern is a set of terms, a condition on a JSON event (`{ $.level = "error" }`), or a
//! condition on the space-delimited fields of an event (`[ip, user, status = 5*]`). See
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html>.
//!
//! Pure: text in, a [`Pattern`] out, which then says yes or no to messages.

mod condition;
mod cursor;
mod expression;
mod fields;
mod json;
mod terms;

use fields::Fields;
use json::Condition;
use terms::Terms;

/// The longest pattern that AWS accepts, in characters.
const MAX_LEN: usize = 1024;

/// A parsed filter pattern.
#[derive(Clone, Debug)]
pub struct Pattern(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Everything,
    Terms(Terms),
    Json(Condition),
    Fields(Fields),
}

/// The text is not a filter pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at character {at} of the filter pattern")]
pub struct ParsePatternError {
    pub reason: &'static str,
    /// Counted from 1.
    pub at: usize,
}

impl Pattern {
    /// Parses a pattern; an empty one matches everything.
    pub fn parse(text: &str) -> Result<Self, ParsePatternError> {
        if text.chars().count() > MAX_LEN {
            return Err(ParsePatternError {
                reason: "too long",
                at: MAX_LEN + 1,
            });
        }
        let mut cursor = cursor::Cursor::new(text);
        cursor.skip_spaces();
        let kind = match cursor.peek() {
            None => Kind::Everything,
            Some('{') => Kind::Json(json::parse(&mut cursor)?),
            Some('[') => Kind::Fields(fields::parse(&mut cursor)?),
            Some(_) => Kind::Terms(terms::parse(&mut cursor)?),
        };
        cursor.skip_spaces();
        match cursor.peek() {
            None => Ok(Self(kind)),
            Some(_) => Err(cursor.error("unexpected text")),
        }
    }

    /// Whether an event with this message is selected.
    pub fn matches(&self, message: &str) -> bool {
        match &self.0 {
            Kind::Everything => true,
            Kind::Terms(terms) => terms.matches(message),
            Kind::Json(condition) => json::matches(condition, message),
            Kind::Fields(fields) => fields.matches(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, message: &str) -> bool {
        Pattern::parse(pattern)
            .unwrap_or_else(|err| panic!("{pattern}: {err}"))
            .matches(message)
    }

    #[test]
    fn an_empty_pattern_matches_everything() {
        assert!(matches("", "anything"));
        assert!(matches("  ", ""));
    }

    #[test]
    fn errors_say_where() {
        let err = Pattern::parse("{ $.a = }").unwrap_err();
        assert_eq!(err.at, 9, "{err}");
        assert!(Pattern::parse(&"a".repeat(1025)).is_err());
        assert!(Pattern::parse("{ $.a = 1 } more").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_or_a_match_panic(
            pattern in r#"[\[\]{}()$.,=!<>&|?*%"'\\a-c0-2 -]{0,40}"#,
            message in r#"[\[\]{}:,"a-c0-2 ]{0,40}"#,
        ) {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                pattern.matches(&message);
            }
        }

        #[test]
        fn a_quoted_phrase_finds_itself(phrase in "[ -~]{1,30}") {
            let quoted = phrase.replace('\\', r"\\").replace('"', r#"\""#);
            let message = format!("before {phrase} after");
            let (wanted, excluded) = (format!("\"{quoted}\""), format!("-\"{quoted}\""));
            prop_assert!(matches(&wanted, &message));
            prop_assert!(!matches(&excluded, &message));
        }
    }
}
