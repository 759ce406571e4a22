/// The required members that a request lacks, as paths in AWS's notation.
///
/// Rust structures hold required members as plain values, so absence is noted while decoding and
/// reported by the constraint checks, in the order of the interface's members.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Missing(Vec<String>);

impl Missing {
    /// Enough for any honest request; the bound keeps a hostile one cheap.
    const MAX: usize = 100;

    /// Notes an absent member. Its path grows prefixes as the reader returns to the root.
    pub fn note(&mut self, path: &str) {
        if self.0.len() < Self::MAX {
            self.0.push(path.to_owned());
        }
    }

    /// True if all required members were there.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets a path and tells whether it was there.
    pub(crate) fn remove(&mut self, path: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|missing| missing != path);
        self.0.len() < before
    }

    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.0)
    }

    /// Puts a prefix and a dot before each path noted since there were `from` of them.
    pub(crate) fn prefix_from(&mut self, from: usize, prefix: impl Fn(&mut String)) {
        for path in self.0.iter_mut().skip(from) {
            let mut longer = String::with_capacity(path.len() + 16);
            prefix(&mut longer);
            longer.push('.');
            longer.push_str(path);
            *path = longer;
        }
    }
}

/// Appends a member's name as AWS writes it in paths: with a lower-case first letter.
pub(crate) fn push_member(path: &mut String, name: &str) {
    let mut characters = name.chars();
    path.extend(characters.next().map(|first| first.to_ascii_lowercase()));
    path.push_str(characters.as_str());
}
