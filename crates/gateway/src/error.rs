//! Errors as callers see them: shape, code, status, fault, text, and whether anything was done.

use std::borrow::Cow;

use flotilla_cluster::api::{PurgeError, QueueError, ReceiveError, Trouble};
use flotilla_probe::planted;

/// What is repeated of a caller's text in the answer that refuses it.
const SHOWN_CHARS_MAX: usize = 256;

/// As much of a caller's text as an answer repeats.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// What a caller learns about a failed request beyond what SQS tells. Of several the last counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Certainly nothing was done, nor will be.
    NotApplied,
    /// It may have taken effect, or may still.
    Unknown,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NotApplied => "not-applied",
            Self::Unknown => "unknown",
        }
    }
}

/// A failed request, or a failed entry of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) kind: ErrorKind,
    pub(crate) message: Cow<'static, str>,
    pub(crate) outcome: Outcome,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:literal $namespace:ident $shape:literal, $code:literal;)+) => {
        /// Every error that this front end can answer with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum ErrorKind {
            $($(#[$doc])* $name,)+
        }

        impl ErrorKind {
            /// HTTP status.
            pub(crate) fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// Full shape name, the `__type` of JSON.
            pub(crate) fn shape(self) -> &'static str {
                match self { $(Self::$name => kinds!(@$namespace $shape),)+ }
            }

            /// Code of the Query protocol, of `x-amzn-query-error` and of batch entries.
            pub(crate) fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            #[cfg(test)]
            pub(crate) const ALL: &[ErrorKind] = &[$(Self::$name,)+];
        }
    };
    (@sqs $shape:literal) => { concat!("com.amazonaws.sqs#", $shape) };
    (@coral $shape:literal) => { concat!("com.amazon.coral.service#", $shape) };
}

kinds! {
    QueueDoesNotExist = 400 sqs "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue";
    QueueNameExists = 400 sqs "QueueNameExists", "QueueAlreadyExists";
    QueueDeletedRecently = 400 sqs "QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently";
    InvalidAttributeName = 400 sqs "InvalidAttributeName", "InvalidAttributeName";
    InvalidAttributeValue = 400 sqs "InvalidAttributeValue", "InvalidAttributeValue";
    InvalidMessageContents = 400 sqs "InvalidMessageContents", "InvalidMessageContents";
    ReceiptHandleIsInvalid = 404 sqs "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid";
    OverLimit = 403 sqs "OverLimit", "OverLimit";
    PurgeQueueInProgress = 403 sqs "PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress";
    ResourceNotFound = 404 sqs "ResourceNotFoundException", "ResourceNotFoundException";
    UnsupportedOperation = 400 sqs "UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation";
    EmptyBatchRequest = 400 sqs "EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest";
    TooManyEntriesInBatchRequest = 400 sqs "TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest";
    BatchEntryIdsNotDistinct = 400 sqs "BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct";
    InvalidBatchEntryId = 400 sqs "InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId";
    BatchRequestTooLong = 400 sqs "BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong";
    InvalidParameterValue = 400 coral "InvalidParameterValueException", "InvalidParameterValue";
    MissingParameter = 400 coral "MissingRequiredParameterException", "MissingParameter";
    UnknownOperation = 400 coral "UnknownOperationException", "InvalidAction";
    /// A Query request without an action: its answer is one bare element.
    NoAction = 404 coral "UnknownOperationException", "InvalidAction";
    Serialization = 400 coral "SerializationException", "MalformedInput";
    /// The body is larger than any valid request; the real service's answer is not recorded.
    RequestTooLarge = 413 coral "SerializationException", "MalformedInput";
    /// The body did not arrive in time.
    RequestTimeout = 408 coral "RequestTimeoutException", "RequestTimeout";
    ServiceUnavailable = 503 coral "ServiceUnavailable", "ServiceUnavailable";
    /// Callers see the same; the node says it once for itself, not for every send.
    LowOnSpace = 503 coral "ServiceUnavailable", "ServiceUnavailable";
    InternalFailure = 500 coral "InternalFailure", "InternalError";
}

impl ErrorKind {
    /// Whether the caller is at fault.
    pub(crate) fn is_sender_fault(self) -> bool {
        self.status() < 500
    }

    /// Who is, in words.
    pub(crate) fn fault(self) -> &'static str {
        if self.is_sender_fault() { "Sender" } else { "Receiver" }
    }
}

impl ApiError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), outcome: Outcome::NotApplied }
    }

    pub(crate) fn no_such_queue() -> Self {
        Self::new(ErrorKind::QueueDoesNotExist, "The specified queue does not exist.")
    }

    pub(crate) fn no_action() -> Self {
        Self::new(ErrorKind::NoAction, "The request names no action.")
    }

    /// The text in the Query protocol, which has its own for one error.
    pub(crate) fn query_message(&self) -> &str {
        match self.kind {
            ErrorKind::QueueDoesNotExist => {
                "The specified queue does not exist for this wsdl version."
            }
            _ => &self.message,
        }
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        let text = format!("The request must contain the parameter {parameter}.");
        Self::new(ErrorKind::MissingParameter, text)
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidParameterValue, message)
    }

    /// `Value <v> for parameter <P> is invalid. Reason: <reason>`
    pub(crate) fn invalid_value(
        value: impl std::fmt::Display,
        parameter: &str,
        reason: &str,
    ) -> Self {
        let text = format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}");
        Self::invalid(text)
    }

    pub(crate) fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::UnsupportedOperation, message)
    }

    pub(crate) fn overloaded() -> Self {
        Self::new(ErrorKind::ServiceUnavailable, "Too many requests are in work. Please try again.")
    }
}

impl From<Trouble> for ApiError {
    /// SDKs retry both statuses; only 503 promises that nothing was done.
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unavailable { maybe_applied: false } => Self::new(
                ErrorKind::ServiceUnavailable,
                "The request was not carried out because the service is unavailable.",
            ),
            Trouble::Unavailable { maybe_applied: true } => Self {
                outcome: if planted!(DoubtNotSaid) {
                    Outcome::NotApplied
                } else {
                    Outcome::Unknown
                },
                ..Self::new(
                    ErrorKind::InternalFailure,
                    "The service could not confirm the request; it may have been carried out.",
                )
            },
            Trouble::Overloaded => Self::overloaded(),
            Trouble::LowOnSpace => Self::new(
                ErrorKind::LowOnSpace,
                "No new messages are taken because a node is low on disk space. \
                 Receiving and deleting messages makes room.",
            ),
        }
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::NotFound => Self::no_such_queue(),
            QueueError::Trouble(trouble) => trouble.into(),
        }
    }
}

impl From<ReceiveError> for ApiError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::TooManyInFlight => Self::new(
                ErrorKind::OverLimit,
                "The maximum number of in-flight messages has been reached for this queue.",
            ),
            ReceiveError::Trouble(trouble) => trouble.into(),
        }
    }
}

impl ApiError {
    pub(crate) fn from_purge(error: PurgeError, queue_name: &str) -> Self {
        match error {
            PurgeError::NotFound => Self::no_such_queue(),
            PurgeError::InProgress => Self::new(
                ErrorKind::PurgeQueueInProgress,
                format!(
                    "Only one PurgeQueue operation on {queue_name} is allowed every 60 seconds."
                ),
            ),
            PurgeError::Trouble(trouble) => trouble.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framework_errors_carry_the_suffix_that_their_code_lacks() {
        assert_eq!(
            ErrorKind::InvalidParameterValue.shape(),
            "com.amazon.coral.service#InvalidParameterValueException"
        );
        assert_eq!(ErrorKind::QueueDoesNotExist.shape(), "com.amazonaws.sqs#QueueDoesNotExist");
        for kind in ErrorKind::ALL {
            assert!((400..=503).contains(&kind.status()), "{kind:?}");
            // One modelled error has the suffix in both.
            let suffixed = kind == &ErrorKind::ResourceNotFound;
            assert_eq!(kind.code().ends_with("Exception"), suffixed, "{kind:?}");
        }
    }

    #[test]
    fn only_certain_failures_promise_that_nothing_was_done() {
        let outcome = |trouble: Trouble| ApiError::from(trouble).outcome;
        assert_eq!(outcome(Trouble::Overloaded), Outcome::NotApplied);
        assert_eq!(outcome(Trouble::LowOnSpace), Outcome::NotApplied);
        assert_eq!(outcome(Trouble::Unavailable { maybe_applied: false }), Outcome::NotApplied);
        assert_eq!(outcome(Trouble::Unavailable { maybe_applied: true }), Outcome::Unknown);
        assert!(!ApiError::from(Trouble::Overloaded).kind.is_sender_fault());
    }
}
