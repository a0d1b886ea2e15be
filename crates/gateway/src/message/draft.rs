//! One message to send, checked.

use flotilla_cluster::api::{DedupKeys, Outgoing, Queue};
use flotilla_types::ids::{GroupKey, MessageId};
use flotilla_types::limits;
use flotilla_wire::content::{Attribute, Content, Value};

use super::attributes::{self, Attributes};
use super::digest::{self, Digests};
use super::{characters, keys};
use crate::error::{ApiError, shown};
use crate::ids;
use crate::shape::{Integer, Text};

/// What a send, or one entry of a batch, brings.
pub(crate) struct Fields<'a> {
    pub(crate) body: Option<Text<'a>>,
    pub(crate) delay_seconds: Option<Integer>,
    pub(crate) attributes: Option<Attributes<'a>>,
    pub(crate) system_attributes: Option<Attributes<'a>>,
    pub(crate) group_id: Option<Text<'a>>,
    pub(crate) deduplication_id: Option<Text<'a>>,
}

/// Where a message comes from.
pub(crate) struct Origin<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) sender_id: &'a str,
    /// Of the HTTP request; an attribute of the message goes before it.
    pub(crate) trace_header: Option<&'a str>,
    /// For texts.
    pub(crate) action: &'a str,
    /// Start of the text about a message that is too long: it differs between send and batch.
    pub(crate) too_long: &'a str,
}

/// A message that can be stored, and what the answer says about it.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) outgoing: Outgoing,
    pub(crate) bytes: usize,
    pub(crate) digests: Digests,
}

/// The ids that a message brings or gets, and the keys that stand for them.
#[derive(Default)]
struct Names {
    group_id: Option<String>,
    group: Option<GroupKey>,
    deduplication_id: Option<String>,
    dedup: Option<DedupKeys>,
}

impl Fields<'_> {
    /// Body plus names, types and values of user attributes.
    pub(crate) fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.0.len())
            + attributes::bytes(self.attributes.as_ref())
    }

    /// Whether ids are missing that a FIFO queue wants.
    ///
    /// # Errors
    /// What a send answers then.
    pub(crate) fn check_ids_are_there(&self, queue: &Queue) -> Result<(), ApiError> {
        let Some(fifo) = &queue.attributes.fifo else {
            return Ok(());
        };
        if self.group_id.is_none() {
            return Err(ApiError::missing("MessageGroupId"));
        }
        if self.deduplication_id.is_none() && !fifo.content_based_deduplication {
            return Err(ApiError::invalid(
                "The queue should either have ContentBasedDeduplication enabled or \
                 MessageDeduplicationId provided explicitly",
            ));
        }
        Ok(())
    }

    /// # Errors
    /// What a send answers for the first thing that is wrong.
    pub(crate) fn check(mut self, origin: &Origin<'_>) -> Result<Draft, ApiError> {
        let bytes = self.bytes();
        let body = self.body.take().filter(|body| !body.0.is_empty());
        let body = body.ok_or_else(|| ApiError::missing("MessageBody"))?;
        self.check_ids_are_there(origin.queue)?;
        let bytes_max = origin.queue.attributes.max_message_bytes;
        if bytes > bytes_max as usize {
            return Err(too_long(origin.too_long, bytes_max as usize));
        }
        if !characters::are_allowed(&body.0) {
            return Err(attributes::bad_characters());
        }
        let delay_seconds = delay(self.delay_seconds, origin.queue)?;
        let names = names(self.group_id, self.deduplication_id, origin.queue, body.as_str())?;
        let attributes = attributes::check(self.attributes, origin.action)?;
        let trace = attributes::check_system(self.system_attributes)?;
        let digests = Digests {
            body: digest::of_body(body.0.as_bytes()),
            attributes: digest::of_attributes(&attributes),
            system_attributes: digest::of_attributes(&trace),
        };
        let content = Content {
            body: body.0.into_owned().into(),
            attributes,
            body_md5: digests.body.0,
            sender_id: origin.sender_id.to_owned(),
            trace_header: trace.map(text_of).or_else(|| origin.trace_header.map(str::to_owned)),
            group_id: names.group_id,
            deduplication_id: names.deduplication_id,
        };
        let outgoing = Outgoing {
            message_id: MessageId(ids::draw()),
            delay_seconds,
            group: names.group,
            dedup: names.dedup,
            content: content.encode(),
        };
        Ok(Draft { outgoing, bytes, digests })
    }
}

/// What a larger message is answered with; the beginning is another in a batch.
pub(crate) fn too_long(beginning: &str, bytes_max: usize) -> ApiError {
    ApiError::invalid(format!(
        "{beginning} Reason: Message must be shorter than {bytes_max} bytes."
    ))
}

/// Why a parameter of queues of the other type is refused.
pub(crate) const WRONG_TYPE: &str =
    "The request include parameter that is not valid for this queue type.";

fn delay(given: Option<Integer>, queue: &Queue) -> Result<u32, ApiError> {
    let of_queue = queue.attributes.delay_seconds;
    let Some(Integer(given)) = given else {
        return Ok(of_queue);
    };
    if queue.attributes.fifo.is_some() && given >= 0 {
        // Zero does not override the delay of such a queue.
        return if given == 0 {
            Ok(of_queue)
        } else {
            Err(ApiError::invalid_value(given, "DelaySeconds", WRONG_TYPE))
        };
    }
    let in_range = |delay: &u32| *delay <= limits::DELAY_SECONDS_MAX;
    u32::try_from(given).ok().filter(in_range).ok_or_else(|| {
        let reason = "DelaySeconds must be >= 0 and <= 900.";
        ApiError::invalid_value(given, "DelaySeconds", reason)
    })
}

fn names(
    group_id: Option<Text<'_>>,
    deduplication_id: Option<Text<'_>>,
    queue: &Queue,
    body: &str,
) -> Result<Names, ApiError> {
    let mut names = Names::default();
    if let Some(Text(group_id)) = group_id {
        keys::check_id(&group_id, "MessageGroupId")?;
        names.group = Some(keys::of_group(&group_id));
        names.group_id = Some(group_id.into_owned());
    }
    if queue.attributes.fifo.is_none() {
        if let Some(Text(id)) = deduplication_id {
            return Err(ApiError::invalid_value(shown(&id), "MessageDeduplicationId", WRONG_TYPE));
        }
        return Ok(names);
    }
    let deduplication_id = match deduplication_id {
        Some(Text(id)) => {
            keys::check_id(&id, "MessageDeduplicationId")?;
            id.into_owned()
        }
        None => keys::of_body(body),
    };
    names.dedup = Some(DedupKeys {
        in_queue: keys::of_deduplication(None, &deduplication_id),
        in_group: keys::of_deduplication(names.group_id.as_deref(), &deduplication_id),
    });
    names.deduplication_id = Some(deduplication_id);
    Ok(names)
}

fn text_of(attribute: Attribute) -> String {
    match attribute.value {
        Value::Text(text) => text,
        Value::Binary(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flotilla_cluster::api::Placement;
    use flotilla_types::attributes::{FifoAttributes, QueueAttributes};
    use flotilla_types::ids::QueueId;
    use flotilla_types::names::QueueName;

    use super::*;

    fn queue(fifo: Option<FifoAttributes>) -> Queue {
        let name = if fifo.is_some() { "q.fifo" } else { "q" };
        Queue {
            id: QueueId(1),
            name: QueueName::new(name).unwrap(),
            attributes: QueueAttributes { delay_seconds: 7, fifo, ..Default::default() },
            tags: BTreeMap::new(),
            created_s: 0,
            modified_s: 0,
            placement: Placement::default(),
        }
    }

    fn check(
        fifo: Option<FifoAttributes>,
        group_id: Option<&str>,
        deduplication_id: Option<&str>,
    ) -> (Outgoing, Content) {
        let fields = Fields {
            body: Some(Text("same".into())),
            delay_seconds: Some(Integer(0)),
            attributes: None,
            system_attributes: None,
            group_id: group_id.map(|id| Text(id.into())),
            deduplication_id: deduplication_id.map(|id| Text(id.into())),
        };
        let draft = fields.check(&Origin {
            queue: &queue(fifo),
            sender_id: "000000000000",
            trace_header: None,
            action: "SendMessage",
            too_long: "",
        });
        let outgoing = draft.unwrap().outgoing;
        let content = Content::decode(outgoing.content.clone()).unwrap();
        (outgoing, content)
    }

    #[test]
    fn messages_of_standard_queues_may_have_a_group() {
        let (outgoing, content) = check(None, None, None);
        assert_eq!((outgoing.group, outgoing.dedup, outgoing.delay_seconds), (None, None, 0));
        assert_eq!((content.group_id, content.deduplication_id), (None, None));
        let (outgoing, content) = check(None, Some("tenant"), None);
        assert_eq!((outgoing.group, outgoing.dedup), (Some(keys::of_group("tenant")), None));
        assert_eq!(content.group_id.as_deref(), Some("tenant"));
    }

    #[test]
    fn messages_of_fifo_queues_have_keys() {
        let fifo = FifoAttributes { content_based_deduplication: true, ..Default::default() };
        let (outgoing, content) = check(Some(fifo), Some("g"), Some("once"));
        let keys_of = |id: &str| DedupKeys {
            in_queue: keys::of_deduplication(None, id),
            in_group: keys::of_deduplication(Some("g"), id),
        };
        let expected = (Some(keys::of_group("g")), Some(keys_of("once")));
        assert_eq!((outgoing.group, outgoing.dedup), expected);
        assert_eq!(outgoing.delay_seconds, 7, "zero does not override the queue's delay");
        assert_eq!(content.deduplication_id.as_deref(), Some("once"));

        let of_body = keys::of_body("same");
        let (outgoing, content) = check(Some(fifo), Some("g"), None);
        assert_eq!(outgoing.dedup, Some(keys_of(&of_body)));
        assert_eq!(content.deduplication_id, Some(of_body));
    }
}
