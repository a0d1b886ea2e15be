//! What a message says: who it is, and the digests that SQS defines, computed apart from the
//! server's code, because a digest that both sides get wrong in the same way proves nothing.

use std::fmt;

use md5::{Digest as _, Md5};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names a message for ever: which writer sent it, as its how-manieth. Counters of one writer
/// increase, so that a loss has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey {
    /// The writer.
    pub writer: u32,
    /// Its messages count from any number upwards.
    pub counter: u32,
}

impl MessageKey {
    /// As it stands at the beginning of a body, up to the first blank.
    pub fn parse(text: &str) -> Option<Self> {
        let word = text.split(' ').next()?;
        let (writer, counter) = word.strip_prefix('w')?.split_once('-')?;
        Some(Self { writer: writer.parse().ok()?, counter: counter.parse().ok()? })
    }

    pub(crate) fn packed(self) -> u64 {
        u64::from(self.writer) << 32 | u64::from(self.counter)
    }
}

impl fmt::Display for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}-{}", self.writer, self.counter)
    }
}

impl Serialize for MessageKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.writer, self.counter).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MessageKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (writer, counter) = Deserialize::deserialize(deserializer)?;
        Ok(Self { writer, counter })
    }
}

/// An MD5, written as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 16]);

const HEX: &[u8; 16] = b"0123456789abcdef";

impl Digest {
    /// Reads what an answer says.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 32 {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
        }
        Some(Self(bytes))
    }

    pub(crate) fn as_id(self) -> u128 {
        u128::from_le_bytes(self.0) | 1
    }

    fn hex(self) -> [u8; 32] {
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        text
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hex().iter().try_for_each(|digit| write!(f, "{}", char::from(*digit)))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.hex()).expect("hex digits are ASCII"))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;
        impl Visitor<'_> for Hex {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 lower-case hex digits")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Digest, E> {
                Digest::parse(text).ok_or_else(|| E::custom("not an MD5"))
            }
        }
        deserializer.deserialize_str(Hex)
    }
}

/// `MD5OfMessageBody` and `MD5OfMessageAttributes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digests {
    /// Of the body.
    #[serde(rename = "b")]
    pub body: Digest,
    /// Of the attributes, when there are any.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Digest>,
}

impl Digests {
    /// What a client computes from what it sent or got.
    pub fn of(body: &str, attributes: &[Attribute<'_>]) -> Self {
        Self { body: digest_of_body(body), attributes: digest_of_attributes(attributes) }
    }

    /// `claimed` where an answer's digests are others than these: what to write down.
    pub fn unless_same(&self, claimed: Digests) -> Option<Digests> {
        (*self != claimed).then_some(claimed)
    }

    /// Short form, for comparing in memory.
    pub(crate) fn folded(&self) -> u64 {
        let half =
            |digest: &Digest| u64::from_le_bytes(digest.0[..8].try_into().expect("8 of 16 bytes"));
        half(&self.body) ^ self.attributes.as_ref().map_or(0, |it| half(it).rotate_left(17) | 1)
    }
}

/// Which message it is, and what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// From the body.
    #[serde(rename = "k")]
    pub key: MessageKey,
    /// As the client computed them, from what it sent or from what it got.
    #[serde(rename = "d")]
    pub digests: Digests,
}

/// A user attribute of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its name.
    pub name: &'a str,
    /// With a custom suffix, if it has one.
    pub data_type: &'a str,
    /// Its value.
    pub value: Value<'a>,
}

/// Value of a user attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Of type String or Number.
    Text(&'a str),
    /// Of type Binary, decoded.
    Binary(&'a [u8]),
}

/// MD5 of a body's UTF-8 bytes.
pub fn digest_of_body(body: &str) -> Digest {
    Digest(Md5::digest(body.as_bytes()).into())
}

/// MD5 over the attributes in order of their names, each as name, type, transport type (1 for
/// texts, 2 for bytes) and value, with lengths of four bytes; `None` without attributes.
pub fn digest_of_attributes(attributes: &[Attribute<'_>]) -> Option<Digest> {
    if attributes.is_empty() {
        return None;
    }
    let mut sorted: Vec<_> = attributes.iter().collect();
    sorted.sort_unstable_by_key(|attribute| attribute.name);
    let mut bytes = Vec::new();
    let part = |bytes: &mut Vec<u8>, part: &[u8]| {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(part);
    };
    for attribute in sorted {
        part(&mut bytes, attribute.name.as_bytes());
        part(&mut bytes, attribute.data_type.as_bytes());
        let (transport, value) = match attribute.value {
            Value::Text(text) => (1, text.as_bytes()),
            Value::Binary(value) => (2, value),
        };
        bytes.push(transport);
        part(&mut bytes, value);
    }
    Some(Digest(Md5::digest(&bytes).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<'a>(name: &'a str, data_type: &'a str, value: &'a str) -> Attribute<'a> {
        Attribute { name, data_type, value: Value::Text(value) }
    }

    #[test]
    fn digests_are_those_that_the_service_was_seen_to_answer() {
        assert_eq!(digest_of_body("hello").to_string(), "5d41402abc4b2a76b9719d911017c592");
        let blob =
            Attribute { name: "blob", data_type: "Binary", value: Value::Binary(&[1, 2, 3]) };
        let cases: [(&[Attribute<'_>], &str); 3] = [
            (
                &[text("color", "String", "blue"), text("count", "Number", "3"), blob],
                "d838729972a4b70e2d2acd9d59ac847c",
            ),
            (&[text("color", "String", "blue")], "da1b33cc3cbfe8b1630921e78e6b9880"),
            (&[text("timestamp", "Number", "1493147359900")], "235c5c510d26fb653d073faed50ae77c"),
        ];
        for (attributes, digest) in cases {
            assert_eq!(digest_of_attributes(attributes).unwrap().to_string(), digest);
        }
        assert_eq!(digest_of_attributes(&[]), None);
    }

    #[test]
    fn digests_and_keys_read_what_they_write() {
        let digest = digest_of_body("x");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse("5D41402ABC4B2A76B9719D911017C592"), None);
        let key = MessageKey { writer: 3, counter: 70_000 };
        assert_eq!(MessageKey::parse(&format!("{key} and more")), Some(key));
        for text in ["", "w", "w1", "1-2", "w1-", "w-1", "w1-x"] {
            assert_eq!(MessageKey::parse(text), None, "{text}");
        }
    }

    #[test]
    fn attributes_change_the_short_form() {
        let with = Digests::of("b", &[text("a", "String", "1")]);
        let other = Digests::of("b", &[text("a", "String", "2")]);
        let without = Digests::of("b", &[]);
        assert_ne!(with.folded(), other.folded());
        assert_ne!(with.folded(), without.folded());
        assert_eq!(with.unless_same(with), None);
        assert_eq!(with.unless_same(other), Some(other));
    }
}
