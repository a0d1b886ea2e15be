//! One message to send, checked.

use flotilla_cluster::api::{Outgoing, Queue};
use flotilla_types::ids::MessageId;
use flotilla_types::limits;
use flotilla_wire::content::{Attribute, Content, Value};

use super::attributes::{self, Attributes};
use super::characters;
use super::digest::{self, Md5Sum};
use crate::error::ApiError;
use crate::ids;
use crate::shape::{Integer, Text};

const ID_CHARS_MAX: usize = 128;

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
    pub(crate) body_md5: Md5Sum,
    pub(crate) attributes_md5: Option<Md5Sum>,
    pub(crate) system_attributes_md5: Option<Md5Sum>,
}

impl Fields<'_> {
    /// Body plus names, types and values of user attributes.
    pub(crate) fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.0.len())
            + attributes::bytes(self.attributes.as_ref())
    }

    /// # Errors
    /// What a send answers for the first thing that is wrong.
    pub(crate) fn check(self, origin: &Origin<'_>) -> Result<Draft, ApiError> {
        let bytes = self.bytes();
        let body = self.body.filter(|body| !body.0.is_empty());
        let body = body.ok_or_else(|| ApiError::missing("MessageBody"))?;
        let bytes_max = origin.queue.attributes.max_message_bytes;
        if bytes > bytes_max as usize {
            return Err(ApiError::invalid(format!(
                "{} Reason: Message must be shorter than {bytes_max} bytes.",
                origin.too_long
            )));
        }
        if !characters::are_allowed(&body.0) {
            return Err(attributes::bad_characters());
        }
        let delay_seconds = delay(self.delay_seconds, origin.queue.attributes.delay_seconds)?;
        if let Some(group) = &self.group_id {
            check_id(group.as_str(), "MessageGroupId")?;
        }
        if self.deduplication_id.is_some() {
            return Err(ApiError::invalid(
                "The request include parameter MessageDeduplicationId which is not valid for \
                 this queue type",
            ));
        }
        let attributes = attributes::check(self.attributes, origin.action)?;
        let trace = attributes::check_system(self.system_attributes)?;
        let body_md5 = digest::of_body(body.0.as_bytes());
        let attributes_md5 = digest::of_attributes(&attributes);
        let system_attributes_md5 = digest::of_attributes(&trace);
        let content = Content {
            body: body.0.into_owned().into(),
            attributes,
            body_md5: body_md5.0,
            sender_id: origin.sender_id.to_owned(),
            trace_header: trace.map(text_of).or_else(|| origin.trace_header.map(str::to_owned)),
            group_id: self.group_id.map(|group| group.0.into_owned()),
        };
        let message_id = MessageId(ids::draw());
        let outgoing = Outgoing { message_id, delay_seconds, content: content.encode() };
        Ok(Draft { outgoing, bytes, body_md5, attributes_md5, system_attributes_md5 })
    }
}

fn delay(given: Option<Integer>, of_queue: u32) -> Result<u32, ApiError> {
    let Some(Integer(given)) = given else {
        return Ok(of_queue);
    };
    let in_range = |delay: &u32| *delay <= limits::DELAY_SECONDS_MAX;
    u32::try_from(given).ok().filter(in_range).ok_or_else(|| {
        let reason = "DelaySeconds must be >= 0 and <= 900.";
        ApiError::invalid_value(given, "DelaySeconds", reason)
    })
}

/// Alphabet and length of group ids and deduplication ids.
fn check_id(id: &str, parameter: &str) -> Result<(), ApiError> {
    if id.is_empty() || id.len() > ID_CHARS_MAX || !id.bytes().all(|b| b.is_ascii_graphic()) {
        let shown: String = id.chars().take(ID_CHARS_MAX).collect();
        let reason = format!(
            "{parameter} can only include alphanumeric and punctuation characters. \
             1 to 128 in length."
        );
        return Err(ApiError::invalid_value(shown, parameter, &reason));
    }
    Ok(())
}

fn text_of(attribute: Attribute) -> String {
    match attribute.value {
        Value::Text(text) => text,
        Value::Binary(_) => String::new(),
    }
}
