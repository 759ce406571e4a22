//! Rules for tags.

use std::collections::BTreeMap;

use crate::error::InvalidParameter;

/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html>
const MAX_TAGS: usize = 50;
const MAX_KEY_CHARS: usize = 128;
const MAX_VALUE_CHARS: usize = 256;

/// Adds tags to those a function has.
pub fn add(
    tags: &mut BTreeMap<String, String>,
    added: BTreeMap<String, String>,
) -> Result<(), InvalidParameter> {
    for (key, value) in &added {
        let length = key.chars().count();
        if length == 0 || length > MAX_KEY_CHARS || value.chars().count() > MAX_VALUE_CHARS {
            return Err(InvalidParameter::TagLength);
        }
        if key
            .get(..4)
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:"))
        {
            return Err(InvalidParameter::ReservedTag);
        }
    }
    tags.extend(added);
    if tags.len() > MAX_TAGS {
        return Err(InvalidParameter::TooManyTags);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn existing_tags_are_overwritten_and_do_not_count_twice() {
        let mut tags: BTreeMap<_, _> = (0..50).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(add(&mut tags, added(&[("k1", "new")])), Ok(()));
        assert_eq!(tags["k1"], "new");
        assert_eq!(
            add(&mut tags, added(&[("one-more", "")])),
            Err(InvalidParameter::TooManyTags)
        );
    }

    #[test]
    fn reserved_and_overlong_tags_are_refused() {
        let mut tags = BTreeMap::new();
        assert_eq!(
            add(&mut tags, added(&[("aws:x", "")])),
            Err(InvalidParameter::ReservedTag)
        );
        assert_eq!(
            add(&mut tags, added(&[("AWS:x", "")])),
            Err(InvalidParameter::ReservedTag)
        );
        assert_eq!(add(&mut tags, added(&[("é€", "ok")])), Ok(()));
        let long = "x".repeat(129);
        assert_eq!(
            add(&mut tags, added(&[(&long, "")])),
            Err(InvalidParameter::TagLength)
        );
    }
}
