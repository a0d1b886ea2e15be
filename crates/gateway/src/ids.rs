//! Random identities in their text form.

use flotilla_types::ids::MessageId;
use serde::{Serialize, Serializer};

/// Draws a version 4 UUID from the thread's generator.
pub(crate) fn draw() -> [u8; 16] {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// Text of a UUID on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct UuidText([u8; 36]);

impl UuidText {
    pub(crate) fn new(bytes: [u8; 16]) -> Self {
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (i, byte) in bytes.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                at += 1;
            }
            (text[at], text[at + 1]) = hex(*byte);
            at += 2;
        }
        Self(text)
    }

    /// Reads exactly what it writes.
    pub(crate) fn parse(text: &str) -> Option<[u8; 16]> {
        let digits = text.replace('-', "");
        let bytes = u128::from_str_radix(&digits, 16).ok()?.to_be_bytes();
        (Self::new(bytes).as_str() == text).then_some(bytes)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits and dashes are UTF-8")
    }
}

impl From<MessageId> for UuidText {
    fn from(id: MessageId) -> Self {
        Self::new(id.0)
    }
}

impl Serialize for UuidText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl std::fmt::Display for UuidText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Two lower-case hex digits.
pub(crate) fn hex(byte: u8) -> (u8, u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_the_message_id_does() {
        let id = MessageId(draw());
        let text = UuidText::from(id);
        assert_eq!(text.as_str(), id.to_string());
        assert_eq!(&text.as_str()[14..15], "4");
        assert!("89ab".contains(&text.as_str()[19..20]));
    }

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let id = draw();
        assert_eq!(UuidText::parse(UuidText::new(id).as_str()), Some(id));
        for text in [
            "",
            "é",
            "12345678-9ABC-def0-0102-030405060708",
            "+2345678-9abc-def0-0102-030405060708",
            "123456789abcdef00102030405060708",
            "12345678-9abc-def0-0102-03040506070",
            "12345678-9abc-def0-0102-0304050607089",
            "12345678-9abc-def0-0102-03040506070-8",
        ] {
            assert_eq!(UuidText::parse(text), None, "{text}");
        }
    }
}
