//! An insurance company takes payments. The customer waits for an answer, so the answer must not wait for
//! the sales department's books; and a payment that was answered must be in the books exactly once, whatever is
//! killed meanwhile. Between the two is a queue.
//!
//! ```text
//! POST /payments ─▶ payments.db: customer, payment, outbox   (one transaction)
//!        ◀─ 202 and a request id        │
//!                                     relay ─▶ queue "Sales" ─▶ worker ─▶ sales.db: seen ids, sums
//! GET /requests/{id} ◀─ status                     │ given up too often   (one transaction)
//!                                                  ▼
//!                                        queue "SalesDead" ─▶ redrive: back into "Sales"
//! ```
//!
//! Read in this order: `payments` (the outbox), `relay`, `worker`, `sales` (idempotence), then
//! `endpoint`, `queues` and `redrive`.
//!
//! Invariants, and what each rests on:
//! - *No answered payment is lost.* The message is written in the payment's transaction, and leaves the
//!   outbox only after the queue has acknowledged it. There is no moment at which only one of the two exists. The
//!   promise ends with the queue's own: two weeks after it was sent a message is gone, so whoever runs this looks
//!   into "SalesDead" (`report`) more often than that.
//! - *No payment is counted twice.* The relay may send twice and the queue may deliver twice; the books
//!   note the request's id in the transaction that changes the sums, and skip an id that they have. A client that
//!   repeats a payment says so by its `Idempotency-Key` and gets the first request's id.
//! - *A message is deleted after its effect is durable*, never before.
//! - *A database that fails is nobody's fault*: a worker holds its messages, receives no others, and tries again,
//!   each time later. They are not put aside for it.
//! - *What cannot be worked on does not stop the rest.* It comes back after its visibility timeout, each time
//!   later, and after a few times the queue puts it aside. When the reason is gone, it is redriven. What the
//!   queue itself refuses is put aside beside the outbox, and redriven likewise.
//!
//! It uses the official SDK with a few lines of configuration that differ from AWS, and timeouts, which are as
//! necessary there (`queues`).
//!
//! Deliberately not here: authentication, amounts in several currencies, and a second queue for the way back: for
//! the status the endpoint looks into the books, read-only, because both are on one machine here.

mod args;
mod crash;
mod database;
mod endpoint;
mod payment;
mod payments;
mod queues;
mod redrive;
mod relay;
mod report;
mod run;
mod sales;
#[cfg(test)]
mod stub;
mod worker;

pub use crash::arm as crash_at;
pub use run::main;
