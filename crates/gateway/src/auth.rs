//! Who calls. The one place where requests are authenticated.
//!
//! Today every request is accepted, signed or not, and acts for the account of the service: there
//! are no credentials to check a signature against. Signature Version 4 comes here, before the
//! request is looked at further: header and query-string signatures over the raw request, then
//! access key to account and sender id.

use flotilla_types::names::AccountId;

use crate::error::ApiError;

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Whose queues bare names and URLs without an account mean.
    pub(crate) account: AccountId,
    /// `SenderId` of messages. For now the account, as for calls of an account's root user.
    pub(crate) sender_id: AccountId,
}

/// # Errors
/// None yet; those of signature checks later.
pub(crate) fn authenticate(
    _headers: &hyper::HeaderMap,
    account: &AccountId,
) -> Result<Caller, ApiError> {
    Ok(Caller { account: account.clone(), sender_id: account.clone() })
}
