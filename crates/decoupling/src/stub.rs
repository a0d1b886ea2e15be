//! An SQS endpoint that answers as a test wants.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::queues::{Patience, Queues};

/// Where answers that say no name the error.
const ERROR: &str = "__type";

type Answer = Box<dyn FnMut(&str, &Value) -> Value + Send>;

/// Queues at an endpoint that gives `answer` to each action and its input.
pub(crate) async fn queues(answer: impl FnMut(&str, &Value) -> Value + Send + 'static) -> Queues {
    Queues::new(&[endpoint(answer).await], Patience::default())
}

/// The endpoint.
pub(crate) async fn endpoint(answer: impl FnMut(&str, &Value) -> Value + Send + 'static) -> String {
    let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/", post(serve)).with_state(answer);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

/// An answer that says no.
pub(crate) fn refusal(error: &str) -> Value {
    json!({ ERROR: format!("com.amazonaws.sqs#{error}") })
}

async fn serve(
    State(answer): State<Arc<Mutex<Answer>>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, Json<Value>) {
    let target = headers["x-amz-target"].to_str().unwrap();
    let action = target.strip_prefix("AmazonSQS.").unwrap();
    let asked = serde_json::from_str(&body).unwrap();
    let answer = (*answer.lock())(action, &asked);
    let is_refusal = answer.get(ERROR).is_some();
    let status = if is_refusal { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    (status, Json(answer))
}
