//! What customers speak to.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::crash::{self, Moment};
use crate::database::Database;
use crate::payment::Payment;
use crate::payments::{self, AcceptError, Progress};
use crate::sales::{self, Standing};

const KEY: &str = "idempotency-key";
/// Longer keys are somebody's mistake.
const KEY_BYTES_MAX: usize = 200;

/// What requests need.
#[derive(Clone)]
struct Service {
    payments: Database,
    /// The books; another department's, so they may not be there yet.
    sales_dir: Arc<PathBuf>,
    accepted: Arc<Notify>,
}

/// Serves until `stop` turns true; begun requests are answered.
pub(crate) async fn run(
    listener: TcpListener,
    payments: Database,
    sales_dir: PathBuf,
    accepted: Arc<Notify>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let service = Service { payments, sales_dir: Arc::new(sales_dir), accepted };
    let routes = Router::new()
        .route("/payments", post(pay))
        .route("/requests/{id}", get(status))
        .with_state(service);
    let stopped = async move {
        // An error is as good: whoever could stop it is gone.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, routes).with_graceful_shutdown(stopped).await
}

/// Answers as soon as the payment is on disk: the books can wait, and may even be closed.
async fn pay(
    State(service): State<Service>,
    headers: HeaderMap,
    Json(payment): Json<Payment>,
) -> Response {
    let key = headers.get(KEY).and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        // Without it a client that did not see the answer could only pay twice or not at all.
        return refuse(
            StatusCode::BAD_REQUEST,
            &format!("the header {KEY} is missing or too long"),
        );
    }
    if let Err(error) = payment.check() {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string());
    }
    let accept = move |connection: &mut _| match payments::accept(connection, &key, &payment) {
        Ok(accepted) => Ok(Ok(accepted)),
        Err(AcceptError::OtherPayment) => Ok(Err(AcceptError::OtherPayment)),
        Err(error) => Err(error),
    };
    match service.payments.with(accept).await {
        Ok(Ok(accepted)) => {
            // A customer who does not hear of it pays again, with the same key.
            crash::point(Moment::Accepted);
            service.accepted.notify_one();
            if accepted.before {
                tracing::info!("a payment came once more, and is on disk already");
            }
            (StatusCode::ACCEPTED, Json(json!({ "requestId": accepted.request_id })))
                .into_response()
        }
        Ok(Err(error)) => refuse(StatusCode::CONFLICT, &error.to_string()),
        Err(error) => fail(&error),
    }
}

/// `accepted`: paid, and the message is in the outbox. `queued`: it is in the queue. `retried`: it is,
/// and could not be booked yet. `booked`: it is in the books. `put-aside`: paid, but it could not be booked as
/// often as it was tried; `refused`: paid, and the queue does not take the message: somebody has to look at
/// these, and brings them back.
///
/// `queued` is also said of a message that the queue put aside because its workers were killed every time: none of
/// them lived to note it. `report` counts it as `put-aside`, and it is redriven like the others.
async fn status(State(service): State<Service>, Path(id): Path<String>) -> Response {
    match look(&service, id).await {
        Ok(Some((status, None))) => Json(json!({ "status": status })).into_response(),
        Ok(Some((status, Some(reason)))) => {
            Json(json!({ "status": status, "reason": reason })).into_response()
        }
        Ok(None) => refuse(StatusCode::NOT_FOUND, "there is no such request"),
        Err(error) => fail(&error),
    }
}

/// And why it is not done.
type Status = (&'static str, Option<String>);

async fn look(service: &Service, id: String) -> anyhow::Result<Option<Status>> {
    let asked = id.clone();
    let progress =
        service.payments.with(move |connection| payments::progress(connection, &asked)).await?;
    let Some(progress) = progress else { return Ok(None) };
    let dir = service.sales_dir.clone();
    let standing = tokio::task::spawn_blocking(move || sales::standing_in(&dir, &id)).await??;
    Ok(Some(match (standing, progress) {
        (Standing::Booked, _) => ("booked", None),
        // Redriven, it is in the outbox once more.
        (_, Progress::InOutbox) => ("accepted", None),
        (_, Progress::Refused) => ("refused", None),
        (Standing::Retried(reason), Progress::Sent) => ("retried", Some(reason)),
        (Standing::PutAside(reason), Progress::Sent) => ("put-aside", Some(reason)),
        (Standing::Unknown, Progress::Sent) => ("queued", None),
    }))
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

fn fail(error: &anyhow::Error) -> Response {
    tracing::error!("{error:#}");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "not done; try again with the same key")
}
