//! Requests and answers between SQS's JSON and what a history says of them.

use flotilla_history::content::{Attribute, Digest, Value as Text};
use flotilla_history::record::{Answered, Delivered, STRANGER, Sent};
use flotilla_history::{Content, Digests, MessageKey, Outcome};
use serde_json::{Value, json};

/// A message to send.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) key: MessageKey,
    /// Length of what follows the key in the body.
    pub(super) padding: usize,
    /// Value of a user attribute.
    pub(super) number: Option<u32>,
    pub(super) group: Option<String>,
    pub(super) dedup: Option<String>,
    pub(super) delay_seconds: Option<u64>,
}

/// Name of the one user attribute that drafts have.
const ATTRIBUTE: &str = "number";

impl Draft {
    fn body(&self) -> String {
        format!("{} {}", self.key, "x".repeat(self.padding))
    }

    /// What the answer must agree with.
    pub(super) fn content(&self) -> Content {
        let text = self.number.map(|number| number.to_string());
        let attribute = text.as_deref().map(|value| Attribute {
            name: ATTRIBUTE,
            data_type: "Number",
            value: Text::Text(value),
        });
        let attributes: Vec<_> = attribute.into_iter().collect();
        Content { key: self.key, digests: Digests::of(&self.body(), &attributes) }
    }

    /// As a request has it, alone or in a batch.
    pub(super) fn fields(&self) -> Value {
        let mut fields = json!({ "MessageBody": self.body() });
        if let Some(number) = self.number {
            let value = json!({ "DataType": "Number", "StringValue": number.to_string() });
            fields["MessageAttributes"] = json!({ ATTRIBUTE: value });
        }
        if let Some(group) = &self.group {
            fields["MessageGroupId"] = json!(group);
        }
        if let Some(dedup) = &self.dedup {
            fields["MessageDeduplicationId"] = json!(dedup);
        }
        if let Some(seconds) = self.delay_seconds {
            fields["DelaySeconds"] = json!(seconds);
        }
        fields
    }

    /// What an answer says of it, and of where it is.
    pub(super) fn sent(&self, answer: &Value, shard: Option<u32>) -> Sent {
        let claimed = digests(&answer["MD5OfMessageBody"], &answer["MD5OfMessageAttributes"]);
        Sent {
            message_id: text(&answer["MessageId"]).unwrap_or_default(),
            sequence: text(&answer["SequenceNumber"]),
            wrong_digests: self.content().digests.unless_same(claimed),
            shard,
        }
    }
}

fn digests(body: &Value, attributes: &Value) -> Digests {
    let digest = |value: &Value| Digest::parse(value.as_str().unwrap_or_default());
    // What is no digest agrees with none.
    let body = digest(body).unwrap_or(Digest([0; 16]));
    let attributes = (!attributes.is_null()).then(|| digest(attributes).unwrap_or(body));
    Digests { body, attributes }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The messages of a receive's answer, and their shards.
pub(super) fn delivered(answer: &Value, shards: &[u32]) -> Vec<Delivered> {
    let messages = answer["Messages"].as_array().into_iter().flatten();
    messages.enumerate().map(|(place, it)| message(it, shards.get(place).copied())).collect()
}

/// The shards that a receive says it could not ask: `shards=8; asked=3:2,7:unreachable`.
pub(super) fn unheard(polled: &str) -> Vec<u32> {
    let asked = polled.split_once("asked=").map_or("", |(_, asked)| asked);
    let shards = asked.split(',').filter_map(|shard| shard.trim().strip_suffix(":unreachable"));
    shards.filter_map(|shard| shard.parse().ok()).collect()
}

fn message(message: &Value, shard: Option<u32>) -> Delivered {
    let body = message["Body"].as_str().unwrap_or_default();
    let user = message["MessageAttributes"].as_object();
    let user = user.into_iter().flatten().map(|(name, value)| Attribute {
        name,
        data_type: value["DataType"].as_str().unwrap_or_default(),
        value: Text::Text(value["StringValue"].as_str().unwrap_or_default()),
    });
    let user: Vec<_> = user.collect();
    let own = Digests::of(body, &user);
    let claimed = digests(&message["MD5OfBody"], &message["MD5OfMessageAttributes"]);
    let attribute = |name: &str| text(&message["Attributes"][name]);
    let number = |name: &str| attribute(name).and_then(|it| it.parse().ok());
    Delivered {
        content: MessageKey::parse(body).map(|key| Content { key, digests: own }),
        message_id: text(&message["MessageId"]).unwrap_or_default(),
        handle: text(&message["ReceiptHandle"]).unwrap_or_default(),
        wrong_digests: own.unless_same(claimed),
        receive_count: number("ApproximateReceiveCount").map(|it| it as u32),
        sent_ms: number("SentTimestamp"),
        first_received_ms: number("ApproximateFirstReceiveTimestamp"),
        group: attribute("MessageGroupId"),
        dedup: attribute("MessageDeduplicationId"),
        sequence: attribute("SequenceNumber"),
        source: attribute("DeadLetterQueueSourceArn")
            .map(|arn| arn.rsplit(':').next().unwrap_or_default().to_owned()),
        shard,
    }
}

/// Id of a batch's entry.
pub(super) fn entry_id(place: usize) -> String {
    format!("e{place}")
}

/// What is known of what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    No,
    Perhaps,
}

/// What a batch's answer says of each of its entries, and the places that it speaks of. An entry
/// that it is silent about is left open, and one that failed unless it is proven that it did nothing.
/// `shards` are those of the messages that were stored.
pub(super) fn entries<T>(
    answer: &Value,
    count: usize,
    applied: Option<Applied>,
    shards: &[u32],
    made: impl Fn(usize, &Value, Option<u32>) -> T,
) -> (Vec<Outcome<T>>, Answered) {
    let mut outcomes: Vec<_> = (0..count).map(|_| Outcome::Info("unanswered".to_owned())).collect();
    let mut answered = Vec::new();
    let place_of = |entry: &Value| {
        let id = entry["Id"].as_str().unwrap_or_default();
        (0..count).find(|place| entry_id(*place) == id)
    };
    for (number, entry) in answer["Successful"].as_array().into_iter().flatten().enumerate() {
        let place = place_of(entry);
        answered.push(place.map_or(STRANGER, |place| place as u32));
        if let Some(place) = place {
            outcomes[place] = Outcome::Ok(made(place, entry, shards.get(number).copied()));
        }
    }
    for entry in answer["Failed"].as_array().into_iter().flatten() {
        let place = place_of(entry);
        answered.push(place.map_or(STRANGER, |place| place as u32));
        let code = text(&entry["Code"]).unwrap_or_default();
        let proven = entry["SenderFault"] == true || applied == Some(Applied::No);
        if let Some(place) = place {
            outcomes[place] = if proven { Outcome::Fail(code) } else { Outcome::Info(code) };
        }
    }
    (outcomes, Some(answered))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        let key = MessageKey { writer: 3, counter: 8 };
        let (group, dedup, delay_seconds) = (None, None, None);
        Draft { key, padding: 4, number: Some(7), group, dedup, delay_seconds }
    }

    #[test]
    fn what_is_sent_is_recognised_when_it_is_delivered() {
        let (draft, digests) = (draft(), draft().content().digests);
        let fields = draft.fields();
        let answer = json!({ "Messages": [{
            "Body": fields["MessageBody"],
            "MessageId": "m",
            "ReceiptHandle": "h",
            "MD5OfBody": digests.body.to_string(),
            "MD5OfMessageAttributes": digests.attributes.unwrap().to_string(),
            "MessageAttributes": fields["MessageAttributes"],
            "Attributes": {
                "ApproximateReceiveCount": "2",
                "DeadLetterQueueSourceArn": "arn:aws:sqs:r:1:flaky",
            },
        }] });
        let got = &delivered(&answer, &[6])[0];
        assert_eq!(got.content, Some(draft.content()));
        assert_eq!((got.wrong_digests, got.receive_count), (None, Some(2)));
        assert_eq!((got.source.as_deref(), got.shard), (Some("flaky"), Some(6)));
    }

    #[test]
    fn digests_of_answers_are_compared() {
        let right = json!({
            "MD5OfMessageBody": draft().content().digests.body.to_string(),
            "MD5OfMessageAttributes": draft().content().digests.attributes.unwrap().to_string(),
        });
        assert_eq!(draft().sent(&right, None).wrong_digests, None);
        let mut wrong = right;
        wrong["MD5OfMessageBody"] = json!("nonsense");
        assert!(draft().sent(&wrong, None).wrong_digests.is_some());
        assert!(draft().sent(&json!({}), None).wrong_digests.is_some());
    }

    #[test]
    fn every_entry_of_a_batch_has_an_outcome() {
        let answer = json!({
            "Successful": [{ "Id": "e1" }, { "Id": "e9" }],
            "Failed": [
                { "Id": "e0", "Code": "Mine", "SenderFault": true },
                { "Id": "e3", "Code": "Yours", "SenderFault": false },
            ],
        });
        let told =
            |applied| entries(&answer, 4, applied, &[8, 9], |place, _, shard| (place, shard));
        let (outcomes, answered) = told(Some(Applied::Perhaps));
        assert_eq!(
            outcomes,
            [
                Outcome::Fail("Mine".to_owned()),
                Outcome::Ok((1, Some(8))),
                Outcome::Info("unanswered".to_owned()),
                Outcome::Info("Yours".to_owned()),
            ]
        );
        assert_eq!(answered, Some(vec![1, STRANGER, 0, 3]));
        assert_eq!(told(Some(Applied::No)).0[3], Outcome::Fail("Yours".to_owned()));
        assert_eq!(told(None).0[3], Outcome::Info("Yours".to_owned()), "nothing is proven");
    }

    #[test]
    fn a_receive_tells_whom_it_could_not_ask() {
        assert_eq!(unheard("shards=8; asked=3:2,5:0,7:unreachable,1:unreachable"), [7, 1]);
        assert!(unheard("shards=8; asked=").is_empty());
        assert!(unheard("").is_empty());
    }
}
