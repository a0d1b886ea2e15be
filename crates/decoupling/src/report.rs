//! What was paid, what was booked, and what lies where.

use std::path::Path;

use anyhow::Context as _;
use aws_sdk_sqs::types::QueueAttributeName;

use crate::payments;
use crate::queues::{DEAD, Queues, SALES};
use crate::sales;

/// `name value` in each line.
pub(crate) async fn run(dir: &Path, queues: &Queues) -> anyhow::Result<String> {
    let paid = payments::open(dir)?.with(|connection| payments::totals(connection)).await?;
    let sold = sales::open(dir)?.with(|connection| sales::totals(connection)).await?;
    let mut text = String::new();
    for (name, value) in [
        ("payments", paid.payments),
        ("payments-cents", paid.cents),
        ("customers-cents", paid.customers_cents),
        ("outbox", paid.outbox),
        ("refused", paid.refused),
        ("booked", sold.booked),
        ("sales", sold.sales),
        ("sales-cents", sold.cents),
        ("queued", count(queues, SALES).await?),
        ("put-aside", count(queues, DEAD).await?),
    ] {
        text.push_str(&format!("{name} {value}\n"));
    }
    Ok(text)
}

async fn count(queues: &Queues, name: &str) -> anyhow::Result<i64> {
    let mut sum = 0;
    for attribute in [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
    ] {
        let text = queues.attribute(name, attribute).await?;
        sum += text.parse::<i64>().context("a count that is no number")?;
    }
    Ok(sum)
}
