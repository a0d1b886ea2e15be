//! Access policies, as far as granting and revoking permissions changes them.
//!
//! A policy is the text of its owner: what a change does not concern keeps its place and its
//! bytes.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use thiserror::Error;

use super::QueueAttributes;
use super::access::principals_of;
use crate::limits::{POLICY_BYTES_MAX, POLICY_PRINCIPALS_MAX, POLICY_STATEMENTS_MAX};
use crate::permission::{Label, Permission};

const STATEMENT: &str = "Statement";

/// Why a permission was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GrantError {
    /// A statement has this label as its `Sid`.
    #[error("the label exists")]
    LabelExists,
    /// The policy would have so many statements.
    #[error("{0} statements")]
    Statements(usize),
    /// The policy would name so many principals.
    #[error("{0} principals")]
    Principals(usize),
    /// The policy would have so many bytes.
    #[error("{0} bytes")]
    Bytes(usize),
    /// The present policy has no statements that could be read.
    #[error("the policy is malformed")]
    Malformed,
}

/// Why a permission was not revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RevokeError {
    /// There is no policy.
    #[error("no policy")]
    NoPolicy,
    /// No statement of the policy has this label as its `Sid`.
    #[error("no such label")]
    NoSuchLabel,
}

impl QueueAttributes {
    /// Adds the permission's statement to the policy, which comes into being with its first one.
    ///
    /// # Errors
    /// See [`GrantError`]; the first that applies, in the order of its variants. Nothing is
    /// changed then.
    pub fn grant(&mut self, permission: &Permission) -> Result<(), GrantError> {
        let fresh;
        let text = match &self.policy {
            Some(policy) => policy,
            None => {
                fresh = empty_policy(&permission.queue_arn);
                &fresh
            }
        };
        let statement = statement(permission);
        let mut policy = Policy::read(text).ok_or(GrantError::Malformed)?;
        if policy.statements.iter().any(|statement| has_sid(statement, &permission.label)) {
            return Err(GrantError::LabelExists);
        }
        policy.statements.push(&statement);
        if policy.statements.len() > POLICY_STATEMENTS_MAX {
            return Err(GrantError::Statements(policy.statements.len()));
        }
        let principals =
            policy.statements.iter().map(|statement| principals_of(&members(statement))).sum();
        if principals > POLICY_PRINCIPALS_MAX {
            return Err(GrantError::Principals(principals));
        }
        let changed = policy.to_text();
        if changed.len() > POLICY_BYTES_MAX {
            return Err(GrantError::Bytes(changed.len()));
        }
        self.policy = Some(changed);
        Ok(())
    }

    /// Removes the statements of this label; the policy goes with its last statement.
    ///
    /// # Errors
    /// See [`RevokeError`]. Nothing is changed then.
    pub fn revoke(&mut self, label: &Label) -> Result<(), RevokeError> {
        let text = self.policy.as_deref().ok_or(RevokeError::NoPolicy)?;
        let mut policy = Policy::read(text).ok_or(RevokeError::NoSuchLabel)?;
        let before = policy.statements.len();
        policy.statements.retain(|statement| !has_sid(statement, label));
        if policy.statements.len() == before {
            return Err(RevokeError::NoSuchLabel);
        }
        self.policy = (!policy.statements.is_empty()).then(|| policy.to_text());
        Ok(())
    }
}

/// A policy in parts that keep their text.
struct Policy<'a> {
    /// In order. The value of `Statement` is in `statements` instead.
    members: Vec<(String, &'a RawValue)>,
    statements: Vec<&'a RawValue>,
}

impl<'a> Policy<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let Members(members) = serde_json::from_str(text).ok()?;
        let (_, value) = members.iter().find(|(name, _)| name == STATEMENT)?;
        // A single statement may stand without a list around it.
        let statements = match value.get().as_bytes().first()? {
            b'{' => vec![*value],
            _ => serde_json::from_str(value.get()).ok()?,
        };
        Some(Self { members, statements })
    }

    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts and parts that were read always serialise")
    }
}

impl Serialize for Policy<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (name, value) in &self.members {
            match name.as_str() {
                STATEMENT => map.serialize_entry(name, &self.statements)?,
                _ => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

/// The members of an object in their order; of equal names the last one counts.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<(String, &'de RawValue)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value()?;
            match members.iter_mut().find(|(present, _)| *present == name) {
                Some((_, present)) => *present = value,
                None => members.push((name, value)),
            }
        }
        Ok(Members(members))
    }
}

fn members(statement: &RawValue) -> Map<String, Value> {
    serde_json::from_str(statement.get()).unwrap_or_default()
}

fn has_sid(statement: &RawValue, label: &Label) -> bool {
    members(statement).get("Sid").is_some_and(|sid| sid.as_str() == Some(label.as_str()))
}

fn empty_policy(queue_arn: &str) -> String {
    let id = Value::from(format!("{queue_arn}/SQSDefaultPolicy"));
    format!("{{\"Version\":\"2008-10-17\",\"Id\":{id},\"Statement\":[]}}")
}

/// The statement that grants a permission.
fn statement(permission: &Permission) -> Box<RawValue> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Statement<'a> {
        sid: &'a str,
        effect: &'static str,
        principal: Principal,
        action: Value,
        resource: &'a str,
    }
    #[derive(serde::Serialize)]
    struct Principal {
        #[serde(rename = "AWS")]
        aws: Value,
    }
    let root = |account| format!("arn:aws:iam::{account}:root");
    let statement = Statement {
        sid: permission.label.as_str(),
        effect: "Allow",
        principal: Principal { aws: one_or_many(permission.accounts.iter().map(root)) },
        action: one_or_many(permission.actions.iter().map(|action| action.in_policy())),
        resource: &permission.queue_arn,
    };
    to_raw_value(&statement).expect("texts always serialise")
}

/// One text stands for itself, several for a list.
fn one_or_many(texts: impl Iterator<Item = impl Into<Value>>) -> Value {
    let mut values: Vec<Value> = texts.map(Into::into).collect();
    if values.len() == 1 { values.remove(0) } else { values.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::AccountId;
    use crate::permission::GrantableAction;

    const ARN: &str = "arn:aws:sqs:us-east-1:000000000000:q";

    fn permission(label: &str, accounts: &[&str], actions: &[GrantableAction]) -> Permission {
        Permission {
            label: Label::new(label).unwrap(),
            accounts: accounts.iter().map(|id| AccountId::new(id).unwrap()).collect(),
            actions: actions.to_vec(),
            queue_arn: ARN.into(),
        }
    }

    fn simple(label: &str) -> Permission {
        permission(label, &["111111111111"], &[GrantableAction::ReceiveMessage])
    }

    fn with_policy(policy: &str) -> QueueAttributes {
        QueueAttributes { policy: Some(policy.into()), ..QueueAttributes::default() }
    }

    fn label(text: &str) -> Label {
        Label::new(text).unwrap()
    }

    #[test]
    fn the_first_permission_makes_a_policy_and_the_last_takes_it_away() {
        let mut queue = QueueAttributes::default();
        queue.grant(&simple("one")).unwrap();
        let one = format!(
            "{{\"Sid\":\"one\",\"Effect\":\"Allow\",\
             \"Principal\":{{\"AWS\":\"arn:aws:iam::111111111111:root\"}},\
             \"Action\":\"SQS:ReceiveMessage\",\"Resource\":\"{ARN}\"}}"
        );
        let policy = |statements: &str| {
            format!(
                "{{\"Version\":\"2008-10-17\",\"Id\":\"{ARN}/SQSDefaultPolicy\",\
                 \"Statement\":[{statements}]}}"
            )
        };
        assert_eq!(queue.policy, Some(policy(&one)));
        let actions = [GrantableAction::Every, GrantableAction::SendMessage];
        queue.grant(&permission("two", &["111111111111", "222222222222"], &actions)).unwrap();
        let two = format!(
            "{{\"Sid\":\"two\",\"Effect\":\"Allow\",\
             \"Principal\":{{\"AWS\":[\"arn:aws:iam::111111111111:root\",\
             \"arn:aws:iam::222222222222:root\"]}},\
             \"Action\":[\"SQS:*\",\"SQS:SendMessage\"],\"Resource\":\"{ARN}\"}}"
        );
        assert_eq!(queue.policy, Some(policy(&format!("{one},{two}"))));
        assert_eq!(queue.grant(&simple("two")), Err(GrantError::LabelExists));
        assert_eq!(queue.policy, Some(policy(&format!("{one},{two}"))));
        queue.revoke(&label("one")).unwrap();
        assert_eq!(queue.policy, Some(policy(&two)));
        assert_eq!(queue.revoke(&label("one")), Err(RevokeError::NoSuchLabel));
        queue.revoke(&label("two")).unwrap();
        assert_eq!(queue.policy, None);
        assert_eq!(queue.revoke(&label("two")), Err(RevokeError::NoPolicy));
    }

    #[test]
    fn a_policy_that_was_set_is_extended_and_otherwise_left_as_it_is() {
        let own = "{ \"Sid\": \"own\", \"Effect\":\"Deny\", \"a\\u0062\": 1.50e3 }";
        let single = format!("{{\"Statement\": {own} , \"Version\":\"2012-10-17\"}}");
        let list = format!("{{\"Id\":\"x\", \"Statement\":[ {own} ]}}");
        let added = statement(&simple("new"));
        for (set, granted) in [
            (single, format!("{{\"Statement\":[{own},{added}],\"Version\":\"2012-10-17\"}}")),
            (list, format!("{{\"Id\":\"x\",\"Statement\":[{own},{added}]}}")),
            ("{\"Statement\":[]}".into(), format!("{{\"Statement\":[{added}]}}")),
            (
                "{\"Statement\":[{}],\"Id\":1,\"Statement\":[]}".into(),
                format!("{{\"Statement\":[{added}],\"Id\":1}}"),
            ),
        ] {
            let mut queue = with_policy(&set);
            assert_eq!(queue.revoke(&label("new")), Err(RevokeError::NoSuchLabel), "{set}");
            queue.grant(&simple("new")).unwrap();
            assert_eq!(queue.policy, Some(granted), "{set}");
        }
        let mut queue = with_policy(&format!("{{\"Statement\":{own}}}"));
        assert_eq!(queue.grant(&simple("own")), Err(GrantError::LabelExists));
        queue.revoke(&label("own")).unwrap();
        assert_eq!(queue.policy, None);
        let twice = format!("{{\"Statement\":[{own},{{\"Sid\":5}},{own}]}}");
        let mut queue = with_policy(&twice);
        queue.revoke(&label("own")).unwrap();
        assert_eq!(queue.policy.as_deref(), Some("{\"Statement\":[{\"Sid\":5}]}"));
    }

    #[test]
    fn quotas() {
        let mut queue = QueueAttributes::default();
        for n in 1..=20 {
            queue.grant(&simple(&format!("l{n}"))).unwrap();
        }
        let full = queue.clone();
        assert_eq!(queue.grant(&simple("l20")), Err(GrantError::LabelExists));
        assert_eq!(queue.grant(&simple("l21")), Err(GrantError::Statements(21)));
        assert_eq!(queue, full);

        let named = "{\"Statement\":[{\"Principal\":\"*\"},{\"Principal\":{\"AWS\":[\"a\",\"b\"],\
                     \"Service\":\"c\"}},{\"NotPrincipal\":\"*\"}]}";
        let ids: Vec<String> = (0..46).map(|n| format!("{n:012}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let actions = [GrantableAction::Every];
        let mut queue = with_policy(named);
        let too_many = queue.grant(&permission("a", &ids, &actions));
        assert_eq!(too_many, Err(GrantError::Principals(51)));
        queue.grant(&permission("a", &ids[1..], &actions)).unwrap();

        // A permission's text is always as long, so the longest policy that takes it is known.
        let bare = "{\"Statement\":[{\"a\":\"\"}]}";
        let mut queue = with_policy(bare);
        queue.grant(&simple("l")).unwrap();
        let room = POLICY_BYTES_MAX - queue.policy.unwrap().len();
        let padded = |n| bare.replace("\"\"", &format!("\"{}\"", "x".repeat(n)));
        assert_eq!(with_policy(&padded(room)).grant(&simple("l")), Ok(()));
        let too_long = with_policy(&padded(room + 1)).grant(&simple("l"));
        assert_eq!(too_long, Err(GrantError::Bytes(POLICY_BYTES_MAX + 1)));
    }

    #[test]
    fn what_is_no_policy_is_left_alone() {
        for text in ["", "x", "[]", "{}", "{\"Statement\":5}"] {
            let mut queue = with_policy(text);
            assert_eq!(queue.grant(&simple("a")), Err(GrantError::Malformed), "{text}");
            assert_eq!(queue.revoke(&label("a")), Err(RevokeError::NoSuchLabel), "{text}");
            assert_eq!(queue, with_policy(text));
        }
    }
}
