//! Receipt handles: what a receive hands out, and what deletes and visibility changes bring back.
//!
//! A handle is base64 of a fixed layout: three bytes 1 (so that the text starts with `AQEB`),
//! format version (2), queue (8), shard (4), place (8), number of the receive (4), authentication
//! code (16). All integers are big-endian. The code covers everything before it, so a handle that
//! opens was made by this cluster.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flotilla_cluster::api::Receipt;
use flotilla_types::ids::{GroupId, QueueId, Seq};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const PREFIX: [u8; 3] = [1, 1, 1];
const VERSION: u16 = 1;
const CODE_AT: usize = 3 + 2 + 8 + 4 + 8 + 4;
const BYTES: usize = CODE_AT + 16;
/// 45 bytes are a multiple of three: no padding.
const CHARS: usize = BYTES / 3 * 4;

/// The text is not a handle of this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHandle;

/// Makes and opens handles; holds the state of the code after the key, so that none pays for it.
pub(crate) struct Sealer(Hmac<Sha256>);

impl Sealer {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(key).expect("the code takes keys of every length"))
    }

    pub(crate) fn seal(&self, receipt: &Receipt) -> String {
        let mut bytes = [0; BYTES];
        bytes[..3].copy_from_slice(&PREFIX);
        bytes[3..5].copy_from_slice(&VERSION.to_be_bytes());
        bytes[5..13].copy_from_slice(&receipt.queue.0.to_be_bytes());
        bytes[13..17].copy_from_slice(&receipt.shard.0.to_be_bytes());
        bytes[17..25].copy_from_slice(&receipt.seq.0.to_be_bytes());
        bytes[25..29].copy_from_slice(&receipt.receive.to_be_bytes());
        let mut code = self.0.clone();
        code.update(&bytes[..CODE_AT]);
        bytes[CODE_AT..].copy_from_slice(&code.finalize().into_bytes()[..16]);
        STANDARD.encode(bytes)
    }

    /// # Errors
    /// When this cluster did not make the handle.
    pub(crate) fn open(&self, handle: &str) -> Result<Receipt, BadHandle> {
        // Exact length first: longer input is not even decoded.
        if handle.len() != CHARS {
            return Err(BadHandle);
        }
        let mut bytes = [0; BYTES];
        let length = STANDARD.decode_slice(handle, &mut bytes).map_err(|_| BadHandle)?;
        if length != BYTES || bytes[..3] != PREFIX || bytes[3..5] != VERSION.to_be_bytes() {
            return Err(BadHandle);
        }
        let mut code = self.0.clone();
        code.update(&bytes[..CODE_AT]);
        code.verify_truncated_left(&bytes[CODE_AT..]).map_err(|_| BadHandle)?;
        Ok(Receipt {
            queue: QueueId(u64::from_be_bytes(field(&bytes, 5))),
            shard: GroupId(u32::from_be_bytes(field(&bytes, 13))),
            seq: Seq(u64::from_be_bytes(field(&bytes, 17))),
            receive: u32::from_be_bytes(field(&bytes, 25)),
        })
    }
}

fn field<const N: usize>(bytes: &[u8; BYTES], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the layout's fields lie inside the handle")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const RECEIPT: Receipt = Receipt {
        queue: QueueId(0x0102_0304_0506_0708),
        shard: GroupId(7),
        seq: Seq(u64::MAX),
        receive: 3,
    };

    #[test]
    fn handles_open_as_what_was_sealed() {
        let sealer = Sealer::new(&[7; 32]);
        let handle = sealer.seal(&RECEIPT);
        assert!(handle.starts_with("AQEB"), "{handle}");
        assert_eq!(handle.len(), CHARS);
        assert_eq!(sealer.open(&handle), Ok(RECEIPT));
        assert_ne!(sealer.seal(&Receipt { receive: 4, ..RECEIPT }), handle);
    }

    #[test]
    fn foreign_and_damaged_handles_do_not_open() {
        let sealer = Sealer::new(&[7; 32]);
        let handle = sealer.seal(&RECEIPT);
        assert_eq!(Sealer::new(&[8; 32]).open(&handle), Err(BadHandle));
        for at in 0..handle.len() {
            let mut damaged = handle.clone().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).unwrap();
            assert_eq!(sealer.open(&damaged), Err(BadHandle), "{at}");
        }
        for text in ["", "AQEB", "garbage", &handle[1..], &format!("{handle}A"), &"é".repeat(30)] {
            assert_eq!(sealer.open(text), Err(BadHandle), "{text}");
        }
    }

    fn receipt() -> impl Strategy<Value = Receipt> {
        any::<(u64, u32, u64, u32)>().prop_map(|(queue, shard, seq, receive)| Receipt {
            queue: QueueId(queue),
            shard: GroupId(shard),
            seq: Seq(seq),
            receive,
        })
    }

    /// Texts that are no handle, some of them nearly.
    fn text() -> impl Strategy<Value = String> {
        let layout = proptest::collection::vec(any::<u8>(), BYTES).prop_map(|mut bytes| {
            bytes[..5].copy_from_slice(&[1, 1, 1, 0, 1]);
            STANDARD.encode(bytes)
        });
        prop_oneof![".{0,80}", "[A-Za-z0-9+/=]{60}", "AQEBAAE[A-Za-z0-9+/]{53}", layout]
    }

    proptest! {
        #[test]
        fn only_what_was_sealed_with_the_key_opens(
            key: [u8; 32], other: [u8; 32], receipt in receipt(), text in text(),
        ) {
            let sealer = Sealer::new(&key);
            prop_assert_eq!(sealer.open(&text), Err(BadHandle));
            let handle = sealer.seal(&receipt);
            prop_assert_eq!(sealer.open(&handle), Ok(receipt));
            prop_assume!(key != other);
            prop_assert_eq!(Sealer::new(&other).open(&handle), Err(BadHandle));
        }

        #[test]
        fn no_character_of_a_handle_can_change(
            receipt in receipt(), at: Index, character: char, digit in "[A-Za-z0-9+/=]",
        ) {
            let sealer = Sealer::new(&[7; 32]);
            let handle = sealer.seal(&receipt);
            let at = at.index(handle.len());
            for changed in [character.to_string(), digit, String::new()] {
                let mut damaged = handle.clone();
                damaged.replace_range(at..=at, &changed);
                let expected = if damaged == handle { Ok(receipt) } else { Err(BadHandle) };
                prop_assert_eq!(sealer.open(&damaged), expected, "{}", damaged);
            }
        }
    }
}
