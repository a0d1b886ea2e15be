//! The endpoint's database: customers, payments, the outbox, and what of it the queue refused.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use uuid::Uuid;

use crate::database::Database;
use crate::payment::{Payment, Sale};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS customers (
        name TEXT PRIMARY KEY,
        payments INTEGER NOT NULL,
        paid_cents INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS payments (
        request_id TEXT PRIMARY KEY,
        idempotency_key TEXT NOT NULL UNIQUE,
        customer TEXT NOT NULL,
        product TEXT NOT NULL,
        amount_cents INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS outbox (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        request_id TEXT NOT NULL UNIQUE,
        body TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS refused (
        request_id TEXT PRIMARY KEY,
        body TEXT NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
";

/// Why a payment is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    #[error("this idempotency key was used for another payment")]
    OtherPayment,
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error(transparent)]
    Message(#[from] serde_json::Error),
}

/// A payment that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) request_id: String,
    /// It was there already: somebody did not get the answer.
    pub(crate) before: bool,
}

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) sequence: i64,
    pub(crate) body: String,
}

/// A message that the queue will never take as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) sequence: i64,
    pub(crate) reason: String,
}

/// How far a request is, as the endpoint's own database knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    InOutbox,
    Refused,
    Sent,
}

/// Numbers for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) payments: i64,
    pub(crate) cents: i64,
    /// By the customers' records, which must be the same.
    pub(crate) customers_cents: i64,
    pub(crate) outbox: i64,
    pub(crate) refused: i64,
}

pub(crate) fn open(dir: &Path) -> rusqlite::Result<Database> {
    Database::open(&dir.join("payments.db"), TABLES)
}

/// Takes a payment: its request's id. The same key and payment have the same id for ever.
///
/// Customer, payment and message are one transaction. That is the whole point: sending to the queue
/// after the commit would lose the message of an endpoint that is killed between the two, and
/// sending before it would sell what was never paid.
pub(crate) fn accept(
    connection: &mut Connection,
    key: &str,
    payment: &Payment,
) -> Result<Accepted, AcceptError> {
    // Immediate: two requests with the same key must not both find nothing.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some((request_id, earlier)) = find(&transaction, key)? {
        let accepted = Accepted { request_id, before: true };
        return if earlier == *payment { Ok(accepted) } else { Err(AcceptError::OtherPayment) };
    }
    let request_id = Uuid::new_v4().to_string();
    let cents = payment.cents();
    transaction.execute(
        "INSERT INTO customers VALUES (?1, 1, ?2) ON CONFLICT (name) DO UPDATE
         SET payments = payments + 1, paid_cents = paid_cents + ?2",
        params![payment.customer, cents],
    )?;
    transaction.execute(
        "INSERT INTO payments VALUES (?1, ?2, ?3, ?4, ?5)",
        params![request_id, key, payment.customer, payment.product, cents],
    )?;
    let sale = Sale { request_id: request_id.clone(), payment: payment.clone() };
    transaction.execute(
        "INSERT INTO outbox (request_id, body) VALUES (?1, ?2)",
        params![request_id, serde_json::to_string(&sale)?],
    )?;
    transaction.commit()?;
    Ok(Accepted { request_id, before: false })
}

fn find(connection: &Connection, key: &str) -> rusqlite::Result<Option<(String, Payment)>> {
    let mut statement = connection.prepare(
        "SELECT request_id, customer, product, amount_cents FROM payments
         WHERE idempotency_key = ?1",
    )?;
    let row = statement.query_row([key], |row| {
        let amount_cents = row.get::<_, i64>(3)?.cast_unsigned();
        let payment = Payment { customer: row.get(1)?, product: row.get(2)?, amount_cents };
        Ok((row.get(0)?, payment))
    });
    row.optional()
}

/// The oldest messages that are to be sent, at most `count`.
pub(crate) fn outgoing(connection: &Connection, count: usize) -> rusqlite::Result<Vec<Outgoing>> {
    let mut statement =
        connection.prepare("SELECT sequence, body FROM outbox ORDER BY sequence LIMIT ?1")?;
    let rows = statement.query_map([count as i64], |row| {
        Ok(Outgoing { sequence: row.get(0)?, body: row.get(1)? })
    })?;
    rows.collect()
}

/// These are in the queue now, and those never will be. A relay that dies before this sends them once more.
///
/// What the queue refuses is put aside, or it would be the oldest for ever and the outbox would stand
/// still behind it.
pub(crate) fn settle(
    connection: &mut Connection,
    sent: &[i64],
    refused: &[Refused],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for Refused { sequence, reason } in refused {
        transaction.execute(
            "INSERT INTO refused SELECT request_id, body, ?2 FROM outbox WHERE sequence = ?1
             ON CONFLICT DO NOTHING",
            params![sequence, reason],
        )?;
    }
    for sequence in sent.iter().chain(refused.iter().map(|refused| &refused.sequence)) {
        transaction.execute("DELETE FROM outbox WHERE sequence = ?1", [sequence])?;
    }
    transaction.commit()
}

/// What was refused is to be sent again: the number of messages.
pub(crate) fn retry_refused(connection: &mut Connection) -> rusqlite::Result<usize> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        "INSERT INTO outbox (request_id, body) SELECT request_id, body FROM refused
         WHERE true ON CONFLICT DO NOTHING",
        [],
    )?;
    let count = transaction.execute("DELETE FROM refused", [])?;
    transaction.commit()?;
    Ok(count)
}

/// `None`: there is no such request.
pub(crate) fn progress(
    connection: &Connection,
    request_id: &str,
) -> rusqlite::Result<Option<Progress>> {
    let mut statement = connection.prepare(
        "SELECT EXISTS (SELECT 1 FROM outbox WHERE outbox.request_id = payments.request_id),
                EXISTS (SELECT 1 FROM refused WHERE refused.request_id = payments.request_id)
         FROM payments WHERE request_id = ?1",
    )?;
    let progress = statement.query_row([request_id], |row| {
        Ok(match (row.get(0)?, row.get(1)?) {
            (true, _) => Progress::InOutbox,
            (false, true) => Progress::Refused,
            (false, false) => Progress::Sent,
        })
    });
    progress.optional()
}

pub(crate) fn totals(connection: &Connection) -> rusqlite::Result<Totals> {
    connection.query_row(
        "SELECT (SELECT count(*) FROM payments),
                (SELECT coalesce(sum(amount_cents), 0) FROM payments),
                (SELECT coalesce(sum(paid_cents), 0) FROM customers),
                (SELECT count(*) FROM outbox),
                (SELECT count(*) FROM refused)",
        [],
        |row| {
            Ok(Totals {
                payments: row.get(0)?,
                cents: row.get(1)?,
                customers_cents: row.get(2)?,
                outbox: row.get(3)?,
                refused: row.get(4)?,
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payment(amount_cents: u64) -> Payment {
        Payment { customer: "Ada".into(), product: "home".into(), amount_cents }
    }

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        connection
    }

    #[test]
    fn a_payment_and_its_message_are_there_together() {
        let mut connection = database();
        let id = accept(&mut connection, "k1", &payment(500)).unwrap().request_id;
        let waiting = outgoing(&connection, 10).unwrap();
        let sale: Sale = serde_json::from_str(&waiting[0].body).unwrap();
        assert_eq!(sale, Sale { request_id: id.clone(), payment: payment(500) });
        assert_eq!(progress(&connection, &id).unwrap(), Some(Progress::InOutbox));
        settle(&mut connection, &[waiting[0].sequence], &[]).unwrap();
        assert_eq!(progress(&connection, &id).unwrap(), Some(Progress::Sent));
        assert_eq!(progress(&connection, "other").unwrap(), None);
        assert_eq!(outgoing(&connection, 10).unwrap(), []);
    }

    #[test]
    fn a_repeated_payment_is_the_same_one() {
        let mut connection = database();
        let first = accept(&mut connection, "k1", &payment(500)).unwrap();
        assert!(!first.before);
        let again = accept(&mut connection, "k1", &payment(500)).unwrap();
        assert_eq!(again, Accepted { before: true, ..first.clone() });
        let other = accept(&mut connection, "k1", &payment(501));
        assert!(matches!(other, Err(AcceptError::OtherPayment)));
        assert_ne!(accept(&mut connection, "k2", &payment(500)).unwrap(), first);
        let expected =
            Totals { payments: 2, cents: 1_000, customers_cents: 1_000, outbox: 2, refused: 0 };
        assert_eq!(totals(&connection).unwrap(), expected);
    }

    #[test]
    fn what_the_queue_refuses_is_put_aside_and_can_be_tried_again() {
        let mut connection = database();
        let id = accept(&mut connection, "k1", &payment(500)).unwrap().request_id;
        let body = outgoing(&connection, 10).unwrap().remove(0).body;
        let refused = Refused { sequence: 1, reason: "no".into() };
        settle(&mut connection, &[], &[refused]).unwrap();
        assert_eq!(outgoing(&connection, 10).unwrap(), []);
        assert_eq!(progress(&connection, &id).unwrap(), Some(Progress::Refused));
        assert_eq!(totals(&connection).unwrap().refused, 1);
        assert_eq!(retry_refused(&mut connection).unwrap(), 1);
        assert_eq!(outgoing(&connection, 10).unwrap()[0].body, body);
        assert_eq!(progress(&connection, &id).unwrap(), Some(Progress::InOutbox));
        assert_eq!(totals(&connection).unwrap().refused, 0);
    }
}
