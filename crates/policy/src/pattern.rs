//! Texts with `*`, `?` and policy variables, and whether another text fits them.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>

use std::borrow::Cow;

use crate::context::Context;

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `*`: any number of characters.
    Any,
    /// `?`: exactly one.
    One,
    Variable {
        lower_key: String,
        default: Option<String>,
    },
}

/// A text that may hold wildcards and variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

/// What is taken as special in the source of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syntax {
    pub wildcards: bool,
    /// Only documents of the version 2012-10-17 have variables.
    pub variables: bool,
}

/// A character of a pattern whose variables are filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Char(char),
    Any,
    One,
}

impl Pattern {
    /// `None` for a variable that is not closed.
    pub fn parse(text: &str, syntax: Syntax) -> Option<Self> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let part = match first {
                '*' if syntax.wildcards => Part::Any,
                '?' if syntax.wildcards => Part::One,
                '$' if syntax.variables && rest.starts_with("${") => {
                    let end = rest.find('}')?;
                    let part = variable(&rest[2..end]);
                    rest = &rest[end + 1..];
                    push_text(&mut parts, &mut plain);
                    parts.push(part);
                    continue;
                }
                _ => {
                    plain.push(first);
                    rest = &rest[first.len_utf8()..];
                    continue;
                }
            };
            rest = &rest[1..];
            push_text(&mut parts, &mut plain);
            // Two stars in a row mean the same as one.
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
        }
        push_text(&mut parts, &mut plain);
        Some(Self { parts })
    }

    /// Whether the text fits. A variable that the request has no value for fits nothing.
    pub fn matches(&self, text: &str, context: &Context) -> bool {
        match self.parts.as_slice() {
            [] => text.is_empty(),
            [Part::Any] => true,
            [Part::Text(plain)] => plain == text,
            parts => symbols(parts, context, false).is_some_and(|symbols| fits(&symbols, text)),
        }
    }

    /// As [`Pattern::matches`], but case does not matter.
    pub fn matches_ignoring_case(&self, text: &str, context: &Context) -> bool {
        match self.parts.as_slice() {
            [Part::Any] => true,
            [Part::Text(plain)] => lower(plain) == lower(text),
            parts => {
                symbols(parts, context, true).is_some_and(|symbols| fits(&symbols, &lower(text)))
            }
        }
    }

    /// The text with its variables filled in, where wildcards mean themselves.
    pub fn text(&self, context: &Context) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Any => text.push('*'),
                Part::One => text.push('?'),
                Part::Variable { lower_key, default } => {
                    text.push_str(value(lower_key, default.as_deref(), context)?);
                }
            }
        }
        Some(text)
    }
}

fn push_text(parts: &mut Vec<Part>, plain: &mut String) {
    if !plain.is_empty() {
        parts.push(Part::Text(std::mem::take(plain)));
    }
}

/// What stands between `${` and `}`.
fn variable(inner: &str) -> Part {
    // `${*}`, `${?}` and `${$}` are how a policy writes these characters themselves.
    if matches!(inner, "*" | "?" | "$") {
        return Part::Text(inner.to_owned());
    }
    let (key, default) = match inner.split_once(',') {
        Some((key, default)) => {
            let default = default.trim();
            let default = default
                .strip_prefix('\'')
                .and_then(|quoted| quoted.strip_suffix('\''));
            (key, default)
        }
        None => (inner, None),
    };
    Part::Variable {
        lower_key: key.trim().to_ascii_lowercase(),
        default: default.map(str::to_owned),
    }
}

/// A key of several values has none that could be meant.
fn value<'a>(lower_key: &str, default: Option<&'a str>, context: &'a Context) -> Option<&'a str> {
    match context.get(lower_key) {
        Some([one]) => Some(one),
        Some(_) => None,
        None => default,
    }
}

fn symbols(parts: &[Part], context: &Context, ignore_case: bool) -> Option<Vec<Symbol>> {
    let mut symbols = Vec::new();
    for part in parts {
        let text = match part {
            Part::Any => {
                symbols.push(Symbol::Any);
                continue;
            }
            Part::One => {
                symbols.push(Symbol::One);
                continue;
            }
            Part::Text(plain) => plain.as_str(),
            // A wildcard in a request's value is no wildcard.
            Part::Variable { lower_key, default } => value(lower_key, default.as_deref(), context)?,
        };
        let text = if ignore_case {
            Cow::Owned(lower(text))
        } else {
            Cow::Borrowed(text)
        };
        symbols.extend(text.chars().map(Symbol::Char));
    }
    Some(symbols)
}

fn lower(text: &str) -> String {
    text.to_lowercase()
}

/// Goes back only to the last star, so the time is at most the product of both lengths.
fn fits(pattern: &[Symbol], text: &str) -> bool {
    let (mut at, mut rest) = (0, text.chars());
    let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let before = rest.clone();
        let Some(symbol) = pattern.get(at) else {
            if rest.next().is_none() {
                return true;
            }
            match go_back(&mut retry) {
                Some((again, from)) => (at, rest) = (again, from),
                None => return false,
            }
            continue;
        };
        let fitting = match symbol {
            Symbol::Any => {
                at += 1;
                retry = Some((at, before));
                continue;
            }
            Symbol::One => rest.next().is_some(),
            Symbol::Char(wanted) => rest.next() == Some(*wanted),
        };
        if fitting {
            at += 1;
        } else {
            match go_back(&mut retry) {
                Some((again, from)) => (at, rest) = (again, from),
                None => return false,
            }
        }
    }
}

/// Lets the last star take one more character.
fn go_back<'t>(
    retry: &mut Option<(usize, std::str::Chars<'t>)>,
) -> Option<(usize, std::str::Chars<'t>)> {
    let (_, from) = retry.as_mut()?;
    from.next()?;
    retry.clone()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FULL: Syntax = Syntax {
        wildcards: true,
        variables: true,
    };

    fn matches(pattern: &str, text: &str) -> bool {
        let context = Context::new()
            .with("aws:username", "alice*")
            .with_all("aws:TagKeys", ["a".into(), "b".into()]);
        Pattern::parse(pattern, FULL)
            .unwrap()
            .matches(text, &context)
    }

    #[test]
    fn wildcards_stand_for_many_characters_or_one() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "x", false),
            ("*", "", true),
            ("a*", "a", true),
            ("a?", "a", false),
            ("a?c", "abc", true),
            ("*a*b", "xaxbxb", true),
            ("*a*b", "xaxbxc", false),
            ("arn:*:f", "arn:aws:lambda:f", true),
            ("?", "é", true),
            ("**x", "x", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn variables_are_filled_in_literally() {
        assert!(matches("home/${aws:UserName}/*", "home/alice*/x"));
        assert!(!matches("home/${aws:username}/*", "home/alice-and-bob/x"));
        assert!(!matches("${aws:absent}", ""));
        assert!(matches("${aws:absent, 'guest'}-*", "guest-7"));
        assert!(!matches("${aws:TagKeys}", "a"));
        assert!(matches("a${*}b", "a*b"));
        assert!(!matches("a${*}b", "axb"));
        assert_eq!(Pattern::parse("${aws:username", FULL), None);
        let old = Syntax {
            variables: false,
            ..FULL
        };
        let old = Pattern::parse("${aws:username}", old).unwrap();
        assert!(old.matches("${aws:username}", &Context::new()));
    }

    proptest! {
        #[test]
        fn a_text_fits_itself_and_what_replaces_a_part_by_a_star(
            text in "[a-c:/é]{0,24}", from in 0..24_usize, to in 0..24_usize
        ) {
            let literal = Syntax { wildcards: false, variables: false };
            let whole = Pattern::parse(&text, literal).unwrap();
            prop_assert!(whole.matches(&text, &Context::new()));
            let chars: Vec<char> = text.chars().collect();
            let (from, to) = (from.min(chars.len()), to.min(chars.len()));
            let (from, to) = (from.min(to), from.max(to));
            let starred: String = chars[..from].iter().chain(&['*']).chain(&chars[to..]).collect();
            prop_assert!(matches(&starred, &text), "{} {}", starred, text);
        }

        #[test]
        fn the_match_is_that_of_the_plain_definition(
            pattern in "[ab*?]{0,8}", text in "[ab]{0,8}"
        ) {
            fn plain(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern, text) {
                    ([], []) => true,
                    ([b'*', rest @ ..], _) => {
                        plain(rest, text) || (!text.is_empty() && plain(pattern, &text[1..]))
                    }
                    ([b'?', rest @ ..], [_, more @ ..]) => plain(rest, more),
                    ([a, rest @ ..], [b, more @ ..]) => a == b && plain(rest, more),
                    _ => false,
                }
            }
            prop_assert_eq!(matches(&pattern, &text), plain(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
