//! The official client library for Rust against three processes.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_sqs::operation::create_queue::CreateQueueError;
use aws_sdk_sqs::operation::purge_queue::PurgeQueueError;
use aws_sdk_sqs::operation::send_message::SendMessageError;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use flotilla_tests::{Fleet, PATIENCE};

fn client(fleet: &Fleet, id: u64) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .endpoint_url(format!("http://{}", fleet.endpoint(id)))
        .build();
    Client::from_conf(config)
}

async fn create(client: &Client, name: &str) -> String {
    let created = client.create_queue().queue_name(name).send().await.unwrap();
    created.queue_url.unwrap()
}

/// Everything until `count` messages have come.
async fn receive(client: &Client, url: &str, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    let begin = Instant::now();
    while messages.len() < count {
        assert!(begin.elapsed() < PATIENCE, "{} of {count} came", messages.len());
        let received = client
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(10)
            .wait_time_seconds(1)
            .visibility_timeout(60)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await
            .unwrap();
        messages.extend(received.messages.unwrap_or_default());
    }
    messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues() {
    let fleet = Fleet::start(3).await;
    let clients: Vec<Client> = (1..=3).map(|id| client(&fleet, id)).collect();
    let names: BTreeSet<String> = (0..12).map(|number| format!("page-{number:02}")).collect();
    for (name, client) in names.iter().zip(clients.iter().cycle()) {
        create(client, name).await;
    }
    create(&clients[0], "other").await;
    let url =
        clients[1].get_queue_url().queue_name("other").send().await.unwrap().queue_url.unwrap();
    assert!(url.ends_with("/000000000000/other"), "{url}");
    // Five, five, two; through any node.
    let mut found = BTreeSet::new();
    let mut sizes = Vec::new();
    let mut pages =
        clients[2].list_queues().queue_name_prefix("page-").into_paginator().page_size(5).send();
    while let Some(page) = pages.next().await {
        let urls = page.unwrap().queue_urls.unwrap_or_default();
        sizes.push(urls.len());
        found.extend(urls.iter().map(|url| url.rsplit('/').next().unwrap().to_owned()));
    }
    assert_eq!(found, names);
    assert!(sizes.iter().all(|size| *size <= 5) && sizes.len() >= 3, "{sizes:?}");

    let set = clients[0]
        .set_queue_attributes()
        .queue_url(&url)
        .attributes(QueueAttributeName::VisibilityTimeout, "77");
    set.send().await.unwrap();
    // Changes reach other nodes soon, not at once: that is all that the service promises.
    let begin = Instant::now();
    let got = loop {
        let get = clients[2].get_queue_attributes().queue_url(&url);
        let got = get.attribute_names(QueueAttributeName::All).send().await.unwrap();
        let got = got.attributes.unwrap();
        if got[&QueueAttributeName::VisibilityTimeout] == "77" {
            break got;
        }
        assert!(begin.elapsed() < PATIENCE, "{got:?}");
    };
    assert_eq!(got[&QueueAttributeName::QueueArn], "arn:aws:sqs:us-east-1:000000000000:other");
    assert_eq!(got[&QueueAttributeName::ApproximateNumberOfMessages], "0");

    clients[1].delete_queue().queue_url(&url).send().await.unwrap();
    let begin = Instant::now();
    let gone = loop {
        let late = clients[0].send_message().queue_url(&url).message_body("x");
        match late.send().await {
            Ok(_) => assert!(begin.elapsed() < PATIENCE, "the queue does not go away"),
            Err(gone) => break gone,
        }
    };
    let known = gone.as_service_error();
    assert!(matches!(known, Some(SendMessageError::QueueDoesNotExist(_))), "{gone:?}");
    assert_eq!(gone.code(), Some("AWS.SimpleQueueService.NonExistentQueue"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages() {
    let fleet = Fleet::start(3).await;
    let (one, two, three) = (client(&fleet, 1), client(&fleet, 2), client(&fleet, 3));
    let url = create(&one, "messages").await;

    let text = MessageAttributeValue::builder().data_type("String").string_value("blue");
    let bytes =
        MessageAttributeValue::builder().data_type("Binary").binary_value(Blob::new([0, 255]));
    // The library itself compares the digests of bodies; that of the attributes is looked at here.
    let sent = two
        .send_message()
        .queue_url(&url)
        .message_body("hello")
        .message_attributes("colour", text.build().unwrap())
        .message_attributes("raw", bytes.build().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(sent.md5_of_message_body(), Some("5d41402abc4b2a76b9719d911017c592"));
    let message = receive(&three, &url, 1).await.remove(0);
    assert_eq!(message.body(), Some("hello"));
    assert_eq!(message.message_id, sent.message_id);
    assert_eq!(message.md5_of_body, sent.md5_of_message_body);
    assert!(message.md5_of_message_attributes.is_some());
    assert_eq!(message.md5_of_message_attributes, sent.md5_of_message_attributes);
    let attributes = message.message_attributes.as_ref().unwrap();
    assert_eq!(attributes["colour"].string_value(), Some("blue"));
    assert_eq!(attributes["raw"].binary_value(), Some(&Blob::new([0, 255])));
    let system: &HashMap<_, _> = message.attributes.as_ref().unwrap();
    assert_eq!(system[&MessageSystemAttributeName::ApproximateReceiveCount], "1");
    // Visible again at once, then deleted for good.
    let handle = message.receipt_handle().unwrap();
    let change = one.change_message_visibility().queue_url(&url).receipt_handle(handle);
    change.visibility_timeout(0).send().await.unwrap();
    let again = receive(&two, &url, 1).await.remove(0);
    assert_eq!(again.message_id, message.message_id);
    assert_ne!(again.receipt_handle, message.receipt_handle);
    let delete =
        one.delete_message().queue_url(&url).receipt_handle(again.receipt_handle().unwrap());
    delete.send().await.unwrap();

    // Exactly the largest message, and one byte more.
    let largest = "m".repeat(1_048_576);
    one.send_message().queue_url(&url).message_body(&largest).send().await.unwrap();
    let came = receive(&three, &url, 1).await.remove(0);
    assert!(came.body() == Some(largest.as_str()), "another body came");
    let too_long = format!("{largest}m");
    let refused =
        one.send_message().queue_url(&url).message_body(too_long).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("InvalidParameterValue"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches() {
    let fleet = Fleet::start(3).await;
    let (one, two, three) = (client(&fleet, 1), client(&fleet, 2), client(&fleet, 3));
    let url = create(&one, "batches").await;
    let entries = (0..10).map(|number| {
        let entry = SendMessageBatchRequestEntry::builder().id(format!("e{number}"));
        entry.message_body(format!("body {number}")).build().unwrap()
    });
    let sent = two
        .send_message_batch()
        .queue_url(&url)
        .set_entries(Some(entries.collect()))
        .send()
        .await
        .unwrap();
    assert_eq!((sent.successful().len(), sent.failed().len()), (10, 0));
    let messages = receive(&three, &url, 10).await;
    let bodies: BTreeSet<&str> = messages.iter().filter_map(Message::body).collect();
    assert_eq!(bodies.len(), 10);

    let handles: Vec<&str> = messages.iter().filter_map(Message::receipt_handle).collect();
    let changes = handles.iter().enumerate().map(|(number, handle)| {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(number.to_string());
        entry.receipt_handle(*handle).visibility_timeout(600).build().unwrap()
    });
    let change = one.change_message_visibility_batch().queue_url(&url);
    let changed = change.set_entries(Some(changes.collect())).send().await.unwrap();
    assert_eq!((changed.successful().len(), changed.failed().len()), (10, 0));

    // One handle of the ten is none.
    let deletes = handles.iter().enumerate().map(|(number, handle)| {
        let handle = if number == 3 { "garbage" } else { handle };
        let entry = DeleteMessageBatchRequestEntry::builder().id(number.to_string());
        entry.receipt_handle(handle).build().unwrap()
    });
    let delete = three.delete_message_batch().queue_url(&url);
    let deleted = delete.set_entries(Some(deletes.collect())).send().await.unwrap();
    assert_eq!(deleted.successful().len(), 9);
    let failed: Vec<(&str, &str, bool)> = deleted
        .failed()
        .iter()
        .map(|failed| (failed.id(), failed.code(), failed.sender_fault()))
        .collect();
    assert_eq!(failed, [("3", "ReceiptHandleIsInvalid", true)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_have_their_types() {
    let fleet = Fleet::start(3).await;
    let client = client(&fleet, 2);
    let url = create(&client, "typed").await;

    let again = client.create_queue().queue_name("typed");
    let again = again.attributes(QueueAttributeName::DelaySeconds, "5").send().await.unwrap_err();
    assert!(
        matches!(again.as_service_error(), Some(CreateQueueError::QueueNameExists(_))),
        "{again:?}"
    );

    let missing = client.get_queue_url().queue_name("missing").send().await.unwrap_err();
    assert!(missing.as_service_error().is_some_and(|error| error.is_queue_does_not_exist()));

    let garbage = client.delete_message().queue_url(&url).receipt_handle("garbage");
    let garbage = garbage.send().await.unwrap_err();
    assert!(garbage.as_service_error().is_some_and(|error| error.is_receipt_handle_is_invalid()));
    assert_eq!(status(&garbage), Some(404));

    let empty = client.send_message_batch().queue_url(&url).set_entries(Some(Vec::new()));
    let empty = empty.send().await.unwrap_err();
    assert!(empty.as_service_error().is_some_and(|error| error.is_empty_batch_request()));

    client.send_message().queue_url(&url).message_body("to purge").send().await.unwrap();
    client.purge_queue().queue_url(&url).send().await.unwrap();
    let twice = client.purge_queue().queue_url(&url).send().await.unwrap_err();
    assert!(
        matches!(twice.as_service_error(), Some(PurgeQueueError::PurgeQueueInProgress(_))),
        "{twice:?}"
    );
    let received = client.receive_message().queue_url(&url).wait_time_seconds(1).send();
    assert!(received.await.unwrap().messages.unwrap_or_default().is_empty());

    // A long poll waits for as long as it was asked to.
    let begin = Instant::now();
    client.receive_message().queue_url(&url).wait_time_seconds(2).send().await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
