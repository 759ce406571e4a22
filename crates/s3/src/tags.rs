//! Tags of buckets and objects.

use std::collections::HashMap;

use crate::record::Pairs;
use crate::{Error, Result};

/// Tags of an object at most, as on AWS.
const MAX_TAGS: usize = 10;

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>
pub(crate) fn check_tags(tags: &Pairs, most: usize) -> Result<()> {
    if tags.len() > most {
        return Err(Error::InvalidTag(if most == MAX_TAGS {
            "Object tags cannot be greater than 10"
        } else {
            "Bucket tag count cannot be greater than 50"
        }));
    }
    let mut seen = HashMap::new();
    for (name, value) in tags {
        let characters = |text: &str| text.chars().count();
        if name.is_empty() || characters(name) > 128 {
            return Err(Error::InvalidTag("The TagKey you have provided is invalid"));
        }
        if characters(value) > 256 {
            return Err(Error::InvalidTag(
                "The TagValue you have provided is invalid",
            ));
        }
        if name.to_ascii_lowercase().starts_with("aws:") {
            return Err(Error::InvalidTag(
                "System tags cannot be added/updated by requester",
            ));
        }
        if seen.insert(name, value).is_some() {
            return Err(Error::InvalidTag(
                "Cannot provide multiple Tags with the same key",
            ));
        }
    }
    Ok(())
}

pub(crate) fn check_object_tags(tags: &Pairs) -> Result<()> {
    check_tags(tags, MAX_TAGS)
}

/// Reads `x-amz-tagging`: a query string.
pub(crate) fn tags_of_header(text: &str) -> Result<Pairs> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let decoded = percent_encoding::percent_decode_str(&text).decode_utf8();
        decoded.map(std::borrow::Cow::into_owned).map_err(|_| {
            Error::argument(
                "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query \
                 parameters without tag name duplicates.",
            )
        })
    };
    let mut tags = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        tags.push((decode(name)?, decode(value)?));
    }
    check_object_tags(&tags)?;
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_in_a_header_are_a_query() {
        let tags = tags_of_header("a=1&b%20c=%C3%BC+x&d").unwrap();
        let expected = [("a", "1"), ("b c", "ü x"), ("d", "")];
        assert_eq!(tags, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        let eleven: Vec<String> = (0..11).map(|n| format!("k{n}=v")).collect();
        assert!(tags_of_header(&eleven.join("&")).is_err());
        assert!(tags_of_header("a=1&a=2").is_err());
        assert!(tags_of_header("%FF=1").is_err());
        assert!(tags_of_header("aws:x=1").is_err());
    }
}
