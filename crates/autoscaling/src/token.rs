//! Pages of lists. A token is the name of the last item before it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Error;

const DEFAULT_PAGE: usize = 50;

/// The page of `items`, which are in order of `name`, that a request asks for.
pub(crate) fn page<T>(
    items: impl Iterator<Item = T>,
    name: impl Fn(&T) -> String,
    max_results: Option<i32>,
    token: Option<&str>,
) -> Result<(Vec<T>, Option<String>), Error> {
    let size = match max_results {
        None => DEFAULT_PAGE,
        Some(max) => usize::try_from(max)
            .ok()
            .filter(|max| (1..=DEFAULT_PAGE).contains(max))
            .ok_or_else(|| {
                Error::Validation(format!("MaxResults must be between 1 and {DEFAULT_PAGE}"))
            })?,
    };
    let mut items = items.peekable();
    if let Some(token) = token {
        let last = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| Error::InvalidToken)?;
        let last = String::from_utf8(last).map_err(|_| Error::InvalidToken)?;
        // The item itself may be gone by now; whatever comes behind it is next.
        while items.next_if(|item| name(item) <= last).is_some() {}
    }
    let page: Vec<T> = items.by_ref().take(size).collect();
    let next = items
        .peek()
        .and(page.last())
        .map(|last| URL_SAFE_NO_PAD.encode(name(last)));
    Ok((page, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_even_if_items_go() {
        let names: Vec<String> = (0..7).map(|n| format!("n{n}")).collect();
        let read = |names: &[String], token: Option<&str>| {
            page(names.iter().cloned(), String::clone, Some(3), token).unwrap()
        };
        let (first, token) = read(&names, None);
        assert_eq!(first, ["n0", "n1", "n2"]);
        let without: Vec<String> = names.iter().filter(|name| *name != "n2").cloned().collect();
        let (second, token) = read(&without, token.as_deref());
        assert_eq!(second, ["n3", "n4", "n5"]);
        let (third, token) = read(&without, token.as_deref());
        assert_eq!((third, token), (vec!["n6".to_owned()], None));
        assert!(matches!(
            page(names.into_iter(), String::clone, None, Some("ä")),
            Err(Error::InvalidToken)
        ));
    }
}
