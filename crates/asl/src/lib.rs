//! Amazon States Language.
//!
//! Pure: nothing here reads a clock, a random source, a file or the network.
#![forbid(unsafe_code)]

mod budget;
pub mod choice;
mod cursor;
pub mod definition;
pub mod failure;
pub mod history;
pub mod intrinsic;
pub mod jsonata;
pub mod machine;
pub mod path;
mod scope;
pub mod template;

pub use budget::Budget;
pub use definition::Definition;
pub use intrinsic::Intrinsic;
pub use machine::Execution;
pub use path::Path;
pub use scope::{Chance, Scope, Seeded, Unresolved, Variables};
