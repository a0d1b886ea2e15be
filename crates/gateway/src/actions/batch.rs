//! What the three batch actions share.

use flotilla_cluster::api::{Cluster, Trouble};
use flotilla_types::limits;
use serde::{Deserialize, Serialize};

use crate::action::Call;
use crate::error::{ApiError, ErrorKind};
use crate::shape::{List, Struct, Text};

const ID_CHARS_MAX: usize = 80;

/// A batch of entries for one queue.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", bound(deserialize = "E: Deserialize<'de>"))]
pub(crate) struct Request<'a, E> {
    #[serde(borrow)]
    pub(crate) queue_url: Option<Text<'a>>,
    pub(crate) entries: Option<List<Struct<E>>>,
}

/// An entry's id, with its place among the entries.
#[derive(Clone, Debug)]
pub(crate) struct EntryId {
    place: usize,
    text: String,
}

impl EntryId {
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// Answer to a batch: each entry is in exactly one of the lists, in the request's order.
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
    #[serde(skip)]
    place: usize,
    id: String,
    sender_fault: bool,
    code: &'static str,
    message: String,
}

impl<S> Response<S> {
    pub(crate) fn new() -> Self {
        Self { successful: Vec::new(), failed: Vec::new() }
    }

    /// An entry that was not carried out, for all that is known. What is refused here is known before what the cluster
    /// fails, wherever it stands in the request.
    pub(crate) fn refuse<C: Cluster>(
        &mut self,
        call: &mut Call<'_, C>,
        EntryId { place, text: id }: EntryId,
        error: ApiError,
    ) {
        call.note(error.outcome);
        let failed = Failed {
            place,
            id,
            sender_fault: error.kind.is_sender_fault(),
            code: error.kind.code(),
            message: error.message.into_owned(),
        };
        let before = self.failed.partition_point(|other| other.place < place);
        self.failed.insert(before, failed);
    }
}

/// Each entry with its result. There is one per entry; were it missing, nothing would be known.
pub(crate) fn outcomes<A, T, E: From<Trouble>>(
    entries: Vec<A>,
    results: Vec<Result<T, E>>,
) -> impl Iterator<Item = (A, Result<T, E>)> {
    let missing =
        std::iter::repeat_with(|| Err(Trouble::Unavailable { maybe_applied: true }.into()));
    entries.into_iter().zip(results.into_iter().chain(missing))
}

/// The result of a batch of one.
pub(crate) fn outcome<T, E: From<Trouble>>(results: Vec<Result<T, E>>) -> Result<T, E> {
    let missing = || Err(Trouble::Unavailable { maybe_applied: true }.into());
    results.into_iter().next().unwrap_or_else(missing)
}

/// Checks the list of entries and their ids; gives back the entries with their ids.
///
/// # Errors
/// Those that fail the whole request.
pub(crate) fn check<'a, E>(
    entries: Option<List<Struct<E>>>,
    empty_name: &str,
    id: impl Fn(&mut E) -> Option<Text<'a>>,
) -> Result<Vec<(EntryId, E)>, ApiError> {
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
    let mut checked: Vec<(EntryId, E)> = Vec::with_capacity(entries.items.len());
    for (place, Struct(mut entry)) in entries.items.into_iter().enumerate() {
        let text = id(&mut entry).map(|id| id.0.into_owned()).unwrap_or_default();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if text.is_empty() || text.len() > ID_CHARS_MAX || !text.bytes().all(allowed) {
            return Err(ApiError::new(
                ErrorKind::InvalidBatchEntryId,
                "A batch entry id can only contain alphanumeric characters, hyphens and \
                 underscores. It can be at most 80 letters long.",
            ));
        }
        checked.push((EntryId { place, text }, entry));
    }
    for (at, (id, _)) in checked.iter().enumerate() {
        if checked[..at].iter().any(|(earlier, _)| earlier.text == id.text) {
            return Err(ApiError::new(
                ErrorKind::BatchEntryIdsNotDistinct,
                format!("Id {} repeated.", id.text),
            ));
        }
    }
    Ok(checked)
}
