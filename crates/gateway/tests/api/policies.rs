//! The three attributes that are JSON, as an owner sets them, in both protocols.

use serde_json::{Value, json};

use crate::both;
use crate::client::Server;

fn arn(queue: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{queue}")
}

fn attribute(name: &str, value: &str) -> Value {
    json!({"Attributes": {name: value}})
}

async fn refused(server: &Server, name: &str, value: &str) -> (String, String) {
    let (status, code, text) =
        both::refused(server, "SetQueueAttributes", attribute(name, value)).await;
    assert_eq!(status, if code == "OverLimit" { 403 } else { 400 });
    (code, text)
}

async fn value_of(server: &Server, name: &str) -> Option<String> {
    let answer = server.ok("GetQueueAttributes", json!({"AttributeNames": [name]})).await;
    answer["Attributes"][name].as_str().map(str::to_owned)
}

fn statement() -> Value {
    json!({"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage", "Resource": arn("q"),
        "Condition": {"ArnEquals": {"aws:SourceArn": "arn:aws:sns:us-east-1:000000000000:t"}}})
}

fn policy(statements: &Value) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

#[tokio::test]
async fn a_policy_of_this_queue_is_kept_as_it_was_given() {
    let server = Server::with_queue(json!({})).await;
    let own = policy(&json!([statement()])).replace(',', " ,\n");
    both::ok(&server, "SetQueueAttributes", attribute("Policy", &own)).await;
    assert_eq!(value_of(&server, "Policy").await, Some(own.clone()));
    both::ok(&server, "SetQueueAttributes", attribute("Policy", "")).await;
    assert_eq!(value_of(&server, "Policy").await, None);
    let create = json!({"QueueName": "q", "Attributes": {"Policy": own}});
    let (_, code, _) = both::refused(&server, "CreateQueue", create).await;
    assert_eq!(code, "QueueAlreadyExists");
    // One document for several queues is not refused by any of them.
    let foreign = own.replace(&arn("q"), &arn("other"));
    let create = |name| json!({"QueueName": name, "Attributes": {"Policy": foreign}});
    both::ok(&server, "CreateQueue", create("q2")).await;
    both::ok(&server, "CreateQueue", create("other")).await;
}

#[tokio::test]
async fn what_is_no_policy_is_refused() {
    let server = Server::with_queue(json!({})).await;
    let with = |name: &str, value: Value| {
        let mut statement = statement();
        statement[name] = value;
        policy(&json!([statement]))
    };
    let mut twice = json!([statement(), statement()]);
    twice[0]["Sid"] = "a".into();
    twice[1]["Sid"] = "a".into();
    for bad in [
        "x".to_owned(),
        "[]".to_owned(),
        policy(&json!([])),
        policy(&json!([{}])),
        policy(&twice),
        policy(&json!([statement()])).replace("2012-10-17", "2012-10-18"),
        with("Effect", "Permit".into()),
        with("Principal", Value::Null),
        with("Principal", json!({"AWS": "somebody"})),
        with("Action", "sqs:Send".into()),
        with("Action", "sqs:SendMessageBatch".into()),
        with("Resource", json!([])),
        with("Condition", json!({"Equals": {"aws:SourceArn": "x"}})),
        with("Comment", "x".into()),
    ] {
        assert_eq!(
            refused(&server, "Policy", &bad).await,
            (
                "InvalidAttributeValue".to_owned(),
                "Invalid value for the parameter Policy.".to_owned()
            ),
            "{bad}"
        );
    }
    assert_eq!(value_of(&server, "Policy").await, None);
}

#[tokio::test]
async fn quotas_of_a_policy() {
    let server = Server::with_queue(json!({})).await;
    let with = |name: &str, value: Value| {
        let mut statement = statement();
        statement[name] = value;
        policy(&json!([statement]))
    };
    let accounts: Vec<_> = (0..51).map(|n| format!("{n:012}")).collect();
    let conditions: serde_json::Map<_, _> =
        (0..11).map(|n| (format!("aws:RequestTag/{n}"), json!("x"))).collect();
    let padded = with("Sid", "x".repeat(8_192).into());
    let bytes = format!("{} bytes", padded.len());
    for (over, text) in [
        (policy(&vec![statement(); 21].into()), "21 statements"),
        (with("Principal", json!({"AWS": accounts})), "51 principals"),
        (with("Action", vec!["sqs:*"; 8].into()), "8 actions"),
        (with("Condition", json!({"StringEquals": conditions})), "11 conditions"),
        (padded, bytes.as_str()),
    ] {
        let (code, message) = refused(&server, "Policy", &over).await;
        assert_eq!(code, "OverLimit");
        let start = format!("{text} were found in the submitted policy, max allowed is ");
        assert!(message.starts_with(&start), "{message}");
    }
}

#[tokio::test]
async fn redrive_policies_that_are_refused() {
    let server = Server::with_queue(json!({})).await;
    let forbids = json!({"RedriveAllowPolicy": "{\"redrivePermission\":\"denyAll\"}"});
    both::ok(&server, "CreateQueue", json!({"QueueName": "shut", "Attributes": forbids})).await;
    let fifo = json!({"QueueName": "q.fifo", "Attributes": {"FifoQueue": "true"}});
    both::ok(&server, "CreateQueue", fifo).await;
    let not_a_map = "Invalid value for the parameter RedrivePolicy. \
                     Reason: Redrive policy is not a valid JSON map.";
    for bad in ["x", "[]", "\"a\"", "5"] {
        let expected = ("InvalidAttributeValue".to_owned(), not_a_map.to_owned());
        assert_eq!(refused(&server, "RedrivePolicy", bad).await, expected, "{bad}");
    }
    let target = |arn: &str| format!("{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":3}}");
    let count = |count: &str| target(&arn("q")).replace('3', count);
    let bad_count = |count: &str| {
        format!(
            "Invalid value for maxReceiveCount: {count}, \
             valid values are from 1 to 1000 both inclusive."
        )
    };
    let missing = "Redrive policy does not contain mandatory attribute:";
    let not_arn = "Invalid value for deadLetterTargetArn.";
    let no_queue = "Dead letter target does not exist.";
    for (bad, reason) in [
        ("{}".to_owned(), format!("{missing} maxReceiveCount.")),
        ("{\"maxReceiveCount\":3}".to_owned(), format!("{missing} deadLetterTargetArn.")),
        (
            target(&arn("q")).replace('}', ",\"x\":1}"),
            "Only following attributes are supported: [maxReceiveCount, deadLetterTargetArn]."
                .to_owned(),
        ),
        (count("0"), bad_count("0")),
        (count("1001"), bad_count("1001")),
        (count("\"many\""), bad_count("many")),
        (count("1.5"), bad_count("1.5")),
        (target("q"), not_arn.to_owned()),
        (target("arn:aws:sqs:us-east-1:000000000000"), not_arn.to_owned()),
        (target(&arn("none")), no_queue.to_owned()),
        (target(&arn("q").replace("us-east-1", "eu-west-1")), no_queue.to_owned()),
        (
            target(&arn("q").replace("000000000000", "111111111111")),
            "Dead-letter target owner should be same as the source.".to_owned(),
        ),
        (
            target(&arn("q.fifo")),
            "Dead-letter queue must be same type of queue as the source.".to_owned(),
        ),
        (
            target(&arn("shut")),
            "Dead-letter target does not allow this queue as a source.".to_owned(),
        ),
    ] {
        let text = format!("Value {bad} for parameter RedrivePolicy is invalid. Reason: {reason}");
        let expected = ("InvalidParameterValue".to_owned(), text);
        assert_eq!(refused(&server, "RedrivePolicy", &bad).await, expected);
    }
    assert_eq!(value_of(&server, "RedrivePolicy").await, None);
    both::ok(&server, "SetQueueAttributes", attribute("RedrivePolicy", &count("\"3\""))).await;
    assert_eq!(value_of(&server, "RedrivePolicy").await, Some(target(&arn("q"))));
}

/// Found by reading: whoever creates its queues at each start could not, once the dead-letter queue was gone.
#[tokio::test]
async fn a_queue_is_created_again_as_it_is_whatever_became_of_its_dead_letter_queue() {
    let server = Server::with_queue(json!({})).await;
    let target = |count: u32| {
        format!("{{\"deadLetterTargetArn\":\"{}\",\"maxReceiveCount\":{count}}}", arn("q"))
    };
    let create = |name: &str, count| json!({"QueueName": name, "Attributes": {"RedrivePolicy": target(count)}});
    both::ok(&server, "CreateQueue", create("source", 3)).await;
    server.ok("DeleteQueue", json!({})).await;
    both::ok(&server, "CreateQueue", create("source", 3)).await;
    for (name, count) in [("source", 4), ("another", 3)] {
        let (_, _, text) = both::refused(&server, "CreateQueue", create(name, count)).await;
        assert!(text.ends_with("Dead letter target does not exist."), "{text}");
    }
    let attributes = attribute("RedrivePolicy", &target(3));
    let set = json!({"QueueUrl": "source", "Attributes": attributes["Attributes"]});
    let (_, code, _) = both::refused(&server, "SetQueueAttributes", set).await;
    assert_eq!(code, "InvalidParameterValue");
}

/// RedriveAllowPolicy is asked when a source is to be had.
#[tokio::test]
async fn only_queues_that_are_named_may_have_it_as_their_dead_letter_queue() {
    let server = Server::with_queue(json!({})).await;
    let named = json!({"redrivePermission": "byQueue", "sourceQueueArns": [arn("named")]});
    both::ok(&server, "SetQueueAttributes", attribute("RedriveAllowPolicy", &named.to_string()))
        .await;
    let policy = json!({"deadLetterTargetArn": arn("q"), "maxReceiveCount": 3}).to_string();
    let create = |name: &str| json!({"QueueName": name, "Attributes": {"RedrivePolicy": policy}});
    both::ok(&server, "CreateQueue", create("named")).await;
    let (_, _, text) = both::refused(&server, "CreateQueue", create("other")).await;
    assert!(text.ends_with("Dead-letter target does not allow this queue as a source."), "{text}");
}

#[tokio::test]
async fn redrive_allow_policies_that_are_refused() {
    let server = Server::with_queue(json!({})).await;
    let policy = |permission: &str, sources: usize| {
        let sources: Vec<_> = (0..sources).map(|n| arn(&format!("s{n}"))).collect();
        json!({"redrivePermission": permission, "sourceQueueArns": sources}).to_string()
    };
    let unsupported = "Amazon SQS can't create the redrive allow policy, as it\u{2019}s in an \
                       unsupported format.";
    let needless =
        "To specify one or more source queue ARNs, you must set redrivePermission to byQueue.";
    for (bad, reason) in [
        ("x".to_owned(), unsupported),
        ("[\"allowAll\"]".to_owned(), unsupported),
        ("{}".to_owned(), unsupported),
        ("{\"redrivePermission\":{\"allowAll\":null}}".to_owned(), unsupported),
        (policy("some", 1), unsupported),
        (policy("byQueue", 1).replace(&arn("s0"), "foo"), unsupported),
        (
            policy("byQueue", 0),
            "When you specify the byQueue permission type, you must also specify one or more \
             sourceQueueArns values.",
        ),
        (policy("allowAll", 1), needless),
        (policy("denyAll", 1), needless),
        (policy("byQueue", 11), "The maximum number of source queue ARNs you can specify is 10."),
    ] {
        let text = format!("Invalid value for the parameter RedriveAllowPolicy. Reason: {reason}");
        let expected = ("InvalidParameterValue".to_owned(), text);
        assert_eq!(refused(&server, "RedriveAllowPolicy", &bad).await, expected, "{bad}");
    }
    assert_eq!(value_of(&server, "RedriveAllowPolicy").await, None);
    let ten = policy("byQueue", 10);
    both::ok(&server, "SetQueueAttributes", attribute("RedriveAllowPolicy", &ten)).await;
    assert_eq!(value_of(&server, "RedriveAllowPolicy").await, Some(ten));
}

#[tokio::test]
async fn setting_nothing_changes_nothing_in_json_and_needs_something_in_query() {
    let server = Server::with_queue(json!({"VisibilityTimeout": "7"})).await;
    // A map without entries cannot be told from no map in a form.
    let [json, query] =
        both::answers(&server, "SetQueueAttributes", json!({"Attributes": {}})).await;
    assert_eq!((json.status, json.body.as_str()), (200, ""));
    assert_eq!(query.status, 400, "{query:?}");
    assert_eq!(crate::query::element(&query, "Code"), "MissingParameter");
    let text = "The request must contain the parameter Attributes.";
    let (_, code, missing) = both::refused(&server, "SetQueueAttributes", json!({})).await;
    assert_eq!((code.as_str(), missing.as_str()), ("MissingParameter", text));
    assert_eq!(value_of(&server, "VisibilityTimeout").await.as_deref(), Some("7"));
}
