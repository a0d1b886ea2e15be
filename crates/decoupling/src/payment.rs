//! What is paid, and the message that says so.

use serde::{Deserialize, Serialize};

/// Longer names are somebody's mistake.
const NAME_BYTES_MAX: usize = 200;
/// A billion; sums of these fit into what SQLite counts with.
const CENTS_MAX: u64 = 100_000_000_000;

/// A customer pays for a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) customer: String,
    pub(crate) product: String,
    pub(crate) amount_cents: u64,
}

/// Nothing that can be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PaymentError {
    #[error("customer and product must have names of at most {NAME_BYTES_MAX} bytes")]
    Name,
    #[error("customer and product must have no characters that a message cannot have")]
    Character,
    #[error("the amount must be 1 to {CENTS_MAX} cents")]
    Amount,
}

impl Payment {
    /// What the database and the queue take. Whatever is let in here is answered before the queue sees it,
    /// so what the queue would refuse must be refused now.
    pub(crate) fn check(&self) -> Result<(), PaymentError> {
        let fits = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        if !fits(&self.customer) || !fits(&self.product) {
            return Err(PaymentError::Name);
        }
        if !self.customer.chars().chain(self.product.chars()).all(is_character) {
            return Err(PaymentError::Character);
        }
        if !(1..=CENTS_MAX).contains(&self.amount_cents) {
            return Err(PaymentError::Amount);
        }
        Ok(())
    }

    /// In SQLite's only integer; [`Payment::check`] has seen to it that it fits.
    pub(crate) fn cents(&self) -> i64 {
        self.amount_cents.cast_signed()
    }
}

/// Whether SQS takes it in a message's body: what XML 1.0 calls a character.
fn is_character(character: char) -> bool {
    matches!(
        character,
        '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..
    )
}

/// The body of a message in "Sales".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sale {
    /// By which the books know it again, however often it comes. Not the queue's message id: a relay
    /// that sends twice makes two of those.
    pub(crate) request_id: String,
    #[serde(flatten)]
    pub(crate) payment: Payment,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_paid_is_refused() {
        let payment = |customer: &str, amount_cents| Payment {
            customer: customer.to_owned(),
            product: "home".to_owned(),
            amount_cents,
        };
        assert_eq!(payment("a", 1).check(), Ok(()));
        assert_eq!(payment("", 1).check(), Err(PaymentError::Name));
        assert_eq!(payment(&"a".repeat(201), 1).check(), Err(PaymentError::Name));
        assert_eq!(payment("a", 0).check(), Err(PaymentError::Amount));
        assert_eq!(payment("a", u64::MAX).check(), Err(PaymentError::Amount));
    }

    #[test]
    fn characters_that_the_queue_refuses_are_refused_before_it() {
        for character in ['\u{FFFE}', '\u{FFFF}', '\u{0}', '\u{1F}'] {
            let name = format!("A{character}a");
            let customer =
                Payment { customer: name.clone(), product: "home".into(), amount_cents: 1 };
            assert_eq!(customer.check(), Err(PaymentError::Character), "{character:?}");
            let product = Payment { customer: "Ada".into(), product: name, amount_cents: 1 };
            assert_eq!(product.check(), Err(PaymentError::Character), "{character:?}");
        }
        let name = "\t\u{7F}ß\u{FFFD}\u{10000}".to_owned();
        let fine = Payment { customer: name.clone(), product: name, amount_cents: 1 };
        assert_eq!(fine.check(), Ok(()));
    }
}
