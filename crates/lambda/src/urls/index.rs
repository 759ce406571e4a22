//! Which function a URL leads to.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::error::Error;
use crate::function::{Function, FunctionId};
use crate::functions::Functions;

const ID_LENGTH: usize = 32;
const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Leads from the id of a URL to its function, and to the key under which the function keeps it.
///
/// An entry is only a hint: the function says whether it still has such a URL.
#[derive(Debug, Default)]
pub struct UrlIndex(RwLock<HashMap<String, Place>>);

/// Where a URL's configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub function: FunctionId,
    /// An alias or `$LATEST`.
    pub key: String,
}

impl UrlIndex {
    /// The URLs of all functions there are.
    pub fn of(functions: &Functions) -> Self {
        let index = Self::default();
        for function in functions.all() {
            index.enter(&function);
        }
        index
    }

    pub fn find(&self, id: &str) -> Option<Place> {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.get(id).cloned()
    }

    /// Adds all URLs of a function.
    pub fn enter(&self, function: &Function) {
        if function.attached.urls.is_empty() {
            return;
        }
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, url) in &function.attached.urls {
            let place = Place {
                function: function.id.clone(),
                key: key.clone(),
            };
            places.insert(url.id.clone(), place);
        }
    }

    /// Forgets URLs that are gone.
    pub fn remove<'a>(&self, ids: impl IntoIterator<Item = &'a String>) {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            places.remove(id);
        }
    }
}

/// An id that nobody can guess: 32 letters and digits.
pub fn new_id() -> Result<String, Error> {
    let mut id = String::with_capacity(ID_LENGTH);
    let mut random = [0; 2 * ID_LENGTH];
    while id.len() < ID_LENGTH {
        getrandom::fill(&mut random).map_err(Error::Random)?;
        // The highest multiple of 36 in a byte: beyond it some digits would be likelier.
        let fair = random.iter().filter(|byte| **byte < 252);
        let digits = fair.map(|byte| char::from(DIGITS[usize::from(byte % 36)]));
        id.extend(digits.take(ID_LENGTH - id.len()));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::tests::function;
    use crate::urls::{AuthType, UrlConfig};

    #[test]
    fn ids_are_lower_case_and_differ() {
        let (a, b) = (new_id().unwrap(), new_id().unwrap());
        assert_ne!(a, b);
        for id in [a, b] {
            assert_eq!(id.len(), ID_LENGTH);
            assert!(id.bytes().all(|byte| DIGITS.contains(&byte)), "{id}");
        }
    }

    #[test]
    fn urls_are_found_until_they_are_removed() {
        let mut function = function("f");
        let url = UrlConfig::new(AuthType::None, clock::Timestamp::default()).unwrap();
        function.attached.urls.insert("live".into(), url.clone());
        let index = UrlIndex::default();
        index.enter(&function);
        let place = index.find(&url.id).unwrap();
        assert_eq!((place.function, place.key), (function.id, "live".into()));
        index.remove([&url.id]);
        assert_eq!(index.find(&url.id), None);
    }
}
