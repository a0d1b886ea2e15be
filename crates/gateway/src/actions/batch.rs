//! What the three batch actions share.

use flotilla_types::limits;
use serde::Serialize;

use crate::error::{ApiError, ErrorKind};
use crate::shape::{List, Struct, Text};

const ID_CHARS_MAX: usize = 80;

/// Answer to a batch: each entry is in exactly one of the lists, in order.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response<S> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) successful: Vec<S>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) failed: Vec<Failed>,
}

/// An entry without output that succeeded.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Done {
    pub(crate) id: String,
}

/// An entry that failed.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Failed {
    id: String,
    sender_fault: bool,
    code: &'static str,
    message: String,
}

impl<S> Response<S> {
    pub(crate) fn new() -> Self {
        Self { successful: Vec::new(), failed: Vec::new() }
    }

    pub(crate) fn fail(&mut self, id: String, error: ApiError) {
        self.failed.push(Failed {
            id,
            sender_fault: error.kind.is_sender_fault(),
            code: error.kind.code(),
            message: error.message.into_owned(),
        });
    }
}

/// Checks the list of entries and their ids; gives back the entries with their ids.
///
/// # Errors
/// Those that fail the whole request.
pub(crate) fn check<'a, E>(
    entries: Option<List<Struct<E>>>,
    empty_name: &str,
    id: impl Fn(&mut E) -> Option<Text<'a>>,
) -> Result<Vec<(String, E)>, ApiError> {
    let entries = entries.unwrap_or(List { items: Vec::new(), total: 0 });
    if entries.total == 0 {
        return Err(ApiError::new(
            ErrorKind::EmptyBatchRequest,
            format!("There should be at least one {empty_name} in the request."),
        ));
    }
    if entries.total > limits::BATCH_ENTRIES_MAX {
        return Err(ApiError::new(
            ErrorKind::TooManyEntriesInBatchRequest,
            format!(
                "Maximum number of entries per request are 10. You have sent {}.",
                entries.total
            ),
        ));
    }
    let mut checked: Vec<(String, E)> = Vec::with_capacity(entries.items.len());
    for Struct(mut entry) in entries.items {
        let id = id(&mut entry).map(|id| id.0.into_owned()).unwrap_or_default();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if id.is_empty() || id.len() > ID_CHARS_MAX || !id.bytes().all(allowed) {
            return Err(ApiError::new(
                ErrorKind::InvalidBatchEntryId,
                "A batch entry id can only contain alphanumeric characters, hyphens and \
                 underscores. It can be at most 80 letters long.",
            ));
        }
        checked.push((id, entry));
    }
    for (at, (id, _)) in checked.iter().enumerate() {
        if checked[..at].iter().any(|(earlier, _)| earlier == id) {
            return Err(ApiError::new(
                ErrorKind::BatchEntryIdsNotDistinct,
                format!("Id {id} repeated."),
            ));
        }
    }
    Ok(checked)
}
