//! Why an operation is refused, in AWS's words, and how that reaches the wire.

use invoker::InvokeError;
use model::common_error;
use model::lambda::error;
use protocol::ApiError;

use crate::code_signing::CodeSigningError;
use crate::concurrency::Refusal;
use crate::event_sources::EventSourceError;
use crate::layers::LayerError;
use crate::name::ParseNameError;
use crate::package::PackageError;
use crate::policies::PolicyError;
use crate::urls::UrlError;

/// Why an operation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Function not found: {arn}")]
    FunctionNotFound { arn: String },
    #[error("Cannot find alias arn: {arn}")]
    AliasNotFound { arn: String },
    #[error("Alias not found: {arn}")]
    AliasToUpdateNotFound { arn: String },
    #[error("The resource you requested does not exist.")]
    ResourceNotFound,
    #[error("Functions from '{region}' are not reachable in this region ('{here}')")]
    OtherRegion { region: String, here: String },
    #[error(
        "User: {principal} is not authorized to perform: lambda:{action} on resource: {resource} \
         because no resource-based policy allows the lambda:{action} action"
    )]
    OtherAccount {
        principal: String,
        action: &'static str,
        resource: String,
    },
    #[error("Function already exist: {name}")]
    FunctionExists { name: String },
    #[error("Alias already exists: {arn}")]
    AliasExists { arn: String },
    #[error(
        "The operation cannot be performed at this time. An update is in progress for resource: \
         {arn}"
    )]
    UpdateInProgress { arn: String },
    #[error(
        "The operation cannot be performed at this time. The function is currently in the \
         following state: {state}"
    )]
    NotReady { state: &'static str },
    #[error("{arn} is being worked on by another `firn dev`")]
    InDevelopment { arn: String },
    #[error(
        "Lambda is initializing your function. It will be ready to invoke once your function \
         state becomes ACTIVE."
    )]
    SnapStartNotReady,
    #[error(
        "The operation cannot be performed at this time. The function version is in state: \
         'Failed', StateReasonCode: '{code}'"
    )]
    FailedTarget { code: String },
    #[error("Unable to delete version because the following aliases reference it: [{aliases}]")]
    VersionInUse { aliases: String },
    #[error(
        "The Revision Id provided does not match the latest Revision Id. Call the \
         GetFunction/GetAlias API to retrieve the latest Revision Id"
    )]
    RevisionMismatch,
    #[error("Zipped size must be smaller than {limit} bytes", limit = crate::package::MAX_ZIPPED_BYTES)]
    ZipTooLarge,
    #[error(
        "{size} byte payload is too large for the {invocation_type} invocation type (limit \
         {limit} bytes)"
    )]
    PayloadTooLarge {
        size: usize,
        invocation_type: &'static str,
        limit: usize,
    },
    #[error("Could not parse request body into json: {reason}")]
    InvalidRequestContent { reason: String },
    #[error("Code storage limit exceeded.")]
    CodeStorageExceeded,
    /// Of a function that is to get a configuration for its events.
    #[error("The function doesn't exist.")]
    NoSuchFunction,
    #[error("The function {arn} doesn't have an EventInvokeConfig")]
    NoEventInvokeConfig { arn: String },
    #[error(
        "Lambda has detected your function being invoked in a recursive loop with other AWS \
         resources and stopped your function's invocation."
    )]
    RecursiveInvocation,
    /// The queue of events, or the disk under it, has no room at the moment.
    #[error("Rate Exceeded.")]
    TooManyEvents,
    #[error("an event's record cannot be read or written")]
    EventRecord,
    /// A package in S3 that cannot be read.
    #[error("Error occurred while GetObject. {reason}")]
    Object { reason: crate::objects::FetchError },
    #[error(
        "Your access has been denied by S3, please make sure your request credentials have \
         permission to GetObject for {bucket}/{key}. {reason}"
    )]
    ObjectDenied {
        bucket: String,
        key: String,
        reason: crate::objects::FetchError,
    },
    #[error("Unzipped size must be smaller than {limit} bytes", limit = crate::package::MAX_UNZIPPED_BYTES)]
    ObjectTooLarge,
    #[error("firn does not support {what} yet{advice}")]
    NotSupported {
        what: &'static str,
        advice: &'static str,
    },
    #[error(transparent)]
    Concurrency(#[from] Refusal),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    CodeSigning(#[from] CodeSigningError),
    #[error(transparent)]
    EventSource(#[from] EventSourceError),
    #[error("a function cannot be created in another account")]
    CreateElsewhere,
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    InvalidParameter(#[from] InvalidParameter),
    #[error(transparent)]
    Constraint(#[from] Constraint),
    #[error("the function cannot be run")]
    Invoke(#[source] InvokeError),
    #[error("cannot prepare a package")]
    Package(#[source] PackageError),
    #[error("cannot {action}")]
    Store {
        action: &'static str,
        #[source]
        cause: store::Error,
    },
    #[error("a stored record of {of} cannot be read")]
    Record {
        of: String,
        #[source]
        cause: serde_json::Error,
    },
    #[error("a stored record of {of} has the unknown format {format}")]
    RecordFormat { of: String, format: u32 },
    #[error("cannot prepare the code directory")]
    CodeDirectory(#[source] std::io::Error),
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("a background task ended unexpectedly")]
    Task(#[source] tokio::task::JoinError),
}

/// What AWS answers with an `InvalidParameterValueException`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidParameter {
    #[error("The derived qualifier from the function name does not match the specified qualifier.")]
    QualifierMismatch,
    #[error(
        "1 validation error detected: Value '{name}' at 'functionName' failed to satisfy \
         constraint: Member must have length less than or equal to 64"
    )]
    NameTooLong { name: String },
    #[error(
        "This operation is permitted on Lambda functions only. Aliases and versions do not \
         support this operation. Please specify either a function name or an unqualified \
         function ARN."
    )]
    QualifiedFunction,
    #[error("$LATEST version cannot be deleted without deleting the function.")]
    DeleteLatest,
    #[error("Deletion of aliases is not currently supported.")]
    DeleteAliasAsVersion,
    #[error("Could not unzip uploaded file. Please check your file, then try to upload again.")]
    Unzip,
    #[error("Uploaded file must be a non-empty zip")]
    EmptyZip,
    #[error("Unzipped size must be smaller than {limit} bytes", limit = crate::package::MAX_UNZIPPED_BYTES)]
    UnzippedTooLarge,
    #[error("Please provide a source for function code.")]
    NoCode,
    #[error("Please don't provide ImageUri when {doing} a function with packageType Zip.")]
    ImageForZip { doing: &'static str },
    #[error(
        "Runtime and Handler are mandatory parameters for functions created with deployment \
         packages."
    )]
    NoRuntimeOrHandler,
    #[error(
        "Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum \
         value set: [{supported}] or be a valid ARN"
    )]
    UnknownRuntime { runtime: String, supported: String },
    #[error(
        "The runtime parameter of {runtime} is no longer supported for creating or updating AWS \
         Lambda functions. We recommend you use a supported runtime while creating or updating \
         functions."
    )]
    DeprecatedRuntime { runtime: String },
    #[error("{what} is not supported for SnapStart enabled functions.")]
    SnapStartUnsupported { what: String },
    #[error(
        "Lambda was unable to configure your environment variables because the environment \
         variables you have provided exceeded the 4KB limit. String measured: {measured}"
    )]
    EnvironmentTooLarge { measured: String },
    #[error(
        "Lambda was unable to configure your environment variables because the environment \
         variables you have provided contains reserved keys that are currently not supported for \
         modification. Reserved keys used in this request: {keys}"
    )]
    ReservedEnvironment { keys: String },
    #[error(
        "'MemorySize' value failed to satisfy constraint: Member must have value less than or \
         equal to 10240"
    )]
    MemoryTooLarge,
    #[error("Cannot reference more than 5 layers.")]
    TooManyLayers,
    #[error("Layer version {arn} does not exist.")]
    NoSuchLayer { arn: String },
    #[error(
        "Layers are not in the same region as the function. Layers are expected to be in region \
         {region}."
    )]
    LayersOfOtherRegion { region: String },
    #[error(
        "Two different versions of the same layer are not allowed to be referenced in the same \
         function. {first} and {second} are versions of the same layer."
    )]
    SameLayerTwice { first: String, second: String },
    #[error(
        "Layers consume more than the available size of {limit} bytes",
        limit = crate::package::MAX_UNZIPPED_BYTES
    )]
    LayersTooLarge,
    #[error(
        "Function code combined with layers exceeds the maximum allowed size of {limit} bytes. The \
         actual size is {size} bytes.",
        limit = crate::package::MAX_UNZIPPED_BYTES
    )]
    CodeAndLayersTooLarge { size: u64 },
    #[error("Layer Version Cannot be less than 1")]
    LayerVersionTooSmall,
    #[error("OrganizationId can only be specified with the principal *.")]
    OrganizationOfAccount,
    #[error("Log levels can be set only if LogFormat is JSON.")]
    LevelsWithoutJson,
    #[error(
        "CodeSHA256 ({given}) is different from current CodeSHA256 in $LATEST ({current}). Please \
         try again with the CodeSHA256 in $LATEST."
    )]
    CodeChanged { given: String, current: String },
    #[error("Number of items in AdditionalVersionWeights cannot be greater than 1")]
    TooManyWeights,
    #[error(
        "Invalid function version {version}. Function version {version} is already included in \
         routing configuration."
    )]
    WeightForOwnVersion { version: String },
    #[error("$LATEST is not supported for an alias pointing to more than 1 version")]
    WeightedLatest,
    #[error(
        "Tags on function aliases and versions are not supported. Please specify a function ARN."
    )]
    TagsOnQualifier,
    #[error("An error occurred and the request cannot be processed.")]
    NoTags,
    #[error("Number of tags exceeds resource tag limit.")]
    TooManyTags,
    #[error("You must specify at least one of error handling or destination setting.")]
    EmptyEventInvokeConfig,
    #[error("The destination ARN {arn} is invalid.")]
    DestinationArn { arn: String },
    #[error("You can't specify the function as a destination for itself.")]
    DestinationIsSelf,
    #[error(
        "The provided destination config DestinationConfig(onSuccess={success}, \
         onFailure={failure}) is invalid."
    )]
    Destinations { success: String, failure: String },
    /// The words are firn's; AWS's were not recorded.
    #[error("The dead-letter target {arn} is neither an SQS queue nor an SNS topic.")]
    DeadLetterTarget { arn: String },
    #[error("aws: prefixed tag key names are not allowed for external use.")]
    ReservedTag,
    #[error("Tag keys must be 1 to 128 and tag values 0 to 256 characters long.")]
    TagLength,
    #[error("RuntimeVersionArn is required when UpdateRuntimeOn is Manual.")]
    NoRuntimeVersion,
    #[error("RuntimeVersionArn can be set only when UpdateRuntimeOn is Manual.")]
    RuntimeVersionWithoutManual,
    #[error("The runtime version {arn} is not available.")]
    OtherRuntimeVersion { arn: String },
    #[error("Marker is not valid.")]
    Marker,
}

/// A constraint of the interface that the public model does not state.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Constraint {
    #[error(transparent)]
    Name(#[from] ParseNameError),
    #[error(
        "1 validation error detected: Value '{value}' at 'timeout' failed to satisfy constraint: \
         Member must have value less than or equal to 900"
    )]
    Timeout { value: i32 },
    #[error(
        "1 validation error detected: Value '[{value}]' at 'vpcConfig.subnetIds' failed to \
         satisfy constraint: Member must satisfy constraint: [Member must have length less than \
         or equal to 1024, Member must have length greater than or equal to 0, Member must \
         satisfy regular expression pattern: subnet-[0-9a-z]*]"
    )]
    Subnet { value: String },
    /// Of a layer's lists, which have other rules than those of a function.
    #[error("{count} validation error{plural} detected: {violations}", plural = if *count == 1 { "" } else { "s" })]
    LayerLists { count: usize, violations: String },
    #[error("Client context must be a valid Base64-encoded JSON object.")]
    ClientContext,
    #[error(
        "1 validation error detected: Value at 'clientContext' failed to satisfy constraint: \
         Member must have length less than or equal to 3583"
    )]
    ClientContextTooLong,
}

impl From<PackageError> for Error {
    fn from(error: PackageError) -> Self {
        match error {
            PackageError::Archive(_) | PackageError::Hostile(_) | PackageError::NotBase64 => {
                InvalidParameter::Unzip.into()
            }
            PackageError::Empty => InvalidParameter::EmptyZip.into(),
            PackageError::TooLarge => InvalidParameter::UnzippedTooLarge.into(),
            PackageError::Io { .. } | PackageError::Store(_) => Self::Package(error),
        }
    }
}

impl From<Error> for ApiError {
    fn from(err: Error) -> Self {
        let message = err.to_string();
        match err {
            Error::FunctionNotFound { .. }
            | Error::AliasNotFound { .. }
            | Error::AliasToUpdateNotFound { .. }
            | Error::ResourceNotFound
            | Error::NoSuchFunction
            | Error::NoEventInvokeConfig { .. }
            | Error::OtherRegion { .. } => Self::new(&error::RESOURCE_NOT_FOUND, message),
            Error::OtherAccount { .. } => Self::new(&common_error::ACCESS_DENIED, message),
            Error::FunctionExists { .. }
            | Error::AliasExists { .. }
            | Error::UpdateInProgress { .. }
            | Error::NotReady { .. }
            | Error::InDevelopment { .. }
            | Error::FailedTarget { .. }
            | Error::VersionInUse { .. } => Self::new(&error::RESOURCE_CONFLICT, message),
            Error::SnapStartNotReady => Self::new(&error::SNAP_START_NOT_READY, message),
            Error::RevisionMismatch => Self::new(&error::PRECONDITION_FAILED, message),
            Error::ZipTooLarge => Self::new(&common_error::REQUEST_ENTITY_TOO_LARGE, message),
            Error::PayloadTooLarge { .. } => Self::new(&error::REQUEST_TOO_LARGE, message),
            Error::InvalidRequestContent { .. } => {
                Self::new(&error::INVALID_REQUEST_CONTENT, message)
            }
            Error::CodeStorageExceeded => Self::new(&error::CODE_STORAGE_EXCEEDED, message),
            Error::RecursiveInvocation => Self::new(&error::RECURSIVE_INVOCATION, message),
            Error::TooManyEvents => Self::new(&error::TOO_MANY_REQUESTS, message)
                .with_member("Reason", "CallerRateLimitExceeded"),
            Error::Object { .. } | Error::ObjectTooLarge => {
                Self::new(&error::INVALID_PARAMETER_VALUE, message)
            }
            Error::ObjectDenied { .. } => Self::new(&common_error::ACCESS_DENIED, message),
            Error::NotSupported { .. } => Self::new(&common_error::NOT_IMPLEMENTED, message),
            Error::Concurrency(cause) => cause.into(),
            Error::Layer(cause) => cause.into(),
            Error::Policy(cause) => cause.into(),
            Error::CodeSigning(cause) => cause.into(),
            Error::EventSource(cause) => cause.into(),
            // AWS does not say why.
            Error::CreateElsewhere => {
                Self::new(&common_error::ACCESS_DENIED, message).without_message()
            }
            Error::Url(cause) => match cause {
                UrlError::NoFunction => Self::new(&error::RESOURCE_NOT_FOUND, message),
                UrlError::Exists { .. } => Self::new(&error::RESOURCE_CONFLICT, message),
                UrlError::Qualifier { .. } => Self::new(&common_error::VALIDATION, message),
            },
            Error::InvalidParameter(_) => Self::new(&error::INVALID_PARAMETER_VALUE, message),
            Error::Constraint(_) => Self::new(&common_error::VALIDATION, message),
            Error::Invoke(cause) => invoke_error(cause),
            Error::Package(_)
            | Error::Store { .. }
            | Error::Record { .. }
            | Error::RecordFormat { .. }
            | Error::EventRecord
            | Error::CodeDirectory(_)
            | Error::Random(_)
            | Error::Task(_) => Self::internal(err),
        }
    }
}

fn invoke_error(cause: InvokeError) -> ApiError {
    match cause {
        InvokeError::TooManyRequests { reason } => {
            ApiError::new(&error::TOO_MANY_REQUESTS, cause.to_string())
                .with_member("Reason", reason.as_str())
                .with_header("Retry-After", reason.retry_after().as_secs().to_string())
        }
        // AWS has no shortage of hosts; the nearest that clients know how to retry is this.
        InvokeError::NoCapacity => ApiError::new(&error::TOO_MANY_REQUESTS, cause.to_string())
            .with_member("Reason", "ConcurrentInvocationLimitExceeded")
            .with_header("Retry-After", "1"),
        // The runtime is valid but this host lacks it; only the operator can help, so the text
        // that says how goes to the client.
        InvokeError::Runtime(runtime) => {
            ApiError::new(&error::INVALID_RUNTIME, runtime.to_string())
        }
        // Invoke has no way to answer with the function's error where its after-restore hooks fail:
        // it is in the function's log.
        InvokeError::SnapStart { .. } => ApiError::new(&error::SNAP_START, cause.to_string()),
        InvokeError::SnapStartTimeout => {
            ApiError::new(&error::SNAP_START_TIMEOUT, cause.to_string())
        }
        InvokeError::ShuttingDown | InvokeError::Environment(_) => {
            ApiError::internal(Error::Invoke(cause))
        }
    }
}
