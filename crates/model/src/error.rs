//! What an error looks like on the wire, without the text of any one error.

/// Who is to blame for an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller's; repeating the request cannot help.
    Client,
    /// The service's.
    Server,
}

/// An error that an operation may answer, as AWS's interface describes it.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorShape {
    /// The name clients match on, such as `ResourceNotFoundException`.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Who is to blame.
    pub fault: Fault,
    /// The code that clients of the older Query protocol expect, where it differs.
    pub query_code: Option<&'static str>,
    /// The body member that carries the text: services disagree on `message` and `Message`.
    pub message_key: &'static str,
    /// True if the body has a `Type` member, as most of Lambda's errors do.
    pub typed: bool,
}

impl ErrorShape {
    /// A client error with a lower-case `message` member, as the protocols themselves raise.
    pub const fn client(code: &'static str, status: u16) -> Self {
        let fault = Fault::Client;
        Self {
            code,
            status,
            fault,
            query_code: None,
            message_key: "message",
            typed: false,
        }
    }

    /// A server error with a lower-case `message` member.
    pub const fn server(code: &'static str, status: u16) -> Self {
        let fault = Fault::Server;
        Self {
            code,
            status,
            fault,
            query_code: None,
            message_key: "message",
            typed: false,
        }
    }
}

/// A request that could not be turned into an operation's input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body is not well formed, or a value has the wrong type.
    #[error("{0}")]
    Serialization(String),
    /// Values break the constraints of the interface. The text is AWS's aggregate of all of them.
    #[error("{0}")]
    Validation(String),
}

impl DecodeError {
    /// A value or document that cannot be read, described in AWS's words.
    pub fn serialization(message: impl Into<String>) -> Self {
        Self::Serialization(message.into())
    }
}

/// An error answer as a client of the interface receives it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct WireError {
    /// The HTTP status of the answer.
    pub status: u16,
    /// The error's name, without namespace or URI decoration.
    pub code: String,
    /// The text, empty if the answer has none.
    pub message: String,
}
