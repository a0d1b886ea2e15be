//! MD5 digests as clients check them.

use flotilla_wire::content::{Attribute, Value};
use md5::{Digest as _, Md5};
use serde::{Serialize, Serializer};

use crate::ids::hex;

/// A digest; its text is lower-case hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Md5Sum(pub(crate) [u8; 16]);

/// The digests of one message that a send answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digests {
    pub(crate) body: Md5Sum,
    pub(crate) attributes: Option<Md5Sum>,
    pub(crate) system_attributes: Option<Md5Sum>,
}

impl Serialize for Md5Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            (pair[0], pair[1]) = hex(byte);
        }
        serializer.serialize_str(std::str::from_utf8(&text).expect("hex digits are UTF-8"))
    }
}

/// Digest of a body.
pub(crate) fn of_body(body: &[u8]) -> Md5Sum {
    Md5Sum(Md5::digest(body).into())
}

/// Digest of attributes: sorted by name; of each its name, its type, one byte for the kind of its
/// value, its value; each text or value behind its length. `None` without attributes.
pub(crate) fn of_attributes<'a>(
    attributes: impl IntoIterator<Item = &'a Attribute>,
) -> Option<Md5Sum> {
    let mut sorted: Vec<_> = attributes.into_iter().collect();
    if sorted.is_empty() {
        return None;
    }
    sorted.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut digest = Md5::new();
    let put = |digest: &mut Md5, bytes: &[u8]| {
        // Names, types and values are far below 4 GiB: limits::MESSAGE_BYTES_MAX.
        digest.update((bytes.len() as u32).to_be_bytes());
        digest.update(bytes);
    };
    for attribute in sorted {
        put(&mut digest, attribute.name.as_bytes());
        put(&mut digest, attribute.data_type.as_bytes());
        let (kind, value) = match &attribute.value {
            Value::Text(text) => (1, text.as_bytes()),
            Value::Binary(bytes) => (2, bytes.as_ref()),
        };
        digest.update([kind]);
        put(&mut digest, value);
    }
    Some(Md5Sum(digest.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, data_type: &str, value: &str) -> Attribute {
        let value = match data_type {
            "Binary" => Value::Binary(value.as_bytes().to_vec().into()),
            _ => Value::Text(value.into()),
        };
        Attribute { name: name.into(), data_type: data_type.into(), value }
    }

    fn text(digest: Md5Sum) -> String {
        serde_json::to_value(digest).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn bodies() {
        assert_eq!(text(of_body(b"hello")), "5d41402abc4b2a76b9719d911017c592");
        assert_eq!(text(of_body(b"message")), "78e731027d8fd50ed642340b7c9a63b3");
    }

    #[test]
    fn attributes() {
        let of = |attributes: &[Attribute]| text(of_attributes(attributes).unwrap());
        let color = attribute("color", "String", "blue");
        let count = attribute("count", "Number", "3");
        let blob = attribute("blob", "Binary", "\u{1}\u{2}\u{3}");
        assert_eq!(of(std::slice::from_ref(&color)), "da1b33cc3cbfe8b1630921e78e6b9880");
        assert_eq!(of(&[color, count, blob]), "d838729972a4b70e2d2acd9d59ac847c");
        let stamp = attribute("timestamp", "Number", "1493147359900");
        assert_eq!(of(&[stamp]), "235c5c510d26fb653d073faed50ae77c");
        assert_eq!(of(&[attribute("k", "String", "x")]), "a45daa70926828a2f0a1db3418e6feb4");
        let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let trace = attribute("AWSTraceHeader", "String", trace);
        assert_eq!(of(&[trace]), "5ae4d5d7636402d80f4eb6d213245a88");
        let tags = attribute("tags", "String.Array", "[\"a\",\"b\"]");
        let color = attribute("color", "String", "blue");
        assert_eq!(of(&[tags, color]), "56a5bee3ed610a27fd04b2b195aee70b");
        assert_eq!(of_attributes(&[]), None);
    }
}
