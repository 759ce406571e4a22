//! Numbers of the descriptors that a thaw starts with. Images use lower ones only.

/// The tape.
pub const TAPE: i32 = 900;
/// The page file, for reading.
pub const PAGES: i32 = 901;
/// The pipe that replaces [`External::Output`](crate::External::Output).
pub const OUTPUT: i32 = 902;
/// The pipe that replaces [`External::Error`](crate::External::Error).
pub const ERROR: i32 = 903;
/// The pipe that replaces [`External::Log`](crate::External::Log); may be absent.
pub const LOG: i32 = 904;
/// `/dev/userfaultfd`; may be absent.
pub const USERFAULT_DEVICE: i32 = 905;
/// A unix socket over which the clone sends its userfaultfd; may be absent.
pub const USERFAULT_SOCKET: i32 = 906;
/// The pipe in which a failing thaw says why.
pub const REPORT: i32 = 907;
/// Descriptors of an image are below.
pub const FIRST: i32 = TAPE;
