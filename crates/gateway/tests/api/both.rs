//! The same request in both protocols, which must come to the same.

use serde_json::Value;

use crate::client::{Answer, Server};
use crate::fuzz::seeds;
use crate::query;

/// A request on queue `q`, unless it names another one: first in JSON, then in Query.
pub(crate) async fn answers(server: &Server, action: &str, mut body: Value) -> [Answer; 2] {
    if body.get("QueueUrl").is_none() && body.get("QueueName").is_none() {
        body["QueueUrl"] = "q".into();
    }
    let mut form = form_urlencoded::Serializer::new(String::new());
    let form = form.extend_pairs(seeds::parameters(action, &body)).finish();
    [server.call(action, body).await, query::post(server, "/", &form).await]
}

/// That both succeed.
#[track_caller]
pub(crate) fn ok(server: &Server, action: &str, body: Value) -> impl Future<Output = [Answer; 2]> {
    let caller = std::panic::Location::caller();
    async move {
        let answers = answers(server, action, body).await;
        assert!(answers.iter().all(|answer| answer.status == 200), "{caller}: {answers:?}");
        answers
    }
}

/// That both are refused alike; status, Query code and text.
#[track_caller]
pub(crate) fn refused(
    server: &Server,
    action: &str,
    body: Value,
) -> impl Future<Output = (u16, String, String)> {
    let caller = std::panic::Location::caller();
    async move {
        let [json, xml] = answers(server, action, body).await;
        assert!(json.status >= 400 && json.status == xml.status, "{caller}: {json:?} {xml:?}");
        let code = query::element(&xml, "Code").to_owned();
        assert_eq!(json.headers["x-amzn-query-error"], format!("{code};Sender"), "{caller}");
        let text = json.json()["message"].as_str().expect("a text").to_owned();
        assert_eq!(unescaped(query::element(&xml, "Message")), text, "{caller}");
        (json.status, code, text)
    }
}

fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    text.replace("&quot;", "\"").replace("&#xD;", "\r").replace("&amp;", "&")
}
