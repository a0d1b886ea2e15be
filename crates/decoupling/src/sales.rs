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
    transaction.commit()?;
    Ok(Booked::Now)
}

pub(crate) fn is_booked(connection: &Connection, request_id: &str) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare("SELECT 1 FROM booked WHERE request_id = ?1")?;
    Ok(statement.query_row([request_id], |_| Ok(())).optional()?.is_some())
}

/// The same for those whose database it is not: they read, and there may be none yet.
pub(crate) fn is_booked_in(dir: &Path, request_id: &str) -> rusqlite::Result<bool> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok(false);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    is_booked(&connection, request_id)
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
        assert!(is_booked(&connection, "a").unwrap() && !is_booked(&connection, "c").unwrap());
    }

    #[test]
    fn what_cannot_be_booked_leaves_no_trace_and_can_be_booked_later() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        let refused = book(&mut connection, &sale("a", "travel"));
        assert!(matches!(refused, Err(BookError::UnknownProduct(_))));
        assert!(!is_booked(&connection, "a").unwrap());
        add_product(&connection, "travel").unwrap();
        add_product(&connection, "travel").unwrap();
        assert_eq!(book(&mut connection, &sale("a", "travel")).unwrap(), Booked::Now);
    }
}
