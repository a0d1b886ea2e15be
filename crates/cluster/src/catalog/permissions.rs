//! Permissions, and why they are refused, as protobuf.

use flotilla_types::attributes::{GrantError, RevokeError};
use flotilla_types::ids::QueueId;
use flotilla_types::names::AccountId;
use flotilla_types::permission::{Label, Permission};
use flotilla_wire::DecodeError;
use flotilla_wire::proto::catalog as pb;

pub(super) fn permission_to_pb(queue: QueueId, permission: &Permission) -> pb::AddPermission {
    pb::AddPermission {
        queue: queue.0,
        label: permission.label.to_string(),
        accounts: permission.accounts.iter().map(AccountId::to_string).collect(),
        actions: permission.actions.iter().map(|action| action.as_str().to_owned()).collect(),
        queue_arn: permission.queue_arn.clone(),
    }
}

pub(super) fn permission_from_pb(add: pb::AddPermission) -> Result<Permission, DecodeError> {
    let accounts = add.accounts.iter().map(|account| AccountId::new(account));
    let actions = add.actions.iter().map(|action| action.parse());
    Ok(Permission {
        label: label_from_pb(&add.label)?,
        accounts: accounts.collect::<Result<_, _>>().map_err(|_| DecodeError::Field("accounts"))?,
        actions: actions.collect::<Result<_, _>>().map_err(|_| DecodeError::Field("actions"))?,
        queue_arn: add.queue_arn,
    })
}

pub(super) fn label_from_pb(label: &str) -> Result<Label, DecodeError> {
    Label::new(label).map_err(|_| DecodeError::Field("label"))
}

pub(super) fn grant_error_to_pb(error: GrantError) -> pb::GrantRefused {
    use pb::grant_refused::Why;
    let why = match error {
        GrantError::LabelExists => Why::LabelExists(pb::Empty {}),
        GrantError::Statements(number) => Why::Statements(number as u64),
        GrantError::Principals(number) => Why::Principals(number as u64),
        GrantError::Bytes(number) => Why::Bytes(number as u64),
        GrantError::Malformed => Why::Malformed(pb::Empty {}),
    };
    pb::GrantRefused { why: Some(why) }
}

pub(super) fn grant_error_from_pb(refused: &pb::GrantRefused) -> Result<GrantError, DecodeError> {
    use pb::grant_refused::Why;
    Ok(match refused.why.as_ref().ok_or(DecodeError::Field("why"))? {
        Why::LabelExists(_) => GrantError::LabelExists,
        Why::Statements(number) => GrantError::Statements(*number as usize),
        Why::Principals(number) => GrantError::Principals(*number as usize),
        Why::Bytes(number) => GrantError::Bytes(*number as usize),
        Why::Malformed(_) => GrantError::Malformed,
    })
}

pub(super) fn revoke_error_to_pb(error: RevokeError) -> pb::RevokeRefused {
    use pb::revoke_refused::Why;
    let why = match error {
        RevokeError::NoPolicy => Why::NoPolicy(pb::Empty {}),
        RevokeError::NoSuchLabel => Why::NoSuchLabel(pb::Empty {}),
    };
    pb::RevokeRefused { why: Some(why) }
}

pub(super) fn revoke_error_from_pb(
    refused: &pb::RevokeRefused,
) -> Result<RevokeError, DecodeError> {
    use pb::revoke_refused::Why;
    Ok(match refused.why.as_ref().ok_or(DecodeError::Field("why"))? {
        Why::NoPolicy(_) => RevokeError::NoPolicy,
        Why::NoSuchLabel(_) => RevokeError::NoSuchLabel,
    })
}
