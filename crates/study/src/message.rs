//! Bodies that say which message they are.

/// Bytes of every body.
pub(crate) const BODY_BYTES: usize = 256;
const FIELD_BYTES: usize = 16;
const STAMP_BYTES: usize = 3 * FIELD_BYTES;
const FILLER: [u8; BODY_BYTES - STAMP_BYTES] = filler();

/// Tells the messages of one run from those of all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunId(pub(crate) u64);

/// The place of a message among those of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sequence(pub(crate) u64);

/// What a body says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) run: RunId,
    pub(crate) sequence: Sequence,
    /// When it was sent, or should have been: microseconds since the run began.
    pub(crate) moment_us: u64,
}

impl Stamp {
    /// Appends the body: `BODY_BYTES` letters and digits, nothing that JSON would escape.
    pub(crate) fn write_body(&self, out: &mut Vec<u8>) {
        for value in [self.run.0, self.sequence.0, self.moment_us] {
            for shift in (0..FIELD_BYTES).rev() {
                out.push(b"0123456789abcdef"[(value >> (4 * shift)) as usize & 15]);
            }
        }
        out.extend_from_slice(&FILLER);
    }

    /// What a received body says; `None` unless it is, byte for byte, one that could be sent.
    pub(crate) fn read_body(body: &str) -> Option<Self> {
        let body: &[u8; BODY_BYTES] = body.as_bytes().try_into().ok()?;
        if body[STAMP_BYTES..] != FILLER {
            return None;
        }
        Some(Self {
            run: RunId(field(body, 0)?),
            sequence: Sequence(field(body, 1)?),
            moment_us: field(body, 2)?,
        })
    }
}

fn field(body: &[u8; BODY_BYTES], index: usize) -> Option<u64> {
    let digits = &body[index * FIELD_BYTES..(index + 1) * FIELD_BYTES];
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

const fn filler() -> [u8; BODY_BYTES - STAMP_BYTES] {
    let mut filler = [0; BODY_BYTES - STAMP_BYTES];
    let mut at = 0;
    let mut state: u32 = 1;
    while at < filler.len() {
        // Without repetitions: a server that compresses should not gain much.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        filler[at] = b'a' + (state >> 24) as u8 % 26;
        at += 1;
    }
    filler
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(stamp: Stamp) -> String {
        let mut body = Vec::new();
        stamp.write_body(&mut body);
        String::from_utf8(body).unwrap()
    }

    proptest! {
        #[test]
        fn a_body_comes_back(run: u64, sequence: u64, moment_us: u64) {
            let stamp = Stamp { run: RunId(run), sequence: Sequence(sequence), moment_us };
            let body = body(stamp);
            prop_assert_eq!(body.len(), BODY_BYTES);
            prop_assert!(body.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            prop_assert_eq!(Stamp::read_body(&body), Some(stamp));
        }

        #[test]
        fn damage_is_seen_or_changes_the_stamp(at in 0..BODY_BYTES) {
            let stamp = Stamp { run: RunId(7), sequence: Sequence(9), moment_us: 11 };
            let mut damaged = body(stamp).into_bytes();
            damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
            let damaged = String::from_utf8(damaged).unwrap();
            let read = Stamp::read_body(&damaged);
            prop_assert!(read != Some(stamp));
            prop_assert_eq!(read.is_some(), at < STAMP_BYTES);
        }
    }

    #[test]
    fn another_length_is_no_body() {
        let stamp = Stamp { run: RunId(1), sequence: Sequence(2), moment_us: 3 };
        let body = body(stamp);
        assert_eq!(Stamp::read_body(&body[1..]), None);
        assert_eq!(Stamp::read_body(&format!("{body}x")), None);
        assert_eq!(Stamp::read_body(""), None);
    }
}
