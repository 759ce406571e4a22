//! Patterns of terms: `ERROR -timeout`, `"connection refused"`, `?warn ?error`.

use super::ParsePatternError;
use super::cursor::Cursor;

#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    required: Vec<String>,
    excluded: Vec<String>,
    /// Of these, one is enough. They count only if there are no others, as AWS documents.
    optional: Vec<String>,
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Terms, ParsePatternError> {
    let mut terms = Terms::default();
    loop {
        cursor.skip_spaces();
        let list = match cursor.peek() {
            None => return Ok(terms),
            Some('?') => {
                cursor.next();
                &mut terms.optional
            }
            Some('-') => {
                cursor.next();
                &mut terms.excluded
            }
            Some(_) => &mut terms.required,
        };
        let term = match cursor.peek() {
            Some('"') => cursor.quoted()?,
            _ => {
                // Everything but letters, digits and underscores has to be quoted.
                let word = cursor.take_while(|next| next.is_alphanumeric() || next == '_');
                if word.is_empty() {
                    return Err(cursor.error("a character that must be in double quotes"));
                }
                word.to_owned()
            }
        };
        if !matches!(cursor.peek(), None | Some(' ' | '\t' | '\n' | '\r')) {
            return Err(cursor.error("a character that must be in double quotes"));
        }
        list.push(term);
    }
}

impl Terms {
    pub(super) fn matches(&self, message: &str) -> bool {
        if self.required.is_empty() && self.excluded.is_empty() {
            return self
                .optional
                .iter()
                .any(|term| message.contains(term.as_str()));
        }
        self.required
            .iter()
            .all(|term| message.contains(term.as_str()))
            && !self
                .excluded
                .iter()
                .any(|term| message.contains(term.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;

    fn matches(pattern: &str, message: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(message)
    }

    #[test]
    fn all_terms_must_be_there_in_their_case() {
        assert!(matches("ERROR timeout", "timeout: ERROR"));
        assert!(!matches("ERROR timeout", "ERROR"));
        assert!(!matches("error", "ERROR"));
    }

    #[test]
    fn excluded_terms_must_not_be_there() {
        assert!(matches("ERROR -ARGUMENTS", "[ERROR] 419"));
        assert!(!matches("ERROR -ARGUMENTS", "[ERROR] BAD ARGUMENTS"));
        assert!(matches(r#"-"a b""#, "a  b"));
    }

    #[test]
    fn of_optional_terms_one_is_enough() {
        assert!(matches("?WARN ?ERROR", "a WARN"));
        assert!(!matches("?WARN ?ERROR", "INFO"));
        assert!(
            matches("?WARN ERROR", "ERROR"),
            "next to others they are ignored"
        );
    }

    #[test]
    fn phrases_are_quoted_and_so_is_punctuation() {
        assert!(matches(
            r#""INTERNAL SERVER ERROR""#,
            "x INTERNAL SERVER ERROR y"
        ));
        assert!(matches(r#""[ERROR]""#, "[ERROR] x"));
        assert!(matches(r#""say \"no\"""#, r#"they say "no""#));
        for invalid in ["a.b", r#""open"#, "a, b", "-", "?", r#"a"b""#] {
            assert!(Pattern::parse(invalid).is_err(), "{invalid}");
        }
    }
}
