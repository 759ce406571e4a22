//! A set of numbers that are mostly all there: a bit for each.

#[derive(Clone, Debug, Default)]
pub struct Marks {
    words: Vec<u64>,
}

impl Marks {
    pub fn has(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// False if it was there already.
    pub fn add(&mut self, number: u64) -> bool {
        let (word, bit) = place(number);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let before = self.words[word];
        self.words[word] |= bit;
        before & bit == 0
    }
}

/// Numbers of children are limited by that of items, which fits.
fn place(number: u64) -> (usize, u64) {
    let word = usize::try_from(number / 64).unwrap_or_default();
    (word, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_there_once_they_have_been_added() {
        let mut marks = Marks::default();
        for number in [0, 63, 64, 100_000] {
            assert!(!marks.has(number));
            assert!(marks.add(number));
            assert!(!marks.add(number));
            assert!(marks.has(number));
        }
        assert!(!marks.has(1));
    }
}
