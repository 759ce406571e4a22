//! What an expression can see.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::path::{NoResult, Path, Root, Selected};

/// Variables by name. Values are shared: every branch of a `Parallel` sees those of its parent.
pub type Variables = BTreeMap<Box<str>, Arc<Value>>;

/// The data that paths start from.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// What `$` means.
    pub input: &'a Value,
    /// The context object, which `$$` means.
    pub context: &'a Value,
    /// What `Assign` has set before.
    pub variables: &'a Variables,
}

/// Why a path has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// No variable has this name.
    Variable(String),
    /// Nothing is there.
    Nothing(NoResult),
}

impl Unresolved {
    pub fn is_too_much(&self) -> bool {
        matches!(self, Self::Nothing(none) if none.is_too_much)
    }
}

impl<'a> Scope<'a> {
    /// The same scope with another meaning of `$`.
    pub const fn with_input(self, input: &'a Value) -> Self {
        Self { input, ..self }
    }

    pub fn select(&self, path: &Path) -> Result<Selected<'a>, Unresolved> {
        let document = match path.root() {
            Root::Input => self.input,
            Root::Context => self.context,
            Root::Variable(name) => match self.variables.get(name) {
                Some(value) => value.as_ref(),
                None => return Err(Unresolved::Variable(name.to_string())),
            },
        };
        path.select(document).map_err(Unresolved::Nothing)
    }
}

/// Chance, as it is lent to expressions: whoever steps an execution decides where it comes from,
/// so that the same journal gives the same numbers again.
pub trait Chance {
    /// 64 uniformly distributed bits.
    fn bits(&mut self) -> u64;

    /// A number from zero to less than one, of 53 random bits.
    fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a float")]
        let unit = (self.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        unit
    }
}

/// The generator SplitMix64: a number that is stored decides everything that follows.
/// <https://dl.acm.org/doi/10.1145/2714064.2660195>
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Chance for Seeded {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
