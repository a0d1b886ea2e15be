//! The Query protocol: forms and query strings in, XML out, on the same actions.

use serde_json::json;

use crate::client::{Answer, Server};

const QUEUE: &str = "/000000000000/q";

async fn get(server: &Server, target: &str) -> Answer {
    server.raw(format!("GET {target} HTTP/1.1\r\nHost: sqs.test:9324\r\n\r\n").as_bytes()).await
}

pub(crate) async fn post(server: &Server, path: &str, form: &str) -> Answer {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: sqs.test:9324\r\n\
         Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    );
    server.raw(request.as_bytes()).await
}

/// What is between the tags of the first element of this name.
#[track_caller]
pub(crate) fn element<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inside = answer.body.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    inside.unwrap_or_else(|| panic!("no {name} in {answer:?}")).0
}

#[track_caller]
pub(crate) fn ok(answer: &Answer, action: &str) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "text/xml");
    let root = format!(
        "<?xml version=\"1.0\"?>\n\
         <{action}Response xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\">"
    );
    assert!(answer.body.starts_with(&root), "{answer:?}");
    assert_eq!(element(answer, "RequestId"), answer.headers["x-amzn-requestid"]);
}

#[track_caller]
pub(crate) fn refused<'a>(answer: &'a Answer, status: u16, code: &str) -> &'a str {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "text/xml");
    assert_eq!(element(answer, "RequestId"), answer.headers["x-amzn-requestid"]);
    assert_eq!((element(answer, "Type"), element(answer, "Code")), ("Sender", code));
    assert!(answer.body.contains("<Detail/></Error>"));
    element(answer, "Message")
}

#[tokio::test]
async fn the_life_of_a_message() {
    let server = Server::start().await;
    let create = "Action=CreateQueue&Version=2012-11-05&QueueName=q&\
                  Attribute.1.Name=VisibilityTimeout&Attribute.1.Value=40&Tag.1.Key=k&Tag.1.Value=v";
    let created = post(&server, "/", create).await;
    ok(&created, "CreateQueue");
    assert_eq!(element(&created, "QueueUrl"), "http://sqs.test:9324/000000000000/q");

    let sent = post(
        &server,
        QUEUE,
        "Action=SendMessage&MessageBody=a+%26%20%3Cb%3E%0D%22&MessageAttribute.1.Name=color&\
         MessageAttribute.1.Value.DataType=String&MessageAttribute.1.Value.StringValue=blue",
    )
    .await;
    ok(&sent, "SendMessage");
    assert_eq!(element(&sent, "MD5OfMessageAttributes"), "da1b33cc3cbfe8b1630921e78e6b9880");

    let received = get(
        &server,
        "/000000000000/q?Action=ReceiveMessage&AttributeName.1=ApproximateReceiveCount&\
         MessageAttributeName.1=All&MaxNumberOfMessages=10&WaitTimeSeconds=1",
    )
    .await;
    ok(&received, "ReceiveMessage");
    assert_eq!(element(&received, "Body"), "a &amp; &lt;b&gt;&#xD;&quot;");
    assert!(
        received.body.contains(
            "<Attribute><Name>ApproximateReceiveCount</Name><Value>1</Value></Attribute>"
        )
    );
    assert!(received.body.contains(
        "<MessageAttribute><Name>color</Name><Value><DataType>String</DataType>\
         <StringValue>blue</StringValue></Value></MessageAttribute>"
    ));
    let empty = get(&server, "/000000000000/q?Action=ReceiveMessage").await;
    ok(&empty, "ReceiveMessage");
    assert!(empty.body.contains("<ReceiveMessageResult/>"));

    let handle = element(&received, "ReceiptHandle");
    let delete = format!("Action=DeleteMessage&ReceiptHandle={handle}");
    let deleted = post(&server, QUEUE, &delete).await;
    ok(&deleted, "DeleteMessage");
    assert!(!deleted.body.contains("Result"));

    let attributes = format!("{QUEUE}?Action=GetQueueAttributes&AttributeName.1=All");
    let attributes = get(&server, &attributes).await;
    ok(&attributes, "GetQueueAttributes");
    let timeout = "<Attribute><Name>VisibilityTimeout</Name><Value>40</Value></Attribute>";
    assert!(attributes.body.contains(timeout));
    ok(&get(&server, &format!("{QUEUE}?Action=DeleteQueue")).await, "DeleteQueue");
}

/// Without a word about JSON, an action in the query string is enough.
#[tokio::test]
async fn an_action_in_the_query_string_of_a_post_is_query() {
    let server = Server::with_queue(json!({})).await;
    let target = format!("{QUEUE}?Action=SendMessage&MessageBody=m");
    let ask = async |target: &str, headers: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: sqs.test:9324\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        server.raw(request.as_bytes()).await
    };
    for (headers, body) in [
        ("", ""),
        ("", "DelaySeconds=0"),
        ("Content-Type: Application/X-WWW-Form-URLencoded\r\n", "DelaySeconds=0"),
        // Not a form, and so no parameters.
        ("Content-Type: text/plain\r\n", "DelaySeconds=soon"),
        ("Content-Type: application/json\r\n", "{\"DelaySeconds\": true}"),
    ] {
        ok(&ask(&target, headers, body).await, "SendMessage");
    }
    let wrong = ask(&target, "", "DelaySeconds=soon").await;
    refused(&wrong, 400, "MalformedInput");
    // Whoever says JSON gets it, in any case of letters.
    for headers in [
        "Content-Type: application/x-amz-json-1.0\r\n",
        "Content-Type: APPLICATION/x-amz-json-1.1\r\n",
        "X-Amz-Target: AmazonSQS.ListQueues\r\n",
        "Content-Type: text/plain\r\nX-Amz-Target: AmazonSQS.ListQueues\r\n",
    ] {
        let answer = ask(&target, headers, "{}").await;
        assert_eq!(answer.headers["content-type"], "application/x-amz-json-1.0", "{headers}");
    }
    // Without an action there, it is JSON as before, and names no operation.
    let unnamed = ask(QUEUE, "", "Action=ListQueues").await;
    assert_eq!(unnamed.headers["x-amzn-query-error"], "InvalidAction;Sender");
    assert_eq!(unnamed.headers["content-type"], "application/x-amz-json-1.0");
}

#[tokio::test]
async fn batches() {
    let server = Server::with_queue(json!({})).await;
    let sent = post(
        &server,
        QUEUE,
        "Action=SendMessageBatch&SendMessageBatchRequestEntry.1.Id=a&\
         SendMessageBatchRequestEntry.1.MessageBody=one&\
         SendMessageBatchRequestEntry.1.MessageAttribute.1.Name=blob&\
         SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType=Binary&\
         SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.BinaryValue=AQID&\
         SendMessageBatchRequestEntry.2.Id=b&SendMessageBatchRequestEntry.2.MessageBody=",
    )
    .await;
    ok(&sent, "SendMessageBatch");
    let done = element(&sent, "SendMessageBatchResultEntry");
    assert!(done.contains("<Id>a</Id>"), "{done}");
    let failed = element(&sent, "BatchResultErrorEntry");
    assert!(failed.contains("<Code>MissingParameter</Code><Id>b</Id>"), "{failed}");
    assert!(failed.contains("<SenderFault>true</SenderFault>"), "{failed}");

    let none = post(&server, QUEUE, "Action=DeleteMessageBatch").await;
    refused(&none, 400, "AWS.SimpleQueueService.EmptyBatchRequest");
}

#[tokio::test]
async fn the_path_is_the_queue_unless_a_parameter_names_one() {
    let server = Server::with_queue(json!({})).await;
    let other = "/?Action=CreateQueue&QueueName=other";
    ok(&get(&server, other).await, "CreateQueue");
    let send = "Action=SendMessage&MessageBody=m&QueueUrl=http%3A%2F%2Fh%2F000000000000%2Fother";
    ok(&get(&server, &format!("{QUEUE}?{send}")).await, "SendMessage");
    assert!(server.bodies(json!({"WaitTimeSeconds": 0})).await.is_empty());
    let receive = "/000000000000/other/?Action=ReceiveMessage&WaitTimeSeconds=1";
    assert_eq!(element(&get(&server, receive).await, "Body"), "m");
    // Which queue is meant by this one is in a parameter of its own.
    let url = get(&server, &format!("{QUEUE}?Action=GetQueueUrl&QueueName=other")).await;
    assert!(element(&url, "QueueUrl").ends_with("/other"));
}

#[tokio::test]
async fn what_is_refused() {
    let server = Server::with_queue(json!({})).await;
    let missing = get(&server, "/000000000000/none?Action=ReceiveMessage").await;
    let text = refused(&missing, 400, "AWS.SimpleQueueService.NonExistentQueue");
    assert_eq!(text, "The specified queue does not exist for this wsdl version.");
    for action in ["CreateQueue", "ListQueues", "Nope", "sendmessage"] {
        let answer = get(&server, &format!("{QUEUE}?Action={action}&QueueName=x")).await;
        let text = refused(&answer, 400, "InvalidAction");
        assert_eq!(text, format!("The action {action} is not valid for this endpoint."));
    }
    let wrong = post(&server, QUEUE, "Action=SendMessage&MessageBody=m&DelaySeconds=soon").await;
    refused(&wrong, 400, "MalformedInput");
    let broken = post(&server, QUEUE, "Action=SendMessage&MessageBody=%ff").await;
    refused(&broken, 400, "MalformedInput");
    let handle = get(&server, &format!("{QUEUE}?Action=DeleteMessage&ReceiptHandle=%3Cx%3E")).await;
    let text = refused(&handle, 404, "ReceiptHandleIsInvalid");
    assert!(text.contains("&lt;x&gt;"), "{text}");
    for target in [QUEUE, "/", "/?Version=2012-11-05"] {
        let answer = get(&server, target).await;
        assert_eq!((answer.status, answer.body.trim()), (404, "<UnknownOperationException/>"));
    }
}

#[tokio::test]
async fn json_may_be_posted_to_the_queue_itself() {
    let server = Server::with_queue(json!({})).await;
    let body = "{\"QueueUrl\":\"q\",\"MessageBody\":\"m\"}";
    let request = format!(
        "POST {QUEUE} HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-amz-json-1.0\r\n\
         X-Amz-Target: AmazonSQS.SendMessage\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = server.raw(request.as_bytes()).await;
    assert_eq!(answer.headers["content-type"], "application/x-amz-json-1.0");
    assert!(answer.json()["MessageId"].is_string());
}

#[tokio::test]
async fn bodies_come_back_as_they_were_sent() {
    let server = Server::with_queue(json!({})).await;
    let odd = "{\"foo\": \"ba\rr\"}\"&quot;\u{e9}\u{1F600}";
    server.ok("SendMessage", json!({"MessageBody": odd})).await;
    let received = get(&server, &format!("{QUEUE}?Action=ReceiveMessage&WaitTimeSeconds=1")).await;
    assert_eq!(
        element(&received, "Body"),
        "{&quot;foo&quot;: &quot;ba&#xD;r&quot;}&quot;&amp;quot;\u{e9}\u{1F600}"
    );
}

#[tokio::test]
async fn tags_permissions_and_sources() {
    let server = Server::with_queue(json!({})).await;
    let tag = "Action=TagQueue&Tag.1.Key=team&Tag.1.Value=a&Tag.2.Key=empty&Tag.2.Value=";
    ok(&post(&server, QUEUE, tag).await, "TagQueue");
    let untag = "Action=UntagQueue&TagKey.1=empty&TagKey.2=unknown";
    ok(&post(&server, QUEUE, untag).await, "UntagQueue");
    let tags = post(&server, QUEUE, "Action=ListQueueTags").await;
    let only = "<Tag><Key>team</Key><Value>a</Value></Tag>";
    assert_eq!(element(&tags, "ListQueueTagsResult"), only);
    for (action, parameter) in [("TagQueue", "Tags"), ("UntagQueue", "TagKeys")] {
        let answer = post(&server, QUEUE, &format!("Action={action}")).await;
        assert_eq!(
            refused(&answer, 400, "MissingParameter"),
            format!("The request must contain the parameter {parameter}.")
        );
    }

    let add = "Action=AddPermission&Label=l&AWSAccountId.1=111111111111&\
               AWSAccountId.2=222222222222&ActionName.1=SendMessage";
    ok(&post(&server, QUEUE, add).await, "AddPermission");
    let again = post(&server, QUEUE, add).await;
    let text = "Value l for parameter Label is invalid. Reason: Already exists.";
    assert_eq!(refused(&again, 400, "InvalidParameterValue"), text);
    let policy = post(&server, QUEUE, "Action=GetQueueAttributes&AttributeName.1=Policy").await;
    assert!(element(&policy, "Value").contains("arn:aws:iam::222222222222:root"));
    let remove = "Action=RemovePermission&Label=l";
    ok(&post(&server, QUEUE, remove).await, "RemovePermission");

    let arn = "arn:aws:sqs:us-east-1:000000000000:q";
    let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": 3}).to_string();
    server.ok("SetQueueAttributes", json!({"Attributes": {"RedrivePolicy": policy}})).await;
    let list = "Action=ListDeadLetterSourceQueues&MaxResults=1";
    let sources = post(&server, QUEUE, list).await;
    ok(&sources, "ListDeadLetterSourceQueues");
    assert_eq!(element(&sources, "QueueUrl"), "http://sqs.test:9324/000000000000/q");
}

#[tokio::test]
async fn answers_are_json_where_that_is_accepted_first() {
    let server = Server::with_queue(json!({})).await;
    let ask = async |target: &str| {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: sqs.test:9324\r\n\
             Accept: application/json, text/plain, */*\r\n\r\n"
        );
        let answer = server.raw(request.as_bytes()).await;
        let kind = if answer.status == 404 { "text/xml" } else { "application/json" };
        assert_eq!(answer.headers["content-type"], kind);
        answer
    };
    let listed = ask("/?Action=ListQueues&Version=2012-11-05").await;
    let urls = &listed.json()["ListQueuesResponse"]["ListQueuesResult"]["queueUrls"];
    assert_eq!(*urls, json!(["http://sqs.test:9324/000000000000/q"]));

    let odd = "{\"foo\": \"ba\rr\"}&quot;";
    server.ok("SendMessage", json!({"MessageBody": odd})).await;
    let received = ask(&format!("{QUEUE}?Action=ReceiveMessage&WaitTimeSeconds=1")).await.json();
    let message = &received["ReceiveMessageResponse"]["ReceiveMessageResult"]["messages"][0];
    assert_eq!(message["Body"], odd);
    let handle = message["ReceiptHandle"].as_str().unwrap();
    let deleted = ask(&format!("{QUEUE}?Action=DeleteMessage&ReceiptHandle={handle}")).await;
    let id = &deleted.json()["DeleteMessageResponse"]["ResponseMetadata"]["RequestId"];
    assert_eq!(id.as_str().unwrap(), deleted.headers["x-amzn-requestid"]);

    let refused = ask(&format!("{QUEUE}?Action=ListQueues")).await;
    assert_eq!(refused.status, 400);
    let error = &refused.json()["Error"];
    assert_eq!(error["Code"], "InvalidAction");
    assert_eq!(error["Message"], "The action ListQueues is not valid for this endpoint.");
    // Without an action the answer is XML all the same.
    let nothing = ask(QUEUE).await;
    assert_eq!((nothing.status, nothing.body.trim()), (404, "<UnknownOperationException/>"));
}
