//! The stored message as gateways write and read it.

use bytes::Bytes;
use prost::Message as _;

use crate::{DecodeError, proto::message as pb};

/// Body and attributes of a message. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// UTF-8.
    pub body: Bytes,
    /// In the order in which they were sent.
    pub attributes: Vec<Attribute>,
    /// MD5 of `body`.
    pub body_md5: [u8; 16],
    /// As receives report it.
    pub sender_id: String,
    /// X-Ray header, if one was sent.
    pub trace_header: Option<String>,
    /// MessageGroupId, if one was sent.
    pub group_id: Option<String>,
    /// FIFO queues: MessageDeduplicationId, sent or made from the body.
    pub deduplication_id: Option<String>,
}

/// A user attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// With the custom suffix, e.g. `Number.int`.
    pub data_type: String,
    /// Its value.
    pub value: Value,
}

/// Value of a user attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Logical types String and Number.
    Text(String),
    /// Logical type Binary.
    Binary(Bytes),
}

impl Content {
    /// The stored bytes.
    pub fn encode(self) -> Bytes {
        let attributes = self.attributes.into_iter().map(|attribute| pb::Attribute {
            name: attribute.name,
            data_type: attribute.data_type,
            value: Some(match attribute.value {
                Value::Text(text) => pb::attribute::Value::Text(text),
                Value::Binary(bytes) => pb::attribute::Value::Binary(bytes),
            }),
        });
        let message = pb::Content {
            body: self.body,
            attributes: attributes.collect(),
            body_md5: Bytes::copy_from_slice(&self.body_md5),
            sender_id: self.sender_id,
            trace_header: self.trace_header.unwrap_or_default(),
            group_id: self.group_id.unwrap_or_default(),
            deduplication_id: self.deduplication_id.unwrap_or_default(),
        };
        message.encode_to_vec().into()
    }

    /// # Errors
    /// When the bytes are not what [`Content::encode`] wrote.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let message = pb::Content::decode(bytes)?;
        let body_md5 =
            message.body_md5.as_ref().try_into().map_err(|_| DecodeError::Field("body_md5"))?;
        let attributes = message.attributes.into_iter().map(|attribute| {
            let value = match attribute.value.ok_or(DecodeError::Field("value"))? {
                pb::attribute::Value::Text(text) => Value::Text(text),
                pb::attribute::Value::Binary(bytes) => Value::Binary(bytes),
            };
            Ok(Attribute { name: attribute.name, data_type: attribute.data_type, value })
        });
        let given = |text: String| (!text.is_empty()).then_some(text);
        Ok(Self {
            body: message.body,
            attributes: attributes.collect::<Result<_, DecodeError>>()?,
            body_md5,
            sender_id: message.sender_id,
            trace_header: given(message.trace_header),
            group_id: given(message.group_id),
            deduplication_id: given(message.deduplication_id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let content = Content {
            body: Bytes::from_static("h\u{e9}llo".as_bytes()),
            attributes: vec![
                Attribute {
                    name: "a".into(),
                    data_type: "Number.int".into(),
                    value: Value::Text("7".into()),
                },
                Attribute {
                    name: "b".into(),
                    data_type: "Binary".into(),
                    value: Value::Binary(Bytes::from_static(&[0, 255])),
                },
            ],
            body_md5: [7; 16],
            sender_id: "000000000000".into(),
            trace_header: None,
            group_id: Some("tenant".into()),
            deduplication_id: None,
        };
        assert_eq!(Content::decode(content.clone().encode()).unwrap(), content);
        let fifo = Content { deduplication_id: Some("once".into()), ..content };
        assert_eq!(Content::decode(fifo.clone().encode()).unwrap(), fifo);
        assert!(Content::decode(Bytes::from_static(b"\xff\xff")).is_err());
    }
}
