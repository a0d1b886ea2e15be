//! The two JSON attributes about dead letters.

use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::QueueAttributes;
use crate::names::QueueName;

/// Where messages go that were received too often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RedrivePolicy {
    /// ARN of the dead-letter queue, as it was given.
    pub dead_letter_target_arn: String,
    /// 1 to 1,000.
    pub max_receive_count: u32,
}

/// What is wrong with a redrive policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RedriveFlaw {
    /// Not a JSON object.
    #[error("not a JSON object")]
    NotAMap,
    /// This member is missing.
    #[error("member {0} is missing")]
    Missing(&'static str),
    /// There are other members.
    #[error("unknown member")]
    Extra,
    /// The count, as given, is not 1 to 1,000.
    #[error("bad count {0}")]
    Count(String),
    /// The target is not an ARN.
    #[error("the target is not an ARN")]
    NotAnArn,
}

impl RedrivePolicy {
    /// Reads the JSON text of a caller; the count may be a number or the text of one.
    ///
    /// # Errors
    /// See [`RedriveFlaw`]; the first that applies, in the order of its variants.
    pub fn parse(text: &str) -> Result<Self, RedriveFlaw> {
        let map: Map<String, Value> =
            serde_json::from_str(text).map_err(|_| RedriveFlaw::NotAMap)?;
        let member = |name: &'static str| map.get(name).ok_or(RedriveFlaw::Missing(name));
        let count = member("maxReceiveCount")?;
        let target = member("deadLetterTargetArn")?;
        if map.len() > 2 {
            return Err(RedriveFlaw::Extra);
        }
        let count_text = match count {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let max_receive_count = count_text
            .parse()
            .ok()
            .filter(|count| (1..=1000).contains(count))
            .ok_or(RedriveFlaw::Count(count_text))?;
        let target = target.as_str().unwrap_or_default();
        if !is_arn(target) {
            return Err(RedriveFlaw::NotAnArn);
        }
        Ok(Self { dead_letter_target_arn: target.to_owned(), max_receive_count })
    }

    /// Compact JSON, members in a fixed order.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers always serialise")
    }

    /// Name of the dead-letter queue, if the last part of its ARN is one.
    pub fn queue_name(&self) -> Option<QueueName> {
        QueueName::new(resource(&self.dead_letter_target_arn)?).ok()
    }
}

impl QueueAttributes {
    /// Whether another queue may have this one as its dead-letter target, and get its messages back
    /// from it. `is_it` tells whether an ARN is that queue's.
    pub fn allows_source(&self, is_it: impl Fn(&str) -> bool) -> bool {
        let policy = self.redrive_allow_policy.as_deref().map(RedriveAllow::parse);
        // Whatever is set was checked; what is not one allows nobody.
        policy.is_none_or(|policy| policy.is_ok_and(|policy| policy.allows(is_it)))
    }

    /// The same by the queue's name, for those who know of no other accounts and regions.
    pub fn allows_source_named(&self, name: &QueueName) -> bool {
        self.allows_source(|arn| resource(arn) == Some(name.as_str()))
    }
}

/// Who may use a queue as dead-letter target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RedrivePermission {
    /// Every queue.
    AllowAll,
    /// None.
    DenyAll,
    /// Those listed.
    ByQueue,
}

/// Which queues may use this one as their dead-letter target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RedriveAllow {
    /// The rule.
    pub redrive_permission: RedrivePermission,
    /// With [`RedrivePermission::ByQueue`], 1 to 10 ARNs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_queue_arns: Option<Vec<String>>,
}

/// What is wrong with a redrive allow policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RedriveAllowFlaw {
    /// Not such an object.
    #[error("unsupported format")]
    Format,
    /// `byQueue` without queues.
    #[error("byQueue names no queues")]
    NoSources,
    /// Queues with another permission.
    #[error("queues are named without byQueue")]
    UselessSources,
    /// More than 10.
    #[error("more than 10 queues")]
    TooManySources,
}

impl RedriveAllow {
    /// # Errors
    /// See [`RedriveAllowFlaw`].
    pub fn parse(text: &str) -> Result<Self, RedriveAllowFlaw> {
        let policy = Self::read(text).ok_or(RedriveAllowFlaw::Format)?;
        let sources = policy.source_queue_arns.as_deref().unwrap_or_default();
        let by_queue = policy.redrive_permission == RedrivePermission::ByQueue;
        match (by_queue, sources.len()) {
            (true, 0) => Err(RedriveAllowFlaw::NoSources),
            (true, 11..) => Err(RedriveAllowFlaw::TooManySources),
            (false, 1..) => Err(RedriveAllowFlaw::UselessSources),
            (_, 0..) => Ok(policy),
        }
    }

    /// Member by member: a derived reader would also take a list for an object, and an object for
    /// the name of a variant.
    fn read(text: &str) -> Option<Self> {
        let mut map: Map<String, Value> = serde_json::from_str(text).ok()?;
        let redrive_permission = match map.remove("redrivePermission")?.as_str()? {
            "allowAll" => RedrivePermission::AllowAll,
            "denyAll" => RedrivePermission::DenyAll,
            "byQueue" => RedrivePermission::ByQueue,
            _ => return None,
        };
        let arn = |value: Value| value.as_str().filter(|text| is_arn(text)).map(str::to_owned);
        let source_queue_arns = match map.remove("sourceQueueArns") {
            None => None,
            Some(Value::Array(arns)) => Some(arns.into_iter().map(arn).collect::<Option<_>>()?),
            Some(_) => return None,
        };
        map.is_empty().then_some(Self { redrive_permission, source_queue_arns })
    }

    /// Whether a queue may use this one, which is named by the ARNs that `is_it` tells.
    fn allows(&self, is_it: impl Fn(&str) -> bool) -> bool {
        let named = self.source_queue_arns.as_deref().unwrap_or_default();
        match self.redrive_permission {
            RedrivePermission::AllowAll => true,
            RedrivePermission::DenyAll => false,
            RedrivePermission::ByQueue => named.iter().any(|arn| is_it(arn)),
        }
    }

    /// Compact JSON, members in a fixed order.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and lists always serialise")
    }
}

/// What an ARN names, without where it is and whose.
fn resource(arn: &str) -> Option<&str> {
    arn.splitn(6, ':').nth(5)
}

fn is_arn(text: &str) -> bool {
    let mut parts = text.splitn(6, ':');
    parts.next() == Some("arn") && parts.clone().count() == 5 && parts.all(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:sqs:us-east-1:000000000000:dead";

    #[test]
    fn redrive_policies() {
        let good = format!("{{ \"maxReceiveCount\": \"3\", \"deadLetterTargetArn\": \"{ARN}\" }}");
        let canonical = format!("{{\"deadLetterTargetArn\":\"{ARN}\",\"maxReceiveCount\":3}}");
        let policy = RedrivePolicy::parse(&good).unwrap();
        assert_eq!(policy.to_json(), canonical);
        assert_eq!(RedrivePolicy::parse(&canonical).unwrap(), policy);
        assert_eq!(policy.queue_name(), QueueName::new("dead").ok());
        let no_queue = RedrivePolicy { dead_letter_target_arn: format!("{ARN}:x"), ..policy };
        assert_eq!(no_queue.queue_name(), None);

        let arn = |rest: &str| format!("{{\"deadLetterTargetArn\":\"{ARN}\"{rest}}}");
        for (text, flaw) in [
            ("x".to_owned(), RedriveFlaw::NotAMap),
            ("[]".to_owned(), RedriveFlaw::NotAMap),
            ("{}".to_owned(), RedriveFlaw::Missing("maxReceiveCount")),
            ("{\"maxReceiveCount\":1}".to_owned(), RedriveFlaw::Missing("deadLetterTargetArn")),
            (arn(",\"maxReceiveCount\":1,\"x\":1"), RedriveFlaw::Extra),
            (arn(",\"maxReceiveCount\":0"), RedriveFlaw::Count("0".into())),
            (arn(",\"maxReceiveCount\":1001"), RedriveFlaw::Count("1001".into())),
            (arn(",\"maxReceiveCount\":\"a\""), RedriveFlaw::Count("a".into())),
            (
                "{\"deadLetterTargetArn\":\"q\",\"maxReceiveCount\":1}".to_owned(),
                RedriveFlaw::NotAnArn,
            ),
        ] {
            assert_eq!(RedrivePolicy::parse(&text), Err(flaw), "{text}");
        }
    }

    #[test]
    fn redrive_allow_policies_decide() {
        let arns = format!("\"sourceQueueArns\":[\"{ARN}\",\"{ARN}2\"]");
        let by_queue = format!("{{\"redrivePermission\":\"byQueue\",{arns}}}");
        let (listed, other) = (format!("{ARN}2"), format!("{ARN}3"));
        for (policy, allowed) in [
            (None, [true, true]),
            (Some("{\"redrivePermission\":\"allowAll\"}"), [true, true]),
            (Some("{\"redrivePermission\":\"denyAll\"}"), [false, false]),
            (Some(by_queue.as_str()), [true, false]),
            (Some("x"), [false, false]),
        ] {
            let redrive_allow_policy = policy.map(str::to_owned);
            let queue = QueueAttributes { redrive_allow_policy, ..QueueAttributes::default() };
            let by_arn = [&listed, &other].map(|arn| queue.allows_source(|it| it == arn));
            assert_eq!(by_arn, allowed, "{policy:?}");
            let names = ["dead2", "dead3"].map(|name| QueueName::new(name).unwrap());
            assert_eq!(names.map(|name| queue.allows_source_named(&name)), allowed, "{policy:?}");
        }
    }

    #[test]
    fn redrive_allow_policies() {
        let arns = |n: usize| vec![format!("\"{ARN}\""); n].join(",");
        let by_queue =
            |n| format!("{{\"redrivePermission\":\"byQueue\",\"sourceQueueArns\":[{}]}}", arns(n));
        assert_eq!(RedriveAllow::parse(&by_queue(10)).unwrap().to_json(), by_queue(10));
        let all = "{\"redrivePermission\":\"allowAll\"}";
        assert_eq!(RedriveAllow::parse(all).unwrap().to_json(), all);
        for (text, flaw) in [
            ("{}".to_owned(), RedriveAllowFlaw::Format),
            ("[\"allowAll\"]".to_owned(), RedriveAllowFlaw::Format),
            ("\"allowAll\"".to_owned(), RedriveAllowFlaw::Format),
            ("{\"redrivePermission\":\"some\"}".to_owned(), RedriveAllowFlaw::Format),
            ("{\"redrivePermission\":{\"allowAll\":null}}".to_owned(), RedriveAllowFlaw::Format),
            (all.replace('}', ",\"sourceQueueArns\":null}"), RedriveAllowFlaw::Format),
            (all.replace('}', ",\"x\":1}"), RedriveAllowFlaw::Format),
            (by_queue(2).replacen(ARN, "foo", 1), RedriveAllowFlaw::Format),
            (by_queue(2).replacen(&format!("\"{ARN}\""), "5", 1), RedriveAllowFlaw::Format),
            (by_queue(0), RedriveAllowFlaw::NoSources),
            (by_queue(11), RedriveAllowFlaw::TooManySources),
            (by_queue(1).replace("byQueue", "denyAll"), RedriveAllowFlaw::UselessSources),
        ] {
            assert_eq!(RedriveAllow::parse(&text), Err(flaw), "{text}");
        }
    }
}
