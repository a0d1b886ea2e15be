"""boto3's resources: queues and messages as objects, collections, pages.

    boto3_resource.py ENDPOINT[,ENDPOINT...]"""

import json
import sys
import time

import boto3

from boto3_suite import harness
from boto3_suite.harness import ENDPOINTS, SQS, arn_of, equal, redrive_to, test, turn, url_of

RESOURCES = [boto3.resource("sqs", endpoint_url=endpoint) for endpoint in ENDPOINTS]


def sqs():
    return RESOURCES[turn()]


def taken(queue, count, **more):
    """So many messages of a queue, as objects."""
    messages = []
    end = time.monotonic() + 20
    while len(messages) < count and time.monotonic() < end:
        messages += queue.receive_messages(MaxNumberOfMessages=10, WaitTimeSeconds=1, **more)
    equal(len(messages), count)
    return messages


@test
def a_queue_is_created_found_and_deleted():
    queue = sqs().create_queue(
        QueueName="resource", Attributes={"VisibilityTimeout": "7"}, tags={"team": "a"}
    )
    equal(queue.url, url_of("resource"))
    equal(queue.attributes["VisibilityTimeout"], "7")
    equal(queue.attributes["QueueArn"], arn_of("resource"))
    equal(sqs().get_queue_by_name(QueueName="resource"), queue)
    again = sqs().create_queue(QueueName="resource", Attributes={"VisibilityTimeout": "7"})
    equal(again, queue)
    queue.set_attributes(Attributes={"VisibilityTimeout": "9", "DelaySeconds": "0"})
    # An action makes the object forget what it had read.
    equal(queue.attributes["VisibilityTimeout"], "9")
    queue.delete()
    try:
        sqs().get_queue_by_name(QueueName="resource")
        raise AssertionError("a deleted queue is found")
    except SQS.exceptions.QueueDoesNotExist:
        pass


@test
def messages_are_objects():
    queue = sqs().create_queue(QueueName="objects")
    colour = {"colour": {"DataType": "String", "StringValue": "blue"}}
    sent = queue.send_message(MessageBody="one", MessageAttributes=colour)
    (message,) = taken(queue, 1, MessageAttributeNames=["All"], AttributeNames=["All"])
    equal((message.message_id, message.body), (sent["MessageId"], "one"))
    equal(message.md5_of_body, sent["MD5OfMessageBody"])
    equal(message.message_attributes, colour)
    equal(message.md5_of_message_attributes, sent["MD5OfMessageAttributes"])
    equal(message.attributes["ApproximateReceiveCount"], "1")
    equal(message.queue_url, queue.url)
    equal(message.Queue(), queue)
    message.change_visibility(VisibilityTimeout=0)
    (message,) = taken(queue, 1)
    message.delete()
    equal(queue.receive_messages(WaitTimeSeconds=1, VisibilityTimeout=0), [])
    # Nothing is asked of the server until something is done with it.
    handle = sqs().Message(queue.url, message.receipt_handle)
    equal(handle.delete()["ResponseMetadata"]["HTTPStatusCode"], 200)


@test
def batches_of_objects():
    queue = sqs().create_queue(QueueName="objects-batch")
    entries = [{"Id": str(n), "MessageBody": f"body {n}"} for n in range(10)]
    equal(len(queue.send_messages(Entries=entries)["Successful"]), 10)
    messages = taken(queue, 10, VisibilityTimeout=60)
    equal({message.body for message in messages}, {entry["MessageBody"] for entry in entries})

    def of(messages, **more):
        handles = enumerate(message.receipt_handle for message in messages)
        return [{"Id": str(n), "ReceiptHandle": handle, **more} for n, handle in handles]

    changed = queue.change_message_visibility_batch(Entries=of(messages[:3], VisibilityTimeout=0))
    equal(len(changed["Successful"]), 3)
    again = taken(queue, 3, VisibilityTimeout=60)
    equal({m.message_id for m in again}, {m.message_id for m in messages[:3]})
    equal(len(queue.delete_messages(Entries=of(again + messages[3:]))["Successful"]), 10)
    queue.reload()
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    equal([queue.attributes[name] for name in names], ["0", "0"])
    queue.send_message(MessageBody="left")
    queue.purge()
    equal(queue.receive_messages(WaitTimeSeconds=1), [])


@test
def queues_are_a_collection():
    names = [f"collected-{n}" for n in range(5)]
    for name in names:
        sqs().create_queue(QueueName=name)
    wanted = [url_of(name) for name in names]
    found = sqs().queues.filter(QueueNamePrefix="collected-")
    equal(sorted(queue.url for queue in found), wanted)
    pages = [len(page) for page in found.page_size(2).pages()]
    equal(pages, [2, 2, 1])
    equal(len(list(found.limit(3))), 3)
    assert set(wanted) <= {queue.url for queue in sqs().queues.all()}
    equal(list(sqs().queues.filter(QueueNamePrefix="collected-none")), [])


@test
def sources_of_dead_letters_are_a_collection():
    dead = sqs().create_queue(QueueName="resource-dead")
    equal(list(dead.dead_letter_source_queues.all()), [])
    policy = redrive_to("resource-dead", 1)
    attributes = {"RedrivePolicy": policy, "VisibilityTimeout": "0"}
    sources = [
        sqs().create_queue(QueueName=f"resource-source-{n}", Attributes=attributes)
        for n in range(3)
    ]
    equal(json.loads(sources[0].attributes["RedrivePolicy"]), json.loads(policy))
    found = list(dead.dead_letter_source_queues.all())
    equal(sorted(queue.url for queue in found), [queue.url for queue in sources])
    pages = dead.dead_letter_source_queues.page_size(2).pages()
    equal([len(page) for page in pages], [2, 1])
    sources[1].send_message(MessageBody="poison")
    taken(sources[1], 1)
    equal(sources[1].receive_messages(WaitTimeSeconds=1), [])
    (letter,) = taken(dead, 1, AttributeNames=["DeadLetterQueueSourceArn"])
    equal(letter.attributes, {"DeadLetterQueueSourceArn": arn_of("resource-source-1")})


@test
def permissions_of_a_queue_object():
    queue = sqs().create_queue(QueueName="resource-permissions")
    queue.add_permission(Label="l", AWSAccountIds=["111111111111"], Actions=["SendMessage"])
    queue.reload()
    (statement,) = json.loads(queue.attributes["Policy"])["Statement"]
    equal((statement["Sid"], statement["Action"]), ("l", "SQS:SendMessage"))
    queue.remove_permission(Label="l")
    queue.reload()
    assert "Policy" not in queue.attributes


@test
def groups_of_a_fifo_queue_object():
    queue = sqs().create_queue(
        QueueName="resource.fifo",
        Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"},
    )
    for n in range(3):
        queue.send_message(MessageBody=f"m{n}", MessageGroupId="g")
    messages = queue.receive_messages(MaxNumberOfMessages=10, AttributeNames=["All"])
    equal([message.body for message in messages], ["m0", "m1", "m2"])
    numbers = [message.attributes["SequenceNumber"] for message in messages]
    equal(numbers, sorted(set(numbers)))
    for message in messages:
        message.delete()


sys.exit(harness.main())
