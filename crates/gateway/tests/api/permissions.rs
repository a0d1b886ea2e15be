//! Permissions: statements of a queue's policy.

use serde_json::{Value, json};

use crate::client::{Answer, Server};

const ARN: &str = "arn:aws:sqs:us-east-1:000000000000:q";

fn request(label: &str, accounts: &[&str], actions: &[&str]) -> Value {
    json!({"Label": label, "AWSAccountIds": accounts, "Actions": actions})
}

async fn add(server: &Server, label: &str, accounts: &[&str], actions: &[&str]) -> Answer {
    server.on_queue("AddPermission", request(label, accounts, actions)).await
}

async fn remove(server: &Server, label: &str) -> Answer {
    server.on_queue("RemovePermission", json!({"Label": label})).await
}

/// The queue's policy as text.
async fn policy(server: &Server) -> Option<String> {
    let get = json!({"AttributeNames": ["Policy"]});
    let attributes = server.ok("GetQueueAttributes", get).await;
    attributes["Attributes"]["Policy"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn permissions_make_a_policy_and_take_it_away() {
    let server = Server::with_queue(json!({})).await;
    let answer = add(&server, "one", &["111111111111"], &["ReceiveMessage"]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    let one = format!(
        "{{\"Sid\":\"one\",\"Effect\":\"Allow\",\
         \"Principal\":{{\"AWS\":\"arn:aws:iam::111111111111:root\"}},\
         \"Action\":\"SQS:ReceiveMessage\",\"Resource\":\"{ARN}\"}}"
    );
    let whole = |statements: String| {
        let id = format!("{ARN}/SQSDefaultPolicy");
        format!("{{\"Version\":\"2008-10-17\",\"Id\":\"{id}\",\"Statement\":[{statements}]}}")
    };
    assert_eq!(policy(&server).await, Some(whole(one.clone())));
    let accounts = ["222222222222", "111111111111", "222222222222"];
    assert_eq!(add(&server, "two", &accounts, &["*", "SendMessage", "*"]).await.status, 200);
    let two = format!(
        "{{\"Sid\":\"two\",\"Effect\":\"Allow\",\
         \"Principal\":{{\"AWS\":[\"arn:aws:iam::222222222222:root\",\
         \"arn:aws:iam::111111111111:root\"]}},\
         \"Action\":[\"SQS:*\",\"SQS:SendMessage\"],\"Resource\":\"{ARN}\"}}"
    );
    assert_eq!(policy(&server).await, Some(whole(format!("{one},{two}"))));
    let answer = remove(&server, "one").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(policy(&server).await, Some(whole(two)));
    assert_eq!(remove(&server, "two").await.status, 200);
    assert_eq!(policy(&server).await, None);
}

#[tokio::test]
async fn labels() {
    let server = Server::with_queue(json!({})).await;
    let reason = |label: &str, reason: &str| {
        format!("Value {label} for parameter Label is invalid. Reason: {reason}")
    };
    let unknown = remove(&server, "l").await.invalid();
    assert_eq!(unknown, reason("l", "can't find label."));
    let accounts = ["111111111111"];
    assert_eq!(add(&server, "l", &accounts, &["SendMessage"]).await.status, 200);
    let again = add(&server, "l", &accounts, &["SendMessage"]).await.invalid();
    assert_eq!(again, reason("l", "Already exists."));
    let unknown = remove(&server, "L").await.invalid();
    assert_eq!(unknown, reason("L", "can't find label on existing policy."));
    let bad = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in \
               length";
    for label in ["a b", "é", &"x".repeat(81)] {
        let refused = add(&server, label, &accounts, &["SendMessage"]).await;
        assert_eq!(refused.invalid(), reason(label, bad));
        assert_eq!(remove(&server, label).await.invalid(), reason(label, bad));
    }
    let missing = "The request must contain the parameter Label.";
    assert_eq!(add(&server, "", &accounts, &["SendMessage"]).await.missing(), missing);
    assert_eq!(remove(&server, "").await.missing(), missing);
    assert_eq!(server.on_queue("RemovePermission", json!({})).await.missing(), missing);
}

#[tokio::test]
async fn whom_and_what() {
    let server = Server::with_queue(json!({})).await;
    let accounts = ["111111111111"];
    for grantable in [
        "*",
        "ChangeMessageVisibility",
        "DeleteMessage",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ListDeadLetterSourceQueues",
        "PurgeQueue",
        "ReceiveMessage",
        "SendMessage",
    ] {
        assert_eq!(add(&server, "l", &accounts, &[grantable]).await.status, 200);
        assert_eq!(remove(&server, "l").await.status, 200);
    }
    let owner = "Only the queue owner is allowed to invoke this action.";
    let unknown = "Please refer to the appropriate WSDL for a list of valid actions.";
    for (action, reason) in [
        ("DeleteQueue", owner),
        ("AddPermission", owner),
        ("TagQueue", owner),
        ("SendMessageBatch", unknown),
        ("Nope", unknown),
        ("SQS:SendMessage", unknown),
        ("", unknown),
    ] {
        assert_eq!(
            add(&server, "l", &accounts, &["SendMessage", action]).await.invalid(),
            format!("Value SQS:{action} for parameter ActionName is invalid. Reason: {reason}")
        );
    }
    let missing = |parameter: &str| format!("The request must contain the parameter {parameter}.");
    let refused = add(&server, "l", &accounts, &[]).await.missing();
    assert_eq!(refused, missing("ActionName"));
    let refused = add(&server, "l", &[], &["SendMessage"]).await.missing();
    assert_eq!(refused, missing("AWSAccountIds"));
    let refused = server.on_queue("AddPermission", json!({"Label": "l"})).await.missing();
    assert_eq!(refused, missing("ActionName"));
    for ids in [&["5"][..], &["111111111111", "root"], &["*"], &["arn:aws:iam::111111111111:root"]]
    {
        assert_eq!(
            add(&server, "l", ids, &["SendMessage"]).await.invalid(),
            format!(
                "Value [{}] for parameter PrincipalId is invalid. Reason: Unable to verify.",
                ids.join(", ")
            )
        );
    }
    assert_eq!(policy(&server).await, None);
    let body = json!({"QueueUrl": "nope", "Label": "a b"});
    for action in ["AddPermission", "RemovePermission"] {
        let code = "AWS.SimpleQueueService.NonExistentQueue";
        server.call(action, body.clone()).await.sqs(400, "QueueDoesNotExist", code);
    }
}

#[tokio::test]
async fn quotas() {
    let server = Server::with_queue(json!({})).await;
    let over = |answer: Answer| answer.sqs(403, "OverLimit", "OverLimit");
    let accounts = ["111111111111"];
    let eight = ["SendMessage"; 8];
    assert_eq!(
        over(add(&server, "l", &accounts, &eight).await),
        "8 Actions were found, maximum allowed is 7."
    );
    assert_eq!(add(&server, "l", &accounts, &eight[1..]).await.status, 200);
    remove(&server, "l").await;

    let ids: Vec<String> = (0..300).map(|n| format!("{n:012}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for count in [51, 300] {
        assert_eq!(
            over(add(&server, "l", &ids[..count], &["*"]).await),
            format!("{count} Principals were found, maximum allowed is 50.")
        );
    }
    assert_eq!(add(&server, "l", &ids[..50], &["*"]).await.status, 200);
    remove(&server, "l").await;

    for n in 1..=20 {
        assert_eq!(add(&server, &n.to_string(), &accounts, &["*"]).await.status, 200);
    }
    assert_eq!(
        over(add(&server, "21", &accounts, &["*"]).await),
        "21 Statements were found, maximum allowed is 20."
    );
}

#[tokio::test]
async fn a_policy_that_was_set_is_extended() {
    let server = Server::with_queue(json!({})).await;
    let own = format!(
        "{{ \"Sid\": \"own\", \"Effect\": \"Deny\", \"Principal\": \"*\", \
         \"Action\": \"sqs:*\", \"Resource\": \"{ARN}\" }}"
    );
    let set = format!("{{\"Version\":\"2012-10-17\",\"Statement\":{own}}}");
    server.ok("SetQueueAttributes", json!({"Attributes": {"Policy": set}})).await;
    assert_eq!(add(&server, "l", &["111111111111"], &["SendMessage"]).await.status, 200);
    let extended = policy(&server).await.unwrap();
    let start = format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{own},{{\"Sid\":\"l\"");
    assert!(extended.starts_with(&start), "{extended}");
    assert_eq!(remove(&server, "own").await.status, 200);
    let rest: Value = serde_json::from_str(&policy(&server).await.unwrap()).unwrap();
    assert_eq!(rest["Statement"][0]["Sid"], "l");
    assert_eq!(rest["Statement"].as_array().unwrap().len(), 1);
}
