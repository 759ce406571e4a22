//! What is known about a request beside who asks for what.

use std::collections::BTreeMap;

/// The condition keys of a request and their values. Names of keys ignore case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    values: BTreeMap<String, Vec<String>>,
}

impl Context {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key with one value, in place of what it had.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.set(key, [value.into()]);
        self
    }

    /// Adds a key if there is a value for it.
    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds a key with several values, as `aws:TagKeys` has.
    #[must_use]
    pub fn with_all(mut self, key: &str, values: impl IntoIterator<Item = String>) -> Self {
        self.set(key, values);
        self
    }

    fn set(&mut self, key: &str, values: impl IntoIterator<Item = String>) {
        self.values
            .insert(key.to_ascii_lowercase(), values.into_iter().collect());
    }

    /// The values of a key, whose name must be in lower case; `None` if the request lacks it.
    pub(crate) fn get(&self, lower_key: &str) -> Option<&[String]> {
        self.values
            .get(lower_key)
            .map(Vec::as_slice)
            .filter(|values| !values.is_empty())
    }
}
