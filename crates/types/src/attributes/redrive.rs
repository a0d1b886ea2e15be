//! The two JSON attributes about dead letters.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::names::QueueName;

/// Where messages go that were received too often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        QueueName::new(self.dead_letter_target_arn.splitn(6, ':').nth(5)?).ok()
    }
}

/// Who may use a queue as dead-letter target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedriveAllow {
    /// The rule.
    pub redrive_permission: RedrivePermission,
    /// With [`RedrivePermission::ByQueue`], 1 to 10 ARNs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
        let policy: Self = serde_json::from_str(text).map_err(|_| RedriveAllowFlaw::Format)?;
        let sources = policy.source_queue_arns.as_deref().unwrap_or_default();
        let by_queue = policy.redrive_permission == RedrivePermission::ByQueue;
        match (by_queue, sources.len()) {
            (true, 0) => Err(RedriveAllowFlaw::NoSources),
            (true, 11..) => Err(RedriveAllowFlaw::TooManySources),
            (false, 1..) => Err(RedriveAllowFlaw::UselessSources),
            (_, 0..) => Ok(policy),
        }
    }

    /// Compact JSON, members in a fixed order.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and lists always serialise")
    }
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
    fn redrive_allow_policies() {
        let arns = |n: usize| vec![format!("\"{ARN}\""); n].join(",");
        let by_queue =
            |n| format!("{{\"redrivePermission\":\"byQueue\",\"sourceQueueArns\":[{}]}}", arns(n));
        assert_eq!(RedriveAllow::parse(&by_queue(10)).unwrap().to_json(), by_queue(10));
        let all = "{\"redrivePermission\":\"allowAll\"}";
        assert_eq!(RedriveAllow::parse(all).unwrap().to_json(), all);
        for (text, flaw) in [
            ("{}".to_owned(), RedriveAllowFlaw::Format),
            ("{\"redrivePermission\":\"some\"}".to_owned(), RedriveAllowFlaw::Format),
            (by_queue(0), RedriveAllowFlaw::NoSources),
            (by_queue(11), RedriveAllowFlaw::TooManySources),
            (by_queue(1).replace("byQueue", "denyAll"), RedriveAllowFlaw::UselessSources),
        ] {
            assert_eq!(RedriveAllow::parse(&text), Err(flaw), "{text}");
        }
    }
}
