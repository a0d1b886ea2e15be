//! The worker's database: what was sold, and which requests are in it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use crate::database::{BUSY, Database};
use crate::payment::Sale;

const FILE: &str = "sales.db";
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS products (
        name TEXT PRIMARY KEY,
        sales INTEGER NOT NULL DEFAULT 0,
        cents INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE IF NOT EXISTS booked (request_id TEXT PRIMARY KEY) STRICT;
    CREATE TABLE IF NOT EXISTS troubles (
        request_id TEXT PRIMARY KEY,
        reason TEXT NOT NULL,
        is_last INTEGER NOT NULL
    ) STRICT;
";

/// What the sales department has always sold.
const PRODUCTS: [&str; 3] = ["home", "life", "motor"];

/// What became of a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Booked {
    Now,
    /// The message came once more.
    Before,
}

/// Why a sale cannot be booked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BookError {
    #[error("product {0:?} is not known")]
    UnknownProduct(String),
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
}

/// How far a request is, as the books know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It never came, or nobody got far with it.
    Unknown,
    Booked,
    /// It could not be booked, and comes again.
    Retried(String),
    /// It could not be booked and came as often as it may: the queue puts it aside.
    PutAside(String),
}

/// Numbers for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) sales: i64,
    pub(crate) cents: i64,
    pub(crate) booked: i64,
}

pub(crate) fn open(dir: &Path) -> rusqlite::Result<Database> {
    Database::open(&dir.join(FILE), TABLES)
}

/// Adds the products that are always there.
pub(crate) fn seed(connection: &Connection) -> rusqlite::Result<()> {
    PRODUCTS.iter().try_for_each(|name| add_product(connection, name))
}

pub(crate) fn add_product(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    connection.execute("INSERT INTO products (name) VALUES (?1) ON CONFLICT DO NOTHING", [name])?;
    Ok(())
}

/// Books a sale exactly once: its id and the sums change in one transaction, so that no crash leaves one
/// without the other.
pub(crate) fn book(connection: &mut Connection, sale: &Sale) -> Result<Booked, BookError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let is_new = transaction
        .execute("INSERT INTO booked VALUES (?1) ON CONFLICT DO NOTHING", [&sale.request_id])?;
    if is_new == 0 {
        return Ok(Booked::Before);
    }
    let changed = transaction.execute(
        "UPDATE products SET sales = sales + 1, cents = cents + ?2 WHERE name = ?1",
        params![sale.payment.product, sale.payment.cents()],
    )?;
    if changed == 0 {
        // Dropped without a commit: the id is not kept either.
        return Err(BookError::UnknownProduct(sale.payment.product.clone()));
    }
    transaction.execute("DELETE FROM troubles WHERE request_id = ?1", [&sale.request_id])?;
    transaction.commit()?;
    Ok(Booked::Now)
}

/// A sale cannot be booked, for customers who ask; nothing else depends on it, and a worker that dies
/// leaves it out.
pub(crate) fn note_trouble(
    connection: &Connection,
    request_id: &str,
    reason: &str,
    is_last: bool,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO troubles SELECT ?1, ?2, ?3
         WHERE NOT EXISTS (SELECT 1 FROM booked WHERE request_id = ?1)",
        params![request_id, reason, is_last],
    )?;
    Ok(())
}

/// What was put aside comes again.
pub(crate) fn redriven(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE troubles SET is_last = 0", [])?;
    Ok(())
}

pub(crate) fn standing(connection: &Connection, request_id: &str) -> rusqlite::Result<Standing> {
    let mut booked = connection.prepare("SELECT 1 FROM booked WHERE request_id = ?1")?;
    if booked.exists([request_id])? {
        return Ok(Standing::Booked);
    }
    let mut trouble =
        connection.prepare("SELECT reason, is_last FROM troubles WHERE request_id = ?1")?;
    let found = trouble.query_row([request_id], |row| {
        let reason = row.get(0)?;
        Ok(if row.get(1)? { Standing::PutAside(reason) } else { Standing::Retried(reason) })
    });
    Ok(found.optional()?.unwrap_or(Standing::Unknown))
}

/// The same for those whose database it is not: they read, and there may be none yet.
pub(crate) fn standing_in(dir: &Path, request_id: &str) -> rusqlite::Result<Standing> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok(Standing::Unknown);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    standing(&connection, request_id)
}

pub(crate) fn totals(connection: &Connection) -> rusqlite::Result<Totals> {
    connection.query_row(
        "SELECT coalesce(sum(sales), 0), coalesce(sum(cents), 0),
                (SELECT count(*) FROM booked) FROM products",
        [],
        |row| Ok(Totals { sales: row.get(0)?, cents: row.get(1)?, booked: row.get(2)? }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::Payment;

    fn sale(request_id: &str, product: &str) -> Sale {
        let payment =
            Payment { customer: "Ada".into(), product: product.into(), amount_cents: 700 };
        Sale { request_id: request_id.into(), payment }
    }

    #[test]
    fn a_sale_counts_once_however_often_it_comes() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        seed(&connection).unwrap();
        assert_eq!(book(&mut connection, &sale("a", "home")).unwrap(), Booked::Now);
        assert_eq!(book(&mut connection, &sale("a", "home")).unwrap(), Booked::Before);
        assert_eq!(book(&mut connection, &sale("b", "motor")).unwrap(), Booked::Now);
        let expected = Totals { sales: 2, cents: 1_400, booked: 2 };
        assert_eq!(totals(&connection).unwrap(), expected);
        assert_eq!(standing(&connection, "a").unwrap(), Standing::Booked);
        assert_eq!(standing(&connection, "c").unwrap(), Standing::Unknown);
    }

    #[test]
    fn what_cannot_be_booked_leaves_no_trace_and_can_be_booked_later() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        let refused = book(&mut connection, &sale("a", "travel"));
        assert!(matches!(refused, Err(BookError::UnknownProduct(_))));
        assert_eq!(standing(&connection, "a").unwrap(), Standing::Unknown);
        add_product(&connection, "travel").unwrap();
        add_product(&connection, "travel").unwrap();
        assert_eq!(book(&mut connection, &sale("a", "travel")).unwrap(), Booked::Now);
    }

    #[test]
    fn a_customer_hears_why_a_sale_is_not_booked_until_it_is() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        let why = || "travel is not known".to_owned();
        note_trouble(&connection, "a", &why(), false).unwrap();
        assert_eq!(standing(&connection, "a").unwrap(), Standing::Retried(why()));
        note_trouble(&connection, "a", &why(), true).unwrap();
        assert_eq!(standing(&connection, "a").unwrap(), Standing::PutAside(why()));
        redriven(&connection).unwrap();
        assert_eq!(standing(&connection, "a").unwrap(), Standing::Retried(why()));
        add_product(&connection, "travel").unwrap();
        book(&mut connection, &sale("a", "travel")).unwrap();
        assert_eq!(standing(&connection, "a").unwrap(), Standing::Booked);
        // A worker was slow, and another has booked it meanwhile.
        note_trouble(&connection, "a", &why(), true).unwrap();
        assert_eq!(standing(&connection, "a").unwrap(), Standing::Booked);
    }
}
