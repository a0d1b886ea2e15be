//! Creating, finding, listing, changing, purging and deleting queues.

use serde_json::{Value, json};

use crate::both;
use crate::client::Server;
use crate::query;

#[tokio::test]
async fn creating_again_compares_what_is_given() {
    let server = Server::start().await;
    let create = |attributes: Value| {
        server.call("CreateQueue", json!({"QueueName": "q", "Attributes": attributes}))
    };
    let first = create(json!({"DelaySeconds": "1", "ReceiveMessageWaitTimeSeconds": "1"})).await;
    let url = json!({"QueueUrl": "http://sqs.test:9324/000000000000/q"});
    assert_eq!(first.json(), url);
    assert_eq!(create(json!({})).await.json(), url);
    assert_eq!(create(json!({"DelaySeconds": "1"})).await.json(), url);
    let differs = "A queue already exists with the same name and a different value for attribute \
                   DelaySeconds";
    let exists =
        |answer: crate::client::Answer| answer.sqs(400, "QueueNameExists", "QueueAlreadyExists");
    assert_eq!(exists(create(json!({"DelaySeconds": "2"})).await), differs);
    server.ok("SetQueueAttributes", json!({"Attributes": {"DelaySeconds": "2"}})).await;
    assert_eq!(create(json!({"DelaySeconds": "2"})).await.status, 200);
    assert_eq!(exists(create(json!({"DelaySeconds": "1"})).await), differs);
    let tagged = json!({"QueueName": "q", "tags": {"a": "b"}});
    exists(server.call("CreateQueue", tagged).await);
}

#[tokio::test]
async fn names() {
    let server = Server::start().await;
    let create = |name: &str| server.call("CreateQueue", json!({"QueueName": name}));
    let bad = "Can only include alphanumeric characters, hyphens, or underscores. \
               1 to 80 in length";
    for name in ["a b", "a.b", "é", &"x".repeat(81)] {
        assert_eq!(create(name).await.invalid(), bad);
    }
    let none = "Value for parameter QueueName is invalid. Reason: Must specify a queue name.";
    assert_eq!(create("").await.invalid(), none);
    assert_eq!(server.call("CreateQueue", json!({})).await.invalid(), none);
    assert_eq!(server.call("GetQueueUrl", json!({})).await.invalid(), none);
}

#[tokio::test]
async fn urls() {
    let server = Server::with_queue(json!({})).await;
    let url = server.call("GetQueueUrl", json!({"QueueName": "q"})).await.json();
    assert_eq!(url["QueueUrl"], "http://sqs.test:9324/000000000000/q");
    let own = json!({"QueueName": "q", "QueueOwnerAWSAccountId": "000000000000"});
    assert_eq!(server.call("GetQueueUrl", own).await.json(), url);
    let no_queue = |answer: crate::client::Answer| {
        let code = "AWS.SimpleQueueService.NonExistentQueue";
        let text = answer.sqs(400, "QueueDoesNotExist", code);
        assert_eq!(text, "The specified queue does not exist.");
    };
    no_queue(server.call("GetQueueUrl", json!({"QueueName": "nope"})).await);
    let foreign = json!({"QueueName": "q", "QueueOwnerAWSAccountId": "111111111111"});
    no_queue(server.call("GetQueueUrl", foreign).await);
    let send =
        |url: Value| server.call("SendMessage", json!({"QueueUrl": url, "MessageBody": "m"}));
    for url in ["q", "/000000000000/q", "https://other/000000000000/q/"] {
        assert_eq!(send(url.into()).await.status, 200, "{url}");
    }
    for url in ["", "nope", "http://h/111111111111/q", "http://whatever-incorrect-queue-address"] {
        no_queue(send(url.into()).await);
    }
    no_queue(send(Value::Null).await);
    no_queue(server.call("SendMessage", json!({})).await);
}

#[tokio::test]
async fn listing() {
    let server = Server::start().await;
    assert_eq!(server.call("ListQueues", json!({})).await.body, "{}");
    for name in ["a1", "a2", "a3", "b1"] {
        server.call("CreateQueue", json!({"QueueName": name})).await;
    }
    let list = |body: Value| server.call("ListQueues", body);
    let names = |page: &Value| {
        let urls = page["QueueUrls"].as_array().cloned().unwrap_or_default();
        let name = |url: &Value| url.as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        urls.iter().map(name).collect::<Vec<_>>()
    };
    let all = list(json!({})).await.json();
    assert_eq!((names(&all).len(), all.get("NextToken")), (4, None));
    let first = list(json!({"QueueNamePrefix": "a", "MaxResults": 2})).await.json();
    assert_eq!(names(&first), ["a1", "a2"]);
    let token = &first["NextToken"];
    let rest = json!({"QueueNamePrefix": "a", "MaxResults": 5, "NextToken": token});
    let rest = list(rest).await.json();
    assert_eq!((names(&rest), rest.get("NextToken")), (vec!["a3".to_owned()], None));
    let exact = list(json!({"QueueNamePrefix": "a", "MaxResults": 3})).await.json();
    assert_eq!(exact.get("NextToken"), None);
    let other = json!({"QueueNamePrefix": "b", "MaxResults": 2, "NextToken": token});
    assert!(list(other).await.invalid().starts_with("Invalid NextToken value."));
    let text = list(json!({"NextToken": "?"})).await.invalid();
    assert_eq!(text, "Invalid or expired next token.");
    for max in [0, -1, 1001] {
        assert_eq!(
            list(json!({"MaxResults": max})).await.invalid(),
            "Value for parameter MaxResults is invalid. Reason: MaxResults must be an integer \
             between 1 and 1000."
        );
    }
}

#[tokio::test]
async fn attributes() {
    let server = Server::with_queue(json!({})).await;
    let get =
        |names: Value| server.on_queue("GetQueueAttributes", json!({"AttributeNames": names}));
    let all = get(json!(["All"])).await.json();
    assert_eq!(
        all["Attributes"],
        json!({
            "ApproximateNumberOfMessages": "0",
            "ApproximateNumberOfMessagesNotVisible": "0",
            "ApproximateNumberOfMessagesDelayed": "0",
            "CreatedTimestamp": "1700000000",
            "LastModifiedTimestamp": "1700000000",
            "DelaySeconds": "0",
            "MaximumMessageSize": "1048576",
            "MessageRetentionPeriod": "345600",
            "QueueArn": "arn:aws:sqs:us-east-1:000000000000:q",
            "ReceiveMessageWaitTimeSeconds": "0",
            "SqsManagedSseEnabled": "true",
            "VisibilityTimeout": "30",
        })
    );
    assert_eq!(get(json!([])).await.body, "{}");
    assert_eq!(server.on_queue("GetQueueAttributes", json!({})).await.body, "{}");
    assert_eq!(get(json!(["Policy"])).await.body, "{}");
    let one = get(json!(["VisibilityTimeout", "RedrivePolicy"])).await.json();
    assert_eq!(one["Attributes"], json!({"VisibilityTimeout": "30"}));
    let answer = get(json!(["Nope"])).await;
    let text = answer.sqs(400, "InvalidAttributeName", "InvalidAttributeName");
    assert_eq!(text, "Unknown Attribute Nope.");

    let set = |attributes: Value| {
        server.on_queue("SetQueueAttributes", json!({"Attributes": attributes}))
    };
    assert_eq!(set(json!({"VisibilityTimeout": "7"})).await.body, "");
    let answer = set(json!({"VisibilityTimeout": "99999"})).await;
    let text = answer.sqs(400, "InvalidAttributeValue", "InvalidAttributeValue");
    assert_eq!(text, "Invalid value for the parameter VisibilityTimeout.");
    let answer = set(json!({"VisibilityTimeout": "8", "QueueArn": "x"})).await;
    answer.sqs(400, "InvalidAttributeName", "InvalidAttributeName");
    let one = get(json!(["VisibilityTimeout"])).await.json();
    assert_eq!(one["Attributes"], json!({"VisibilityTimeout": "7"}));
    let text = server.on_queue("SetQueueAttributes", json!({})).await.missing();
    assert_eq!(text, "The request must contain the parameter Attributes.");
}

#[tokio::test]
async fn encryption_attributes() {
    let server = Server::with_queue(json!({})).await;
    let names = ["SqsManagedSseEnabled", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds"];
    let get = || server.ok("GetQueueAttributes", json!({"AttributeNames": names}));
    let set = |key: &str, seconds: &str| {
        let attributes = json!({"KmsMasterKeyId": key, "KmsDataKeyReusePeriodSeconds": seconds});
        server.ok("SetQueueAttributes", json!({"Attributes": attributes}))
    };
    set("x", "6000").await;
    assert_eq!(
        get().await["Attributes"],
        json!({"SqsManagedSseEnabled": "false", "KmsMasterKeyId": "x",
            "KmsDataKeyReusePeriodSeconds": "6000"})
    );
    set("", "300").await;
    assert_eq!(get().await["Attributes"], json!({"SqsManagedSseEnabled": "false"}));
}

#[tokio::test]
async fn dead_letter_targets() {
    let server = Server::with_queue(json!({})).await;
    let set = |policy: String| {
        server.on_queue("SetQueueAttributes", json!({"Attributes": {"RedrivePolicy": policy}}))
    };
    let policy = |arn: &str| format!("{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":3}}");
    let dead = policy("arn:aws:sqs:us-east-1:000000000000:dead");
    assert_eq!(
        set(dead.clone()).await.invalid(),
        format!(
            "Value {dead} for parameter RedrivePolicy is invalid. Reason: Dead letter target does \
             not exist."
        )
    );
    let foreign = policy("arn:aws:sqs:us-east-1:111111111111:dead");
    assert!(set(foreign).await.invalid().ends_with("owner should be same as the source."));
    let forbids = json!({"RedriveAllowPolicy": "{\"redrivePermission\":\"denyAll\"}"});
    let create = json!({"QueueName": "dead", "Attributes": forbids});
    assert_eq!(server.call("CreateQueue", create).await.status, 200);
    set(dead.clone()).await.invalid();
    let allows = json!({"QueueUrl": "dead", "Attributes": {"RedriveAllowPolicy": ""}});
    assert_eq!(server.call("SetQueueAttributes", allows).await.status, 200);
    assert_eq!(set(dead.clone()).await.status, 200);
    let get = json!({"AttributeNames": ["RedrivePolicy"]});
    assert_eq!(
        server.ok("GetQueueAttributes", get.clone()).await["Attributes"]["RedrivePolicy"],
        dead
    );
    assert_eq!(set(String::new()).await.status, 200);
    assert_eq!(server.ok("GetQueueAttributes", get).await, json!({}));
    let own = policy("arn:aws:sqs:us-east-1:000000000000:q");
    assert_eq!(set(own).await.status, 200);
}

#[tokio::test]
async fn purging_and_deleting() {
    let server = Server::with_queue(json!({})).await;
    server.ok("SendMessage", json!({"MessageBody": "m"})).await;
    let answer = server.on_queue("PurgeQueue", json!({})).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    let code = "AWS.SimpleQueueService.PurgeQueueInProgress";
    assert_eq!(
        server.on_queue("PurgeQueue", json!({})).await.sqs(403, "PurgeQueueInProgress", code),
        "Only one PurgeQueue operation on q is allowed every 60 seconds."
    );
    let answer = server.on_queue("DeleteQueue", json!({})).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    let answer = server.on_queue("DeleteQueue", json!({})).await;
    answer.sqs(400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue");
    let answer = server.call("CreateQueue", json!({"QueueName": "q"})).await;
    let code = "AWS.SimpleQueueService.QueueDeletedRecently";
    assert_eq!(
        answer.sqs(400, "QueueDeletedRecently", code),
        "You must wait 60 seconds after deleting a queue before you can create another with the \
         same name."
    );
    server.fake.advance(60);
    assert_eq!(server.call("CreateQueue", json!({"QueueName": "q"})).await.status, 200);
}

#[tokio::test]
async fn a_configured_public_url_takes_the_place_of_the_host() {
    for configured in ["https://sqs.example.com", "https://sqs.example.com//"] {
        let server = Server::start_with(|config| config.public_url = Some(configured.into())).await;
        let url = |name: &str| format!("https://sqs.example.com/000000000000/{name}");
        for (action, body) in
            [("CreateQueue", json!({"QueueName": "q"})), ("GetQueueUrl", json!({"QueueName": "q"}))]
        {
            let [json, xml] = both::ok(&server, action, body).await;
            assert_eq!(json.json()["QueueUrl"], url("q"));
            assert_eq!(query::element(&xml, "QueueUrl"), url("q"));
        }
        let [json, xml] = both::ok(&server, "ListQueues", json!({"QueueUrl": url("q")})).await;
        assert_eq!(json.json()["QueueUrls"], json!([url("q")]));
        assert_eq!(query::element(&xml, "QueueUrl"), url("q"));
        // And such a URL names the queue, whatever host it was sent to.
        let send = json!({"QueueUrl": url("q"), "MessageBody": "m"});
        both::ok(&server, "SendMessage", send).await;
    }
}
