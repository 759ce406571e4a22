//! Pages of lists. A token is the place of the last item before it, in a form that clients cannot
//! mistake for something to make themselves.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::stepfunctions::error;

use crate::Error;

const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;
/// Longer texts are no tokens of ours.
const MAX_TOKEN_BYTES: usize = 3_096;

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'r> {
    /// Tells the tokens of one list from those of others.
    pub(crate) list: &'static str,
    pub(crate) max_results: Option<i32>,
    pub(crate) token: Option<&'r str>,
}

/// Where a page begins and how long it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) size: usize,
    /// The place of the last item before it.
    pub(crate) after: Option<String>,
}

impl Wanted<'_> {
    pub(crate) fn window(&self) -> Result<Window, Error> {
        let size = match self.max_results.map(usize::try_from) {
            None | Some(Ok(0) | Err(_)) => DEFAULT_PAGE,
            Some(Ok(size)) => size.min(MAX_PAGE),
        };
        let after = self.token.map(|token| self.place(token)).transpose()?;
        Ok(Window { size, after })
    }

    /// The token of the page behind an item.
    pub(crate) fn token_after(&self, place: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}\0{place}", self.list))
    }

    /// The page of `items`, which are in order of `place`.
    pub(crate) fn page<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        place: impl Fn(&T) -> String,
    ) -> Result<(Vec<T>, Option<String>), Error> {
        let Window { size, after } = self.window()?;
        let mut items = items.into_iter().peekable();
        if let Some(after) = after {
            // The item itself may be gone by now; whatever comes behind it is next.
            while items.next_if(|item| place(item) <= after).is_some() {}
        }
        let page: Vec<T> = items.by_ref().take(size).collect();
        let next = items
            .peek()
            .and(page.last())
            .map(|last| self.token_after(&place(last)));
        Ok((page, next))
    }

    fn place(&self, token: &str) -> Result<String, Error> {
        let invalid = || Error::refused(&error::INVALID_TOKEN, "Invalid Token: 'Invalid token'");
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
        let text = String::from_utf8(bytes).map_err(|_| invalid())?;
        match text.split_once('\0') {
            Some((list, place)) if list == self.list => Ok(place.to_owned()),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'t>(max_results: Option<i32>, token: Option<&'t str>) -> Wanted<'t> {
        Wanted {
            list: "machines",
            max_results,
            token,
        }
    }

    #[test]
    fn pages_follow_each_other_even_if_items_go() {
        let names: Vec<String> = (0..7).map(|n| format!("n{n}")).collect();
        let read = |names: &[String], token: Option<&str>| {
            let page = wanted(Some(3), token).page(names.to_vec(), String::clone);
            page.unwrap()
        };
        let (first, token) = read(&names, None);
        assert_eq!(first, ["n0", "n1", "n2"]);
        let without: Vec<String> = names.iter().filter(|name| *name != "n2").cloned().collect();
        let (second, token) = read(&without, token.as_deref());
        assert_eq!(second, ["n3", "n4", "n5"]);
        let (third, token) = read(&without, token.as_deref());
        assert_eq!((third, token), (vec!["n6".to_owned()], None));
    }

    #[test]
    fn no_size_and_zero_are_a_hundred() {
        for size in [None, Some(0)] {
            assert_eq!(wanted(size, None).window().unwrap().size, 100);
        }
        assert_eq!(wanted(Some(1000), None).window().unwrap().size, 1000);
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let other = Wanted {
            list: "activities",
            ..wanted(None, None)
        };
        for token in [other.token_after("a").as_str(), "ä", "x", ""] {
            let refused = wanted(None, Some(token)).window().unwrap_err();
            assert_eq!(refused.to_string(), "Invalid Token: 'Invalid token'");
        }
    }
}
