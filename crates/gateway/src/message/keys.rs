//! Ids that callers give to groups, messages and receives, and the keys that stand for them.
//!
//! Keys are parts of SHA-256 digests and are stored: what is digested must not change.

use std::fmt::Write as _;

use flotilla_types::ids::{DedupKey, GroupId, GroupKey, Seq};
use sha2::{Digest as _, Sha256};

use crate::error::{ApiError, shown};

const ID_CHARS_MAX: usize = 128;

/// First byte of what is digested to a [`DedupKey`]: keys of different kinds are never equal.
#[derive(Clone, Copy)]
enum Kind {
    OfQueue = 1,
    OfGroup = 2,
    Attempt = 3,
}

/// Alphabet and length of ids of groups, of deduplication and of attempts to receive.
///
/// # Errors
/// `InvalidParameterValue`, which names the parameter.
pub(crate) fn check_id(id: &str, parameter: &str) -> Result<(), ApiError> {
    if id.is_empty() || id.len() > ID_CHARS_MAX || !id.bytes().all(|b| b.is_ascii_graphic()) {
        let reason = format!(
            "{parameter} can only include alphanumeric and punctuation characters. \
             1 to 128 in length."
        );
        return Err(ApiError::invalid_value(shown(id), parameter, &reason));
    }
    Ok(())
}

/// Key of a message group.
pub(crate) fn of_group(group_id: &str) -> GroupKey {
    let digest: [u8; 32] = Sha256::digest(group_id).into();
    let (first, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    GroupKey(u64::from_be_bytes(*first).try_into().unwrap_or(std::num::NonZeroU64::MIN))
}

/// Key of a deduplication id that is unique in its group, if one is given, or else in the queue.
pub(crate) fn of_deduplication(group_id: Option<&str>, deduplication_id: &str) -> DedupKey {
    match group_id {
        Some(group_id) => key(Kind::OfGroup, group_id, deduplication_id),
        None => key(Kind::OfQueue, "", deduplication_id),
    }
}

/// Key of a ReceiveRequestAttemptId.
pub(crate) fn of_attempt(attempt_id: &str) -> DedupKey {
    key(Kind::Attempt, "", attempt_id)
}

/// The deduplication id of a message that brings none: lower-case hex SHA-256 of its body.
pub(crate) fn of_body(body: &str) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(body) {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Text of a SequenceNumber: 20 digits that grow within a shard, hence within a group (one that
/// moves to another shard goes on there above all its places before), and are unique in a queue.
/// Shards have at most four digits: `limits::SHARDS_MAX`.
pub(crate) fn sequence_number(shard: GroupId, seq: Seq) -> String {
    format!("100{:013}{:04}", seq.0, shard.0)
}

/// First half of the digest of kind, length of the scope, scope and id.
fn key(kind: Kind, scope: &str, id: &str) -> DedupKey {
    let mut digest = Sha256::new();
    digest.update([kind as u8]);
    // Ids that were checked are far shorter.
    digest.update((scope.len() as u32).to_be_bytes());
    digest.update(scope);
    digest.update(id);
    let digest: [u8; 32] = digest.finalize().into();
    let (first, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    DedupKey(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(key: DedupKey) -> String {
        key.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn ids() {
        for good in ["a", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "0aZ", &"x".repeat(128)] {
            assert_eq!(check_id(good, "P"), Ok(()), "{good}");
        }
        for bad in ["", " ", "a b", "é", "\u{7f}", &"x".repeat(129)] {
            assert!(check_id(bad, "P").is_err(), "{bad}");
        }
        let text = |id: &str| check_id(id, "P").unwrap_err().message;
        // What is a little too long is repeated whole.
        assert!(text(&"x".repeat(129)).starts_with(&format!("Value {} for", "x".repeat(129))));
        let long = text(&"é".repeat(1_000));
        assert!(long.starts_with("Value éé") && long.chars().count() < 450);
    }

    #[test]
    fn groups() {
        assert_eq!(of_group("g1").0.get(), 0x7114_30f6_164e_9380);
        assert_eq!(of_group("tenant").0.get(), 0xe9da_86d3_51cf_9a76);
    }

    #[test]
    fn deduplication_ids() {
        assert_eq!(hex(of_deduplication(None, "once")), "8f7bbf514f0e139a4614e1f93b686d66");
        assert_eq!(hex(of_deduplication(Some("g1"), "once")), "de33958d279a8378d33ae56d8017d9e4");
        assert_eq!(hex(of_attempt("once")), "39ce8f53df67c435b980b14a37024846");
    }

    #[test]
    fn scope_and_id_do_not_run_into_each_other() {
        assert_ne!(of_deduplication(Some("ab"), "c"), of_deduplication(Some("a"), "bc"));
        assert_ne!(of_deduplication(Some("a"), "c"), of_deduplication(Some("b"), "c"));
        assert_ne!(of_deduplication(None, "c"), of_deduplication(Some(""), "c"));
        assert_ne!(of_deduplication(None, "c"), of_attempt("c"));
    }

    #[test]
    fn bodies() {
        assert_eq!(
            of_body("same"),
            "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5"
        );
    }

    #[test]
    fn sequence_numbers_have_20_digits_and_grow() {
        let number = |shard, seq| sequence_number(GroupId(shard), Seq(seq));
        assert_eq!(number(1, 0), "10000000000000000001");
        assert_eq!(number(1_024, 9_999_999_999_999), "10099999999999991024");
        assert_eq!(number(7, 42), "10000000000000420007");
        assert!(number(9, 99) < number(9, 100));
        assert_ne!(number(1, 2), number(2, 1));
    }
}
