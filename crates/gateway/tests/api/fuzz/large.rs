//! Bodies as large as they may be, of shapes that would take a careless reader for ever.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::answer::{self, Verdict};
use super::corpus::{Request, World};
use super::{exchange, open_world, runtime, shown};

const BYTES: usize = 8 * 1024 * 1024 - 1_024;

fn filled(start: &str, part: &str, end: &str) -> String {
    format!("{start}{}{end}", part.repeat((BYTES - start.len() - end.len()) / part.len()))
}

fn json_bodies() -> Vec<(&'static str, String)> {
    let attribute =
        |name: &str, value: &str| json!({"QueueUrl": "q", "Attributes": {name: value}}).to_string();
    let half = "[".repeat(BYTES / 2);
    let names: String = (0..500_000).map(|n| format!("\"n{n}\":{{}},")).collect();
    vec![
        ("SendMessage", filled("", "[", "")),
        ("SendMessage", filled("", "{\"a\":", "")),
        ("SendMessage", filled("{\"QueueUrl\":\"q\",\"x\":", "[", "")),
        ("SendMessage", filled("{\"QueueUrl\":\"q\",\"MessageBody\":\"", "\\u0061", "\"}")),
        ("SendMessage", filled("{\"QueueUrl\":\"q\",\"MessageBody\":\"", "\\ud83d\\ude00", "\"}")),
        ("SendMessage", filled("{", "\"x\":0,", "\"QueueUrl\":\"q\"}")),
        ("SendMessage", filled("{", " ", "\"QueueUrl\":\"q\"}")),
        ("SendMessage", filled("{\"QueueUrl\":\"q\",\"DelaySeconds\":", "9", "}")),
        (
            "SendMessage",
            format!("{{\"QueueUrl\":\"q\",\"MessageAttributes\":{{{names}\"n\":{{}}}}}}"),
        ),
        (
            "SendMessage",
            filled(
                "{\"QueueUrl\":\"q\",\"MessageBody\":\"m\",\"MessageAttributes\":{\"n\":{\"DataType\":\"Number\",\"StringValue\":\"",
                "0",
                "\"}}}",
            ),
        ),
        (
            "SendMessage",
            filled(
                "{\"QueueUrl\":\"q\",\"MessageBody\":\"m\",\"MessageSystemAttributes\":{\"",
                "n",
                "\":{}}}",
            ),
        ),
        ("SendMessageBatch", filled("{\"QueueUrl\":\"q\",\"Entries\":[", "{},", "{}]}")),
        ("ReceiveMessage", filled("{\"QueueUrl\":\"q\",\"AttributeNames\":[", "\"\",", "\"\"]}")),
        ("DeleteMessage", filled("{\"QueueUrl\":\"q\",\"ReceiptHandle\":\"", "\\\"", "\"}")),
        ("SetQueueAttributes", attribute("RedrivePolicy", &half)),
        ("SetQueueAttributes", attribute("RedrivePolicy", &half.replace('[', "9"))),
        (
            "SetQueueAttributes",
            attribute("RedrivePolicy", &json!({"maxReceiveCount": half}).to_string()),
        ),
        (
            "SetQueueAttributes",
            attribute(
                "RedrivePolicy",
                &json!({"deadLetterTargetArn": half, "maxReceiveCount": 1}).to_string(),
            ),
        ),
        ("SetQueueAttributes", attribute("RedriveAllowPolicy", &half)),
        ("SetQueueAttributes", attribute("Policy", &half)),
        ("SetQueueAttributes", attribute("KmsMasterKeyId", &half)),
        ("SetQueueAttributes", attribute(&half, "")),
        ("CreateQueue", filled("{\"QueueName\":\"", "q", "\"}")),
        ("TagQueue", json!({"QueueUrl": "q", "Tags": {"k": half}}).to_string()),
        ("ListQueues", filled("{\"MaxResults\":1,\"NextToken\":\"", "AAAA", "\"}")),
        ("ListQueues", filled("{\"QueueNamePrefix\":\"", "x", "\"}")),
        ("CancelMessageMoveTask", json!({"TaskHandle": STANDARD.encode(&half)}).to_string()),
        ("StartMessageMoveTask", filled("{\"SourceArn\":\"", "arn:", "\"}")),
        ("AddPermission", filled("{\"QueueUrl\":\"q\",\"Label\":\"", "\\u0000", "\"}")),
    ]
}

fn forms() -> Vec<String> {
    let send = "Action=SendMessage&QueueUrl=q&";
    vec![
        filled(send, "&", ""),
        filled(send, "=", ""),
        filled(send, "=&", ""),
        filled(send, "%", ""),
        filled(send, "%00", ""),
        filled(send, "a.", "=b"),
        filled(send, "%2e", "=b"),
        filled(send, "a%2", "=b"),
        filled(&format!("{send}MessageBody="), "+", ""),
        filled(&format!("{send}MessageBody="), "%61", "%ff"),
        filled(&format!("{send}MessageSystemAttribute.1.Name="), "%01", ""),
        filled("Action=", "%22", ""),
        filled("Action=DeleteMessage&QueueUrl=q&ReceiptHandle=", "%22", ""),
    ]
}

async fn ask(world: &World, name: &str, request: Request) -> Result<(), String> {
    let report = |why: String| format!("{name}: {why}\n{}", shown(&request.body));
    let exchanged = exchange(world, None, world.wire(&request)).await;
    let (_, answer) = exchanged.map_err(report)?;
    let verdict = answer::check(&request, &answer).map_err(report)?;
    if verdict == Verdict::NotHttp { Err(report("no HTTP".to_owned())) } else { Ok(()) }
}

async fn ask_all() -> Vec<String> {
    let world = open_world().await;
    let mut failures = Vec::new();
    for (action, body) in json_bodies() {
        failures.extend(ask(&world, action, Request::json(action, body.into())).await.err());
    }
    for form in forms() {
        failures.extend(ask(&world, "form", Request::form(form.into())).await.err());
    }
    failures
}

#[test]
fn the_largest_bodies_are_answered() {
    let runtime = runtime();
    let failures = runtime.block_on(ask_all());
    runtime.shutdown_background();
    let start = |failure: &String| failure.chars().take(400).collect::<String>();
    assert!(failures.is_empty(), "{:#?}", failures.iter().map(start).collect::<Vec<_>>());
}
