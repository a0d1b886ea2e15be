//! Receipt handles in requests.

use flotilla_cluster::api::{Cluster, DeleteError, Queue, Receipt, VisibilityError};
use flotilla_probe::planted;
use flotilla_types::limits;

use crate::action::Call;
use crate::error::{ApiError, ErrorKind};
use crate::shape::{Integer, Text};

const HANDLE_CHARS_MAX: usize = 1_024;

/// Opens a handle of this queue.
///
/// # Errors
/// `MissingParameter`; `ReceiptHandleIsInvalid` when this cluster did not make it or made it for
/// another queue.
pub(crate) fn open<C: Cluster>(
    call: &Call<'_, C>,
    queue: &Queue,
    handle: Option<&Text<'_>>,
) -> Result<Receipt, ApiError> {
    let handle = handle.filter(|handle| !handle.0.is_empty());
    let handle = handle.ok_or_else(|| ApiError::missing("ReceiptHandle"))?;
    let receipt = call.gateway.sealer.open(handle.as_str()).ok();
    receipt.filter(|it| it.queue == queue.id || planted!(ForeignHandle)).ok_or_else(|| {
        // Repeated so far as it can be a handle at all: an answer stays small.
        let shown: String = handle.0.chars().take(HANDLE_CHARS_MAX).collect();
        ApiError::new(
            ErrorKind::ReceiptHandleIsInvalid,
            format!("The input receipt handle \"{shown}\" is not a valid receipt handle."),
        )
    })
}

/// What a failed delete is answered with; it repeats the handle.
pub(crate) fn delete_error(error: DeleteError, handle: &str) -> ApiError {
    match error {
        DeleteError::Expired => {
            ApiError::invalid_value(handle, "ReceiptHandle", "The receipt handle has expired.")
        }
        DeleteError::Trouble(trouble) => trouble.into(),
    }
}

/// What a failed delete is answered with in a batch, which has another answer to an expired handle.
pub(crate) fn delete_entry_error(error: DeleteError) -> ApiError {
    match error {
        DeleteError::Expired => {
            ApiError::new(ErrorKind::ReceiptHandleIsInvalid, "The receipt handle has expired")
        }
        DeleteError::Trouble(trouble) => trouble.into(),
    }
}

/// Checks the new visibility timeout of a message.
///
/// # Errors
/// `MissingParameter`, `InvalidParameterValue`.
pub(crate) fn visibility(seconds: Option<Integer>) -> Result<u32, ApiError> {
    let Integer(seconds) = seconds.ok_or_else(|| ApiError::missing("VisibilityTimeout"))?;
    let in_range = |seconds: &u32| *seconds <= limits::VISIBILITY_SECONDS_MAX;
    u32::try_from(seconds).ok().filter(in_range).ok_or_else(|| {
        ApiError::invalid_value(seconds, "VisibilityTimeout", "Must be between 0 and 43200.")
    })
}

/// What a failed change is answered with; it repeats the handle or the seconds.
pub(crate) fn visibility_error(error: VisibilityError, handle: &str, seconds: u32) -> ApiError {
    match error {
        VisibilityError::NotInFlight => ApiError::invalid_value(
            handle,
            "ReceiptHandle",
            "Message does not exist or is not available for visibility timeout change.",
        ),
        VisibilityError::BeyondLimit => ApiError::invalid_value(
            seconds,
            "VisibilityTimeout",
            "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]",
        ),
        VisibilityError::Trouble(trouble) => trouble.into(),
    }
}
