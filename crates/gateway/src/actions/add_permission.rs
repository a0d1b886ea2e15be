//! AddPermission.

use flotilla_cluster::api::{AddPermissionError, Cluster};
use flotilla_types::attributes::{AttributeName, GrantError};
use flotilla_types::limits::{
    PERMISSION_ACTIONS_MAX, POLICY_BYTES_MAX, POLICY_PRINCIPALS_MAX, POLICY_STATEMENTS_MAX,
};
use flotilla_types::names::AccountId;
use flotilla_types::permission::{GrantableAction, Label, Permission};
use serde::Deserialize;

use crate::action::{ActionName, Call};
use crate::error::{ApiError, ErrorKind, shown};
use crate::shape::{List, Text};
use crate::urls;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    label: Option<Text<'a>>,
    #[serde(borrow, rename = "AWSAccountIds")]
    account_ids: Option<List<Text<'a>>>,
    #[serde(borrow)]
    actions: Option<List<Text<'a>>>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<(), ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let label = check_label(request.label.as_ref())?;
    let actions = check_actions(request.actions.as_ref())?;
    let accounts = check_accounts(request.account_ids.as_ref())?;
    let region = &call.gateway.config.region;
    let queue_arn = urls::arn(region, &call.caller.account, queue.name.as_str());
    let permission = Permission { label, accounts, actions, queue_arn };
    let added = call.gateway.cluster.add_permission(&queue, &permission).await;
    added.map_err(|error| refusal(error, &permission.label))
}

/// # Errors
/// `MissingParameter` without a label, `InvalidParameterValue` for what cannot be one.
pub(crate) fn check_label(label: Option<&Text<'_>>) -> Result<Label, ApiError> {
    let text = label.map_or("", Text::as_str);
    if text.is_empty() {
        return Err(ApiError::missing("Label"));
    }
    Label::new(text).map_err(|_| {
        let reason = "Can only include alphanumeric characters, hyphens, or underscores. \
                      1 to 80 in length";
        ApiError::invalid_value(shown(text), "Label", reason)
    })
}

fn check_actions(names: Option<&List<Text<'_>>>) -> Result<Vec<GrantableAction>, ApiError> {
    let names = names.filter(|names| names.total > 0);
    let names = names.ok_or_else(|| ApiError::missing("ActionName"))?;
    if names.total > PERMISSION_ACTIONS_MAX {
        return Err(over_limit(names.total, "Actions", PERMISSION_ACTIONS_MAX));
    }
    let mut actions = Vec::new();
    for name in &names.items {
        let action = name.as_str().parse().map_err(|_| not_grantable(name.as_str()))?;
        if !actions.contains(&action) {
            actions.push(action);
        }
    }
    Ok(actions)
}

fn not_grantable(name: &str) -> ApiError {
    let reason = match ActionName::parse(name) {
        // Not permissions of their own: the single actions' cover them.
        None
        | Some(
            ActionName::SendMessageBatch
            | ActionName::DeleteMessageBatch
            | ActionName::ChangeMessageVisibilityBatch,
        ) => "Please refer to the appropriate WSDL for a list of valid actions.",
        Some(_) => "Only the queue owner is allowed to invoke this action.",
    };
    ApiError::invalid_value(format!("SQS:{}", shown(name)), "ActionName", reason)
}

/// Whether an account exists cannot be known here: what looks like one is taken for one.
fn check_accounts(ids: Option<&List<Text<'_>>>) -> Result<Vec<AccountId>, ApiError> {
    let ids = ids.filter(|ids| ids.total > 0);
    let ids = ids.ok_or_else(|| ApiError::missing("AWSAccountIds"))?;
    // The rest was dropped, and there is no room for as many as were kept.
    if ids.total > ids.items.len() {
        return Err(over_limit(ids.total, "Principals", POLICY_PRINCIPALS_MAX));
    }
    let mut accounts = Vec::new();
    for id in &ids.items {
        let account = AccountId::new(id.as_str()).map_err(|_| unverified(&ids.items))?;
        if !accounts.contains(&account) {
            accounts.push(account);
        }
    }
    Ok(accounts)
}

fn unverified(ids: &[Text<'_>]) -> ApiError {
    let ids: Vec<String> = ids.iter().map(|id| shown(id.as_str())).collect();
    let ids = format!("[{}]", shown(&ids.join(", ")));
    ApiError::invalid_value(ids, "PrincipalId", "Unable to verify.")
}

fn over_limit(number: usize, what: &str, max: usize) -> ApiError {
    let text = format!("{number} {what} were found, maximum allowed is {max}.");
    ApiError::new(ErrorKind::OverLimit, text)
}

fn refusal(error: AddPermissionError, label: &Label) -> ApiError {
    match error {
        AddPermissionError::NotFound => ApiError::no_such_queue(),
        AddPermissionError::Refused(GrantError::LabelExists) => {
            ApiError::invalid_value(label, "Label", "Already exists.")
        }
        AddPermissionError::Refused(GrantError::Statements(number)) => {
            over_limit(number, "Statements", POLICY_STATEMENTS_MAX)
        }
        AddPermissionError::Refused(GrantError::Principals(number)) => {
            over_limit(number, "Principals", POLICY_PRINCIPALS_MAX)
        }
        AddPermissionError::Refused(GrantError::Bytes(number)) => {
            over_limit(number, "Bytes", POLICY_BYTES_MAX)
        }
        AddPermissionError::Refused(GrantError::Malformed) => ApiError::new(
            ErrorKind::InvalidAttributeValue,
            format!("Invalid value for the parameter {}.", AttributeName::Policy),
        ),
        AddPermissionError::Trouble(trouble) => trouble.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_code_and_text() {
        for (error, kind, message) in [
            (
                GrantError::LabelExists,
                ErrorKind::InvalidParameterValue,
                "Value l for parameter Label is invalid. Reason: Already exists.",
            ),
            (
                GrantError::Statements(21),
                ErrorKind::OverLimit,
                "21 Statements were found, maximum allowed is 20.",
            ),
            (
                GrantError::Principals(51),
                ErrorKind::OverLimit,
                "51 Principals were found, maximum allowed is 50.",
            ),
            (
                GrantError::Bytes(9_000),
                ErrorKind::OverLimit,
                "9000 Bytes were found, maximum allowed is 8192.",
            ),
            (
                GrantError::Malformed,
                ErrorKind::InvalidAttributeValue,
                "Invalid value for the parameter Policy.",
            ),
        ] {
            let refused = refusal(error.into(), &Label::new("l").unwrap());
            assert_eq!((refused.kind, refused.message.as_ref()), (kind, message));
        }
    }

    #[test]
    fn only_some_actions_can_be_granted() {
        for name in ActionName::ALL {
            let refused = not_grantable(name.as_str()).message;
            let grantable = name.as_str().parse::<GrantableAction>().is_ok();
            let batch = name.as_str().ends_with("Batch");
            assert_eq!(refused.contains("WSDL"), batch, "{name:?}");
            assert!(!(grantable && batch), "{name:?}");
        }
        let text = not_grantable(&"é".repeat(1_000)).message;
        assert!(text.contains("WSDL") && text.chars().count() < 400, "{text}");
    }
}
