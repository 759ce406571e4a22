//! Pages of lists.
//!
//! A marker names the last item of a page, not its position, so that a page follows on where the
//! one before ended, whatever was created or deleted in between. Clients are told nothing about
//! its content.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::InvalidParameter;

/// AWS gives no more than this, whatever is asked for.
const MAX_PAGE: usize = 50;
const MAX_MARKER_BYTES: usize = 1024;

/// The number of items on a page.
pub fn size(max_items: Option<i32>) -> usize {
    max_items
        .and_then(|count| usize::try_from(count).ok())
        .map_or(MAX_PAGE, |n| n.clamp(1, MAX_PAGE))
}

/// The key that a client's marker stands for.
pub fn read(marker: Option<&str>) -> Result<Option<String>, InvalidParameter> {
    let Some(marker) = marker.filter(|marker| !marker.is_empty()) else {
        return Ok(None);
    };
    if marker.len() > MAX_MARKER_BYTES {
        return Err(InvalidParameter::Marker);
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(marker)
        .map_err(|_| InvalidParameter::Marker)?;
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| InvalidParameter::Marker)
}

/// The marker after an item with this key.
pub fn write(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// Cuts a list that was fetched with one item too many to its page, and makes the marker if there
/// was such an item.
pub fn cut<T>(items: &mut Vec<T>, size: usize, key: impl Fn(&T) -> String) -> Option<String> {
    if items.len() <= size {
        return None;
    }
    items.truncate(size);
    items.last().map(|last| write(&key(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_leads_back_to_its_key() {
        assert_eq!(
            read(Some(&write("name\u{e9}/7"))).unwrap().as_deref(),
            Some("name\u{e9}/7")
        );
        assert_eq!(read(None).unwrap(), None);
        assert!(read(Some("!!")).is_err());
        assert!(read(Some(&"a".repeat(2000))).is_err());
    }

    #[test]
    fn only_a_full_page_has_a_marker() {
        let mut items = vec![1, 2, 3];
        assert_eq!(cut(&mut items, 3, i32::to_string), None);
        assert_eq!(cut(&mut items, 2, i32::to_string), Some(write("2")));
        assert_eq!(items, [1, 2]);
        assert_eq!((size(None), size(Some(7)), size(Some(9999))), (50, 7, 50));
    }
}
