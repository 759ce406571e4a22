//! What an environment's processes print, and the lines the platform adds, as log events.
//!
//! [`LineSplitter`] and [`FrameParser`] turn bytes from the pipes into events, [`platform`] words the
//! START, END, REPORT and INIT lines, and [`Capture`] brings both into one ordered stream.

mod capture;
mod frames;
mod levels;
mod lines;
pub(crate) mod platform;
mod tail;

pub(crate) use capture::{Capture, Sources, Stream};
pub use frames::{FrameParser, Message};
pub(crate) use levels::LevelFilter;
pub use levels::LogLevel;
pub use lines::LineSplitter;

/// The longest log event; longer ones are cut into several.
///
/// CloudWatch Logs takes 256 KiB per event, of which 26 bytes are overhead.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html>
pub const MAX_EVENT_BYTES: usize = 256 * 1024 - 26;
