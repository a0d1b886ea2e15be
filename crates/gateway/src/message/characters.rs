//! Which characters bodies and text values may have.

/// Whether every character is one of `#x9 #xA #xD #x20-#xD7FF #xE000-#xFFFD #x10000-#x10FFFF`.
pub(crate) fn are_allowed(text: &str) -> bool {
    let bytes = text.as_bytes();
    // Surrogates cannot occur in UTF-8, so what is left to exclude are other control characters
    // and U+FFFE, U+FFFF (EF BF BE, EF BF BF). No early exit: the loop is made of vector steps.
    let mut suspicious = false;
    let mut control = false;
    for &byte in bytes {
        control |= byte < 0x20 && byte != b'\t' && byte != b'\n' && byte != b'\r';
        suspicious |= byte == 0xef;
    }
    let not_a_character = |window: &[u8]| matches!(window, [0xef, 0xbf, 0xbe | 0xbf]);
    !(control || suspicious && bytes.windows(3).any(not_a_character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definition_on_every_character() {
        for code in 0..=0x10_ffff {
            let Some(character) = char::from_u32(code) else {
                continue;
            };
            let allowed = matches!(code,
                0x9 | 0xa | 0xd | 0x20..=0xd7ff | 0xe000..=0xfffd | 0x1_0000..=0x10_ffff);
            assert_eq!(are_allowed(&format!("a{character}b")), allowed, "{code:x}");
        }
        assert!(are_allowed(""));
    }
}
