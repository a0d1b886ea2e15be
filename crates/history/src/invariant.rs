//! The names of what must hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! invariants {
    ($($name:ident = $id:literal $title:literal;)+) => {
        /// One thing that must hold. Its module says exactly what, and when it cannot be decided.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[allow(missing_docs)]
        pub enum Invariant {
            $(#[doc = $title] #[serde(rename = $id)] $name,)+
        }

        impl Invariant {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// `S4`
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// What it says, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

invariants! {
    S1 = "S1" "what was acknowledged is delivered";
    S1b = "S1b" "what was refused is never delivered";
    S2 = "S2" "what is delivered was sent, just so";
    S3 = "S3" "of two deliveries at the same time one came after the other's lease";
    S4 = "S4" "a leased message is handed to nobody else";
    S5 = "S5" "deleted is deleted";
    S6 = "S6" "old handles do what is promised of them";
    S7 = "S7" "every delivery has a handle of its own, good for its queue only";
    S8 = "S8" "receive counts and timestamps are exact";
    S9 = "S9" "a delay is not cut short";
    S10 = "S10" "nothing is delivered after its retention";
    S11 = "S11" "received too often: moved once, in one queue at any time";
    S12 = "S12" "a move task moves each message once";
    S13 = "S13" "a purge takes what was there before";
    S14 = "S14" "a deleted queue is gone, with all that was in it";
    S15 = "S15" "counts are possible";
    S16 = "S16" "a long poll ends in time and does not miss a message";
    S17 = "S17" "so many short polls see everything";
    S18 = "S18" "each entry of a batch has one outcome, and a place";
    S19 = "S19" "no more in flight than allowed, no fewer for nothing";
    S20 = "S20" "attributes are one register";
    F1 = "F1" "sequence numbers are unique and rise with time in a group";
    F2 = "F2" "a group comes out in order";
    F3 = "F3" "a group is out with one receive at a time";
    F4 = "F4" "nothing is skipped in a group";
    F5 = "F5" "one deduplication id, one message, for five minutes";
    F6 = "F6" "a send repeated until success is one message";
    F7 = "F7" "a receive repeated under its attempt id gets the same";
    F8 = "F8" "a delete after the lease is refused";
    F9 = "F9" "dead letters of a group keep their order";
    F10 = "F10" "the delay of a FIFO queue is the queue's";
    F11 = "F11" "groups are in order also across nodes";
    L1 = "L1" "every operation works through every node soon after faults are healed";
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

impl FromStr for Invariant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|invariant| invariant.id().eq_ignore_ascii_case(text));
        found.copied().ok_or_else(|| format!("no invariant is called {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_as_they_are_written() {
        for invariant in Invariant::ALL {
            assert_eq!(invariant.id().to_lowercase().parse(), Ok(*invariant));
            let json = serde_json::to_string(invariant).unwrap();
            assert_eq!(json, format!("\"{invariant}\""));
        }
        assert!("S99".parse::<Invariant>().is_err());
    }
}
