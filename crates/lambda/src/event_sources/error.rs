//! Why an operation on an event source mapping is refused.

use model::common_error;
use model::lambda::error;
use protocol::ApiError;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EventSourceError {
    #[error("Unrecognized event source.")]
    Unrecognized,
    #[error("Function does not exist")]
    NoFunction,
    #[error("Required '{name}' parameter is missing.")]
    Missing { name: &'static str },
    #[error(
        "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member \
         must not be null."
    )]
    Null { name: &'static str },
    #[error("Unsupported {name} parameter for given event source mapping type.")]
    Unsupported { name: &'static str },
    #[error("Unsupported starting position for arn type: {arn}")]
    StartingPosition { arn: String },
    #[error("StartingPositionTimestamp is required when StartingPosition is AT_TIMESTAMP.")]
    NoTimestamp,
    #[error("BatchSize must be between 1 and {most} for given event source mapping type.")]
    BatchSize { most: i32 },
    #[error(
        "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater \
         than 10"
    )]
    NoWindow,
    #[error(
        "1 validation error detected: Value '{value}' at 'maximumRecordAgeInSeconds' failed to \
         satisfy constraint: Member must be -1 or have value greater than or equal to 60"
    )]
    RecordAge { value: i32 },
    #[error("Invalid filter pattern definition.")]
    Filter,
    #[error("Number of filters exceeds the limit of {most}.")]
    TooManyFilters { most: usize },
    #[error(
        "An event source mapping with SQS arn (\" {arn} \") and function (\" {function} \") already \
         exists. Please update or delete the existing mapping with UUID {id}"
    )]
    QueueTaken {
        arn: String,
        function: String,
        id: String,
    },
    #[error(
        "The event source arn (\" {arn} \") and function (\" {function} \") provided mapping \
         already exists. Please update or delete the existing mapping with UUID {id}"
    )]
    SourceTaken {
        arn: String,
        function: String,
        id: String,
    },
    #[error(
        "An event source mapping with event source (\"{brokers}\"), function (\"{function}\"), \
         topics (\"{topics}\") already exists. Please update or delete the existing mapping with \
         UUID {id}"
    )]
    TopicTaken {
        brokers: String,
        function: String,
        topics: String,
        id: String,
    },
    #[error("Cannot {doing} the event source mapping because it is in use.")]
    InUse { doing: &'static str },
}

impl From<EventSourceError> for ApiError {
    fn from(err: EventSourceError) -> Self {
        let message = err.to_string();
        let shape = match err {
            EventSourceError::Unrecognized
            | EventSourceError::NoFunction
            | EventSourceError::Missing { .. }
            | EventSourceError::Null { .. }
            | EventSourceError::Unsupported { .. }
            | EventSourceError::StartingPosition { .. }
            | EventSourceError::NoTimestamp
            | EventSourceError::BatchSize { .. }
            | EventSourceError::NoWindow
            | EventSourceError::Filter
            | EventSourceError::TooManyFilters { .. } => &error::INVALID_PARAMETER_VALUE,
            EventSourceError::RecordAge { .. } => &common_error::VALIDATION,
            EventSourceError::QueueTaken { .. }
            | EventSourceError::SourceTaken { .. }
            | EventSourceError::TopicTaken { .. } => &error::RESOURCE_CONFLICT,
            EventSourceError::InUse { .. } => &error::RESOURCE_IN_USE,
        };
        Self::new(shape, message)
    }
}
