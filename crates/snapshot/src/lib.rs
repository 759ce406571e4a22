//! Freezes a process into an image and thaws it, any number of times.
//!
//! [`freeze`] stops a process with all its threads and writes down what it consists of: an
//! [`Image`], and beside it a file of memory pages. [`compile`] turns an image into a *tape*, a flat
//! list of system calls. To thaw, a fresh process maps the tape, jumps into its interpreter, and by
//! playing it gives up its own memory for the image's; nothing traces it. The tape is the same for
//! all clones of an image.

mod compact;
mod enter;
#[doc(hidden)]
pub mod example;
mod freeze;
mod host;
mod image;
mod pager;
mod scratch;
pub mod slot;
mod tape;
mod working_set;

pub use compact::compact;
pub use enter::{EnterError, Order, rehearse, wait};
pub use freeze::{FreezeError, FreezeOptions, FreezeStats, Frozen, freeze};
pub use host::host;
pub use image::*;
pub use pager::{Fault, Pager, PagerEvent, Recorder};
pub use scratch::{decode_scratch, encode_scratch};
pub use tape::{CompileOptions, Confinement, Memory, Tape, TapeError, compile};
pub use working_set::{required, scan};
