//! Access policies as an owner may set them: their grammar, and the quotas of a queue's policy.
//!
//! What a policy means is not decided here, only whether it is one, and one of this queue.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::limits::{
    PERMISSION_ACTIONS_MAX, POLICY_BYTES_MAX, POLICY_CONDITIONS_MAX, POLICY_PRINCIPALS_MAX,
    POLICY_STATEMENTS_MAX,
};
use crate::names::AccountId;

/// What a policy can be given: the actions whose batches have no permission of their own.
const PERMISSIONS: [&str; 20] = [
    "AddPermission",
    "CancelMessageMoveTask",
    "ChangeMessageVisibility",
    "CreateQueue",
    "DeleteMessage",
    "DeleteQueue",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "ListMessageMoveTasks",
    "ListQueueTags",
    "ListQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "RemovePermission",
    "SendMessage",
    "SetQueueAttributes",
    "StartMessageMoveTask",
    "TagQueue",
    "UntagQueue",
];

/// Comparisons of a condition, without set prefix and without `IfExists`.
const OPERATORS: [&str; 26] = [
    "StringEquals",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "StringLike",
    "StringNotLike",
    "NumericEquals",
    "NumericNotEquals",
    "NumericLessThan",
    "NumericLessThanEquals",
    "NumericGreaterThan",
    "NumericGreaterThanEquals",
    "DateEquals",
    "DateNotEquals",
    "DateLessThan",
    "DateLessThanEquals",
    "DateGreaterThan",
    "DateGreaterThanEquals",
    "Bool",
    "BinaryEquals",
    "IpAddress",
    "NotIpAddress",
    "ArnEquals",
    "ArnNotEquals",
    "ArnLike",
    "ArnNotLike",
];

/// What a policy can have too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyPart {
    /// Bytes of its text.
    Bytes,
    /// Statements.
    Statements,
    /// Principals that its statements name together.
    Principals,
    /// Actions of one statement.
    Actions,
    /// Conditions of its statements together.
    Conditions,
}

impl PolicyPart {
    /// How many there may be.
    pub fn max(self) -> usize {
        match self {
            Self::Bytes => POLICY_BYTES_MAX,
            Self::Statements => POLICY_STATEMENTS_MAX,
            Self::Principals => POLICY_PRINCIPALS_MAX,
            Self::Actions => PERMISSION_ACTIONS_MAX,
            Self::Conditions => POLICY_CONDITIONS_MAX,
        }
    }
}

/// What is wrong with an access policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PolicyFlaw {
    /// Not a policy of a queue.
    #[error("malformed")]
    Malformed,
    /// More of something than a policy may have.
    #[error("{1} {0:?}")]
    TooMany(PolicyPart, usize),
}

/// Checks the text of a queue's policy.
pub(super) fn check(text: &str) -> Result<(), PolicyFlaw> {
    within(PolicyPart::Bytes, text.len())?;
    let Ok(Value::Object(policy)) = serde_json::from_str(text) else {
        return Err(PolicyFlaw::Malformed);
    };
    require(policy.iter().all(|(name, value)| match name.as_str() {
        "Version" => value == "2012-10-17" || value == "2008-10-17",
        "Id" => value.is_string(),
        "Statement" => true,
        _ => false,
    }))?;
    let statements = match policy.get("Statement") {
        Some(Value::Array(statements)) => statements.as_slice(),
        Some(single) => std::slice::from_ref(single),
        None => &[],
    };
    require(!statements.is_empty())?;
    within(PolicyPart::Statements, statements.len())?;
    let mut sids = BTreeSet::new();
    let (mut principals, mut conditions) = (0, 0);
    for statement in statements {
        let statement = statement.as_object().ok_or(PolicyFlaw::Malformed)?;
        check_statement(statement)?;
        let sid = statement.get("Sid").and_then(Value::as_str).filter(|sid| !sid.is_empty());
        require(sid.is_none_or(|sid| sids.insert(sid)))?;
        principals += principals_of(statement);
        conditions += conditions_of(statement);
    }
    within(PolicyPart::Principals, principals)?;
    within(PolicyPart::Conditions, conditions)
}

/// How many principals a statement names.
pub(super) fn principals_of(statement: &Map<String, Value>) -> usize {
    let of_kind = |named: &Value| named.as_array().map_or(1, Vec::len);
    let members = ["Principal", "NotPrincipal"].into_iter().filter_map(|name| statement.get(name));
    members
        .map(|named| match named {
            Value::Object(kinds) => kinds.values().map(of_kind).sum(),
            _ => 1,
        })
        .sum()
}

fn conditions_of(statement: &Map<String, Value>) -> usize {
    let operators = statement.get("Condition").and_then(Value::as_object);
    let keys = |tests: &Value| tests.as_object().map_or(0, Map::len);
    operators.map_or(0, |operators| operators.values().map(keys).sum())
}

fn within(part: PolicyPart, number: usize) -> Result<(), PolicyFlaw> {
    if number > part.max() {
        return Err(PolicyFlaw::TooMany(part, number));
    }
    Ok(())
}

fn require(holds: bool) -> Result<(), PolicyFlaw> {
    if holds { Ok(()) } else { Err(PolicyFlaw::Malformed) }
}

fn check_statement(statement: &Map<String, Value>) -> Result<(), PolicyFlaw> {
    let exactly_one = |a: &str, b: &str| statement.contains_key(a) != statement.contains_key(b);
    require(statement.contains_key("Effect"))?;
    require(exactly_one("Principal", "NotPrincipal"))?;
    require(exactly_one("Action", "NotAction"))?;
    require(exactly_one("Resource", "NotResource"))?;
    for (name, value) in statement {
        require(match name.as_str() {
            "Sid" => value.is_string(),
            "Effect" => value == "Allow" || value == "Deny",
            "Principal" | "NotPrincipal" => names_principals(value),
            "Action" | "NotAction" => {
                texts(value).is_some_and(|actions| actions.iter().all(|action| is_action(action)))
            }
            // Of whatever queues: recorded from AWS, which took one that is no queue's name.
            "Resource" | "NotResource" => texts(value).is_some(),
            "Condition" => is_condition(value),
            _ => false,
        })?;
        if let ("Action" | "NotAction", Value::Array(actions)) = (name.as_str(), value) {
            within(PolicyPart::Actions, actions.len())?;
        }
    }
    Ok(())
}

/// One text, or a list of at least one.
fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(list) if !list.is_empty() => list.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn names_principals(value: &Value) -> bool {
    let Value::Object(kinds) = value else {
        return value == "*";
    };
    !kinds.is_empty()
        && kinds.iter().all(|(kind, named)| {
            let Some(named) = texts(named) else {
                return false;
            };
            match kind.as_str() {
                "AWS" => named.iter().all(|name| is_aws_principal(name)),
                "Service" | "Federated" | "CanonicalUser" => named
                    .iter()
                    .all(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())),
                _ => false,
            }
        })
}

/// Everybody, an account, or somebody of one. Whether they exist cannot be known here.
fn is_aws_principal(name: &str) -> bool {
    if name == "*" || AccountId::new(name).is_ok() {
        return true;
    }
    let parts: Vec<&str> = name.splitn(6, ':').collect();
    let &["arn", partition, service, "", account, who] = parts.as_slice() else {
        return false;
    };
    let kinds: &[&str] = match service {
        "iam" => &["user/", "role/"],
        "sts" => &["assumed-role/", "federated-user/"],
        _ => return false,
    };
    let is_root = service == "iam" && who == "root";
    let is_member = kinds.iter().any(|kind| who.len() > kind.len() && who.starts_with(kind));
    !partition.is_empty() && AccountId::new(account).is_ok() && (is_root || is_member)
}

/// A permission of this service, or a pattern that some match.
fn is_action(action: &str) -> bool {
    if action == "*" {
        return true;
    }
    let action = action.to_ascii_lowercase();
    let Some(pattern) = action.strip_prefix("sqs:") else {
        return false;
    };
    PERMISSIONS.iter().any(|name| matches(pattern, &name.to_ascii_lowercase()))
}

fn is_condition(value: &Value) -> bool {
    let is_value = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    let are_values = |value: &Value| match value {
        Value::Array(values) => !values.is_empty() && values.iter().all(is_value),
        single => is_value(single),
    };
    value.as_object().is_some_and(|operators| {
        operators.iter().all(|(operator, tests)| {
            is_operator(operator)
                && tests.as_object().is_some_and(|tests| {
                    tests.iter().all(|(key, value)| !key.is_empty() && are_values(value))
                })
        })
    })
}

fn is_operator(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    if text == "null" {
        return true;
    }
    let text = ["forallvalues:", "foranyvalue:"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(&text);
    let text = text.strip_suffix("ifexists").unwrap_or(text);
    OPERATORS.iter().any(|operator| operator.eq_ignore_ascii_case(text))
}

/// Whether a text matches a pattern, in which `*` stands for any characters and `?` for one.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and what it has taken so far.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                // It takes one more.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ARN: &str = "arn:aws:sqs:us-east-1:000000000000:q";

    fn statement() -> Value {
        json!({"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": ARN})
    }

    /// The statement with other members; `null` takes one away.
    fn with(changes: Value) -> Value {
        let mut statement = statement();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => statement.as_object_mut().unwrap().remove(name),
                value => statement.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        statement
    }

    fn of(statements: Value) -> Result<(), PolicyFlaw> {
        check(&json!({"Version": "2012-10-17", "Statement": statements}).to_string())
    }

    #[test]
    fn typical_statements_are_taken() {
        for changes in [
            json!({}),
            json!({"Sid": "any text: 1"}),
            json!({"Effect": "Deny", "Principal": null, "NotPrincipal": {"AWS": "111111111111"}}),
            json!({"Principal": {"AWS": "*"}}),
            json!({"Principal": {"AWS": ["111111111111", "arn:aws:iam::111111111111:root"]}}),
            json!({"Principal": {"AWS": "arn:aws:iam::111111111111:user/path/name"}}),
            json!({"Principal": {"AWS": "arn:aws-cn:iam::111111111111:role/name"}}),
            json!({"Principal": {"AWS": "arn:aws:sts::111111111111:assumed-role/name/session"}}),
            json!({"Principal": {"Service": ["sns.amazonaws.com", "s3.amazonaws.com"]}}),
            json!({"Principal": {"Federated": "cognito-identity.amazonaws.com", "AWS": "*"}}),
            json!({"Action": "*"}),
            json!({"Action": ["SQS:*", "sqs:sendmessage", "SQS:Send*", "sqs:?eleteMessage"]}),
            json!({"Action": null, "NotAction": "sqs:DeleteQueue"}),
            json!({"Resource": "*"}),
            json!({"Resource": ["arn:aws:sqs:*:000000000000:*", "arn:aws:sqs:us-east-?:*:q"]}),
            // Of other queues, and of none: it is for whoever enforces the policy to see.
            json!({"Resource": "'$sqs_queue_arn'"}),
            json!({"Resource": [ARN, "arn:aws:sqs:us-east-1:111111111111:q"]}),
            json!({"Resource": null, "NotResource": "arn:aws:sqs:us-east-1:000000000000:other"}),
            json!({"Condition": {}}),
            json!({"Condition": {
                "ArnEquals": {"aws:SourceArn": "arn:aws:sns:us-east-1:111111111111:topic"},
                "Bool": {"aws:SecureTransport": false},
                "NumericLessThan": {"aws:MultiFactorAuthAge": 3600},
                "IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "192.0.2.1"]},
                "Null": {"aws:TokenAge": "true"},
                "ForAnyValue:StringLikeIfExists": {"aws:TagKeys": "a*"},
                "dategreaterthan": {"AWS:CurrentTime": "2026-01-01T00:00:00Z"},
            }}),
        ] {
            assert_eq!(of(json!([with(changes.clone())])), Ok(()), "{changes}");
        }
        assert_eq!(of(statement()), Ok(()), "a single statement without a list");
        let old = json!({"Version": "2008-10-17", "Id": "x", "Statement": [statement()]});
        assert_eq!(check(&old.to_string()), Ok(()));
        let bare = json!({"Statement": [statement()]});
        assert_eq!(check(&bare.to_string()), Ok(()));
        let unnamed = with(json!({"Sid": ""}));
        assert_eq!(of(json!([unnamed, unnamed])), Ok(()), "an empty Sid is none");
    }

    #[test]
    fn what_is_not_a_statement_of_this_queue_is_refused() {
        for changes in [
            json!({"Effect": null}),
            json!({"Effect": "allow"}),
            json!({"Effect": ["Allow"]}),
            json!({"Sid": 5}),
            json!({"Principal": null}),
            json!({"NotPrincipal": "*"}),
            json!({"Principal": "111111111111"}),
            json!({"Principal": {}}),
            json!({"Principal": ["*"]}),
            json!({"Principal": {"AWS": []}}),
            json!({"Principal": {"AWS": [["*"]]}}),
            json!({"Principal": {"AWS": "alice"}}),
            json!({"Principal": {"AWS": "11111111111"}}),
            json!({"Principal": {"AWS": "arn:aws:iam::111111111111:"}}),
            json!({"Principal": {"AWS": "arn:aws:iam::111111111111:role/"}}),
            json!({"Principal": {"AWS": "arn:aws:iam::11111111111*:root"}}),
            json!({"Principal": {"AWS": "arn:aws:s3:::bucket"}}),
            json!({"Principal": {"Service": ""}}),
            json!({"Principal": {"Everyone": "*"}}),
            json!({"Action": null}),
            json!({"NotAction": "sqs:*"}),
            json!({"Action": []}),
            json!({"Action": ""}),
            json!({"Action": "SendMessage"}),
            json!({"Action": "sns:Publish"}),
            json!({"Action": "sqs:SendMessageBatch"}),
            json!({"Action": ["sqs:SendMessage", "sqs:Nothing"]}),
            json!({"Action": {"sqs:SendMessage": true}}),
            json!({"Resource": null}),
            json!({"NotResource": "*"}),
            json!({"Resource": []}),
            json!({"Resource": [ARN, {}]}),
            json!({"Condition": []}),
            json!({"Condition": {"Equals": {"aws:SourceIp": "10.0.0.1"}}}),
            json!({"Condition": {"NullIfExists": {"aws:TokenAge": "true"}}}),
            json!({"Condition": {"Bool": "aws:SecureTransport"}}),
            json!({"Condition": {"Bool": {"": true}}}),
            json!({"Condition": {"Bool": {"aws:SecureTransport": {}}}}),
            json!({"Condition": {"Bool": {"aws:SecureTransport": []}}}),
            json!({"Comment": "x"}),
        ] {
            let refused = Err(PolicyFlaw::Malformed);
            assert_eq!(of(json!([with(changes.clone())])), refused, "{changes}");
        }
    }

    #[test]
    fn what_is_not_a_policy_is_refused() {
        let statement = statement();
        let named = with(json!({"Sid": "a"}));
        for policy in [
            json!([]),
            json!({}),
            json!({"Statement": []}),
            json!({"Statement": [{}]}),
            json!({"Statement": [1]}),
            json!({"Statement": "x"}),
            json!({"Statement": [statement], "Version": "2011-01-01"}),
            json!({"Statement": [statement], "Version": 2012}),
            json!({"Statement": [statement], "Id": 1}),
            json!({"Statement": [statement], "Comment": "x"}),
            json!({"statement": [statement]}),
            json!({"Statement": [named, statement, named]}),
        ] {
            let refused = Err(PolicyFlaw::Malformed);
            assert_eq!(check(&policy.to_string()), refused, "{policy}");
        }
        assert_eq!(check("x"), Err(PolicyFlaw::Malformed));
    }

    #[test]
    fn quotas_of_a_policy() {
        let too_many = |part, number| Err(PolicyFlaw::TooMany(part, number));
        let statements = |n: usize| Value::from(vec![statement(); n]);
        assert_eq!(of(statements(20)), Ok(()));
        assert_eq!(of(statements(21)), too_many(PolicyPart::Statements, 21));

        let accounts = |n: u32| (0..n).map(|n| format!("{n:012}")).collect::<Vec<_>>();
        let named = |n| json!([statement(), with(json!({"Principal": {"AWS": accounts(n)}}))]);
        assert_eq!(of(named(49)), Ok(()));
        assert_eq!(of(named(50)), too_many(PolicyPart::Principals, 51));

        let actions = |n: usize| json!([with(json!({"Action": vec!["sqs:SendMessage"; n]}))]);
        assert_eq!(of(actions(7)), Ok(()));
        assert_eq!(of(actions(8)), too_many(PolicyPart::Actions, 8));
        assert_eq!(of(json!([actions(7)[0], actions(7)[0]])), Ok(()), "each has its own seven");

        let tests = |n: u32| (0..n).map(|n| (format!("aws:RequestTag/{n}"), "x".into()));
        let tests = |n| Value::Object(tests(n).collect());
        let conditions = |n| {
            let of = |n| with(json!({"Condition": {"StringEquals": tests(n), "Bool": tests(1)}}));
            json!([of(3), of(n)])
        };
        assert_eq!(of(conditions(5)), Ok(()));
        assert_eq!(of(conditions(6)), too_many(PolicyPart::Conditions, 11));

        let padded = |n: usize| json!({"Id": "x".repeat(n), "Statement": statement()}).to_string();
        let room = POLICY_BYTES_MAX - padded(0).len();
        assert_eq!(check(&padded(room)), Ok(()));
        let longer = POLICY_BYTES_MAX + 1;
        assert_eq!(check(&padded(room + 1)), too_many(PolicyPart::Bytes, longer));
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*b*b", "abab", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("**", "x", true),
            ("x", "xy", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
