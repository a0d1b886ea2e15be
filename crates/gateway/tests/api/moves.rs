//! Tasks that move dead letters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flotilla_cluster::api::{MoveFailure, MoveStatus, Trouble};
use serde_json::{Value, json};

use crate::client::{Answer, Server};
use crate::messages::send;
use crate::query;

const STARTED_MS: u64 = 1_700_000_000_000;
pub(crate) const UNKNOWN_TASK: &str = "10f57157-fc38-4da9-a113-4de7e12d05aa";

pub(crate) fn arn(queue: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{queue}")
}

pub(crate) fn handle(task: &str, source_arn: &str) -> String {
    STANDARD.encode(json!({"taskId": task, "sourceArn": source_arn}).to_string())
}

/// With `dead`, which is the dead-letter queue of `q` and of nothing else.
async fn with_dead_letters() -> Server {
    let server = Server::with_queue(json!({})).await;
    create(&server, "dead").await;
    feed(&server, "q", "dead").await;
    server
}

async fn create(server: &Server, queue: &str) {
    let mut create = json!({"QueueName": queue});
    if queue.ends_with(".fifo") {
        create["Attributes"] = json!({"FifoQueue": "true"});
    }
    assert_eq!(server.call("CreateQueue", create).await.status, 200);
}

/// Makes `target` the dead-letter queue of `source`.
async fn feed(server: &Server, source: &str, target: &str) {
    let policy = json!({"deadLetterTargetArn": arn(target), "maxReceiveCount": 1}).to_string();
    let set = json!({"QueueUrl": source, "Attributes": {"RedrivePolicy": policy}});
    assert_eq!(server.call("SetQueueAttributes", set).await.status, 200);
}

async fn start(server: &Server, request: Value) -> Answer {
    server.call("StartMessageMoveTask", request).await
}

/// Handle of a task of `dead`.
async fn started(server: &Server) -> String {
    let answer = start(server, json!({"SourceArn": arn("dead")})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["TaskHandle"].as_str().unwrap().to_owned()
}

async fn cancel(server: &Server, handle: &str) -> Answer {
    server.call("CancelMessageMoveTask", json!({"TaskHandle": handle})).await
}

/// What is listed of `dead`.
async fn list(server: &Server, max: Option<u32>) -> Vec<Value> {
    let request = json!({"SourceArn": arn("dead"), "MaxResults": max});
    let answer = server.call("ListMessageMoveTasks", request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["Results"].as_array().expect("always there").clone()
}

async fn form(server: &Server, form: String) -> Answer {
    query::post(server, "/", &form).await
}

#[track_caller]
fn not_found(answer: &Answer) -> String {
    answer.sqs(404, "ResourceNotFoundException", "ResourceNotFoundException")
}

pub(crate) fn no_resource(parameter: &str) -> String {
    format!("The resource that you specified for the {parameter} parameter doesn't exist.")
}

#[tokio::test]
async fn the_life_of_a_task() {
    let server = with_dead_letters().await;
    for body in ["a", "b"] {
        send(&server, body).await;
    }
    server.fake.give_up("q", "dead");
    create(&server, "other").await;
    let request = json!({
        "SourceArn": arn("dead"),
        "DestinationArn": arn("other"),
        "MaxNumberOfMessagesPerSecond": 500,
    });
    let answer = start(&server, request).await.json();
    let handle = answer["TaskHandle"].as_str().unwrap();
    assert_eq!(answer, json!({"TaskHandle": handle}));
    let content = String::from_utf8(STANDARD.decode(handle).unwrap()).unwrap();
    let task = content.strip_prefix("{\"taskId\":\"").unwrap().split('"').next().unwrap();
    assert_eq!(content, format!("{{\"taskId\":\"{task}\",\"sourceArn\":\"{}\"}}", arn("dead")));

    let mut shown = json!({
        "TaskHandle": handle,
        "Status": "RUNNING",
        "SourceArn": arn("dead"),
        "DestinationArn": arn("other"),
        "MaxNumberOfMessagesPerSecond": 500,
        "ApproximateNumberOfMessagesMoved": 0,
        "ApproximateNumberOfMessagesToMove": 2,
        "StartedTimestamp": STARTED_MS,
    });
    assert_eq!(list(&server, None).await, [shown.clone()]);
    server.fake.set_move("dead", MoveStatus::Completed, 2);
    shown.as_object_mut().unwrap().remove("TaskHandle");
    shown["Status"] = "COMPLETED".into();
    shown["ApproximateNumberOfMessagesMoved"] = 2.into();
    assert_eq!(list(&server, None).await, [shown]);
}

#[tokio::test]
async fn the_newest_task_comes_first() {
    let server = with_dead_letters().await;
    let nothing = server.call("ListMessageMoveTasks", json!({"SourceArn": arn("dead")})).await;
    assert_eq!((nothing.status, nothing.body.as_str()), (200, "{\"Results\":[]}"));
    for moved in 0..12 {
        started(&server).await;
        server.fake.set_move("dead", MoveStatus::Completed, moved);
        server.fake.advance(1);
    }
    let moved = |tasks: Vec<Value>| -> Vec<u64> {
        let of = |task: &Value| task["ApproximateNumberOfMessagesMoved"].as_u64().unwrap();
        tasks.iter().map(of).collect()
    };
    assert_eq!(moved(list(&server, None).await), [11]);
    assert_eq!(moved(list(&server, Some(3)).await), [11, 10, 9]);
    assert_eq!(moved(list(&server, Some(10)).await), (2..12).rev().collect::<Vec<_>>());
    let newest = &list(&server, None).await[0];
    assert_eq!(newest["StartedTimestamp"], STARTED_MS + 11_000);
    let absent = ["TaskHandle", "DestinationArn", "MaxNumberOfMessagesPerSecond", "FailureReason"];
    assert!(absent.iter().all(|member| newest.get(member).is_none()), "{newest}");
}

#[tokio::test]
async fn only_a_task_that_runs_can_be_cancelled() {
    let server = with_dead_letters().await;
    let handle = started(&server).await;
    server.fake.set_move("dead", MoveStatus::Running, 7);
    let cancelled = cancel(&server, &handle).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    assert_eq!(cancelled.json(), json!({"ApproximateNumberOfMessagesMoved": 7}));
    let mut task = list(&server, None).await.remove(0);
    assert_eq!((task["Status"].as_str(), task.get("TaskHandle")), (Some("CANCELLING"), None));
    for (status, name) in [
        (MoveStatus::Cancelling, "CANCELLING"),
        (MoveStatus::Cancelled, "CANCELLED"),
        (MoveStatus::Completed, "COMPLETED"),
    ] {
        server.fake.set_move("dead", status, 8);
        let refused = cancel(&server, &handle).await;
        assert_eq!(refused.invalid(), "Only active tasks can be cancelled.");
        task["Status"] = name.into();
        task["ApproximateNumberOfMessagesMoved"] = 8.into();
        assert_eq!(list(&server, None).await, [task.clone()]);
    }
}

#[tokio::test]
async fn a_failed_task_says_why() {
    let server = with_dead_letters().await;
    for (failure, reason) in [
        (MoveFailure::DestinationGone, "AWS.SimpleQueueService.NonExistentQueue"),
        (MoveFailure::NoSource, "CouldNotDetermineMessageSource"),
        (MoveFailure::SourceForbidden, "AccessDenied"),
        (MoveFailure::TimedOut, "TimedOut"),
    ] {
        started(&server).await;
        server.fake.fail_move("dead", failure);
        let task = list(&server, None).await.remove(0);
        assert_eq!((&task["Status"], &task["FailureReason"]), (&"FAILED".into(), &reason.into()));
        assert_eq!(task.get("TaskHandle"), None);
    }
}

#[tokio::test]
async fn one_task_of_a_queue_and_a_hundred_in_all() {
    let server = with_dead_letters().await;
    started(&server).await;
    let running = "There is already a task running. Only one active task is allowed for a source \
                   queue arn at a given time.";
    for status in [MoveStatus::Running, MoveStatus::Cancelling] {
        server.fake.set_move("dead", status, 0);
        assert_eq!(start(&server, json!({"SourceArn": arn("dead")})).await.invalid(), running);
    }
    for n in 1..=100 {
        let dead = format!("dead{n}");
        create(&server, &dead).await;
        create(&server, &format!("source{n}")).await;
        feed(&server, &format!("source{n}"), &dead).await;
        let answer = start(&server, json!({"SourceArn": arn(&dead)})).await;
        if n < 100 {
            assert_eq!(answer.status, 200, "{n}: {answer:?}");
        } else {
            let text = "The maximum number of active message move tasks has been reached.";
            assert_eq!(answer.sqs(403, "OverLimit", "OverLimit"), text);
        }
    }
}

#[tokio::test]
async fn queues_that_are_not_there() {
    let server = with_dead_letters().await;
    for missing in [
        arn("nope"),
        arn("q:x"),
        arn("no name"),
        "arn:aws:sqs:eu-west-1:000000000000:dead".to_owned(),
        "arn:aws:sqs:us-east-1:111111111111:dead".to_owned(),
        "arn:aws:sns:us-east-1:000000000000:dead".to_owned(),
    ] {
        for action in ["StartMessageMoveTask", "ListMessageMoveTasks"] {
            let answer = server.call(action, json!({"SourceArn": missing})).await;
            assert_eq!(not_found(&answer), no_resource("SourceArn"), "{missing}");
        }
        let answer = cancel(&server, &handle(UNKNOWN_TASK, &missing)).await;
        assert_eq!(not_found(&answer), no_resource("SourceArn"), "{missing}");
        let request = json!({"SourceArn": arn("dead"), "DestinationArn": missing});
        let answer = start(&server, request).await;
        assert_eq!(not_found(&answer), no_resource("DestinationArn"), "{missing}");
    }
    assert_eq!(list(&server, None).await, [] as [Value; 0]);
}

#[tokio::test]
async fn what_is_missing_or_malformed() {
    let server = with_dead_letters().await;
    let missing = |parameter| format!("The request must contain the parameter {parameter}.");
    for body in [json!({}), json!({"SourceArn": ""}), json!({"DestinationArn": arn("q")})] {
        for action in ["StartMessageMoveTask", "ListMessageMoveTasks"] {
            let answer = server.call(action, body.clone()).await;
            assert_eq!(answer.missing(), missing("SourceArn"));
        }
    }
    for body in [json!({}), json!({"TaskHandle": ""})] {
        let answer = server.call("CancelMessageMoveTask", body).await;
        assert_eq!(answer.missing(), missing("TaskHandle"));
    }
    let format = |parameter| {
        format!(
            "You must use this format to specify the {parameter}: \
             arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
        )
    };
    for bad in ["dead", "arn:aws:sqs:us-east-1:dead", "http://sqs.test:9324/000000000000/dead"] {
        for action in ["StartMessageMoveTask", "ListMessageMoveTasks"] {
            let answer = server.call(action, json!({"SourceArn": bad})).await;
            assert_eq!(answer.invalid(), format("SourceArn"));
        }
        let request = json!({"SourceArn": arn("dead"), "DestinationArn": bad});
        assert_eq!(start(&server, request).await.invalid(), format("DestinationArn"));
    }
    let range = |parameter, max| {
        format!(
            "Value for parameter {parameter} is invalid. \
             Reason: You must enter a number that's between 1 and {max}."
        )
    };
    for bad in [-1, 0, 501] {
        let rate = "MaxNumberOfMessagesPerSecond";
        let answer = start(&server, json!({"SourceArn": arn("dead"), rate: bad})).await;
        assert_eq!(answer.invalid(), range(rate, 500));
    }
    for bad in [-1, 0, 11] {
        let request = json!({"SourceArn": arn("dead"), "MaxResults": bad});
        let answer = server.call("ListMessageMoveTasks", request).await;
        assert_eq!(answer.invalid(), range("MaxResults", 10));
    }
    assert_eq!(list(&server, None).await, [] as [Value; 0]);
}

#[tokio::test]
async fn sources_and_destinations_that_do_not_fit() {
    let server = with_dead_letters().await;
    create(&server, "q.fifo").await;
    let to = |destination| json!({"SourceArn": arn("dead"), "DestinationArn": arn(destination)});
    assert_eq!(
        start(&server, to("dead")).await.invalid(),
        "Source queue arn and destination queue arn cannot be the same."
    );
    assert_eq!(
        start(&server, to("q.fifo")).await.invalid(),
        "The source queue and destination queue must be of the same queue type."
    );
    assert_eq!(
        start(&server, json!({"SourceArn": arn("q")})).await.invalid(),
        "Source queue must be configured as a Dead Letter Queue."
    );
    // An empty destination is none.
    let request = json!({"SourceArn": arn("dead"), "DestinationArn": ""});
    assert_eq!(start(&server, request).await.status, 200);
    assert_eq!(list(&server, None).await[0].get("DestinationArn"), None);
}

#[tokio::test]
async fn handles_of_no_task() {
    let server = with_dead_letters().await;
    for bad in [
        "foobared".to_owned(),
        "?".to_owned(),
        handle("x", &arn("dead")),
        handle(UNKNOWN_TASK, "dead"),
    ] {
        let answer = cancel(&server, &bad).await;
        assert_eq!(answer.invalid(), "Value for parameter TaskHandle is invalid.", "{bad}");
    }
    let unknown = cancel(&server, &handle(UNKNOWN_TASK, &arn("dead"))).await;
    assert_eq!(not_found(&unknown), "Task does not exist.");
}

/// Whoever may cancel the tasks of one queue must not reach those of another one through a handle of its own making.
#[tokio::test]
async fn a_handle_with_another_queue_is_no_handle_of_a_task() {
    let server = with_dead_letters().await;
    let own = started(&server).await;
    let content: Value = serde_json::from_slice(&STANDARD.decode(&own).unwrap()).unwrap();
    let foreign = handle(content["taskId"].as_str().unwrap(), &arn("q"));
    assert_eq!(not_found(&cancel(&server, &foreign).await), "Task does not exist.");
    let escaped = foreign.replace('=', "%3D").replace('+', "%2B");
    let refused = form(&server, format!("Action=CancelMessageMoveTask&TaskHandle={escaped}")).await;
    let text = query::refused(&refused, 404, "ResourceNotFoundException");
    assert_eq!(text, "Task does not exist.");
    assert_eq!(list(&server, None).await[0]["Status"], "RUNNING");
    assert_eq!(cancel(&server, &own).await.status, 200);
}

#[tokio::test]
async fn trouble_with_tasks() {
    let server = with_dead_letters().await;
    let handle = started(&server).await;
    for (maybe_applied, status, shape, code, outcome) in [
        (false, 503, "ServiceUnavailable", "ServiceUnavailable", "not-applied"),
        (true, 500, "InternalFailure", "InternalError", "unknown"),
    ] {
        server.fake.fail(Some(Trouble::Unavailable { maybe_applied }));
        for (action, body) in [
            ("StartMessageMoveTask", json!({"SourceArn": arn("dead")})),
            ("CancelMessageMoveTask", json!({"TaskHandle": handle})),
            ("ListMessageMoveTasks", json!({"SourceArn": arn("dead")})),
        ] {
            let answer = server.call(action, body).await;
            let shape = format!("com.amazon.coral.service#{shape}");
            answer.refused(status, &shape, &format!("{code};Receiver"));
            assert_eq!(answer.headers["x-flotilla-outcome"], outcome);
        }
    }
}

#[tokio::test]
async fn tasks_in_the_query_protocol() {
    let server = with_dead_letters().await;
    let source = arn("dead");
    let list =
        || form(&server, format!("Action=ListMessageMoveTasks&SourceArn={source}&MaxResults=2"));
    let none = list().await;
    query::ok(&none, "ListMessageMoveTasks");
    assert!(none.body.contains("<ListMessageMoveTasksResult></ListMessageMoveTasksResult>"));

    for _ in 0..2 {
        server.fake.advance(1);
        let start = format!(
            "Action=StartMessageMoveTask&SourceArn={source}&DestinationArn={}&\
             MaxNumberOfMessagesPerSecond=5",
            arn("q")
        );
        let started = form(&server, start).await;
        query::ok(&started, "StartMessageMoveTask");
        let handle = query::element(&started, "TaskHandle").replace('=', "%3D").replace('+', "%2B");
        let cancelled =
            form(&server, format!("Action=CancelMessageMoveTask&TaskHandle={handle}")).await;
        query::ok(&cancelled, "CancelMessageMoveTask");
        assert_eq!(query::element(&cancelled, "ApproximateNumberOfMessagesMoved"), "0");
        server.fake.fail_move("dead", MoveFailure::DestinationGone);
    }
    let entry = |started_ms: u64| {
        format!(
            "<ListMessageMoveTasksResultEntry>\
             <ApproximateNumberOfMessagesMoved>0</ApproximateNumberOfMessagesMoved>\
             <ApproximateNumberOfMessagesToMove>0</ApproximateNumberOfMessagesToMove>\
             <DestinationArn>{}</DestinationArn>\
             <FailureReason>AWS.SimpleQueueService.NonExistentQueue</FailureReason>\
             <MaxNumberOfMessagesPerSecond>5</MaxNumberOfMessagesPerSecond>\
             <SourceArn>{source}</SourceArn><StartedTimestamp>{started_ms}</StartedTimestamp>\
             <Status>FAILED</Status></ListMessageMoveTasksResultEntry>",
            arn("q")
        )
    };
    let listed = list().await;
    query::ok(&listed, "ListMessageMoveTasks");
    assert_eq!(
        query::element(&listed, "ListMessageMoveTasksResult"),
        entry(STARTED_MS + 2_000) + &entry(STARTED_MS + 1_000)
    );
}

#[tokio::test]
async fn refusals_in_the_query_protocol() {
    let server = with_dead_letters().await;
    let gone =
        form(&server, format!("Action=StartMessageMoveTask&SourceArn={}", arn("nope"))).await;
    let text = query::refused(&gone, 404, "ResourceNotFoundException");
    assert_eq!(text, no_resource("SourceArn"));
    let not_dead =
        form(&server, format!("Action=StartMessageMoveTask&SourceArn={}", arn("q"))).await;
    let text = query::refused(&not_dead, 400, "InvalidParameterValue");
    assert_eq!(text, "Source queue must be configured as a Dead Letter Queue.");
    let bare = form(&server, "Action=ListMessageMoveTasks".to_owned()).await;
    let text = query::refused(&bare, 400, "MissingParameter");
    assert_eq!(text, "The request must contain the parameter SourceArn.");
}
