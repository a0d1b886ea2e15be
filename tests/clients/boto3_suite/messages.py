"""Messages of standard queues."""

import hashlib
import time

from .harness import (
    MIB, SQS, SYSTEM_ATTRIBUTE_NAMES, code_of, create, endpoint, equal, error_of,
    new_client, receive, receive_all, status_of, takes_a_minute, test,
)


@test
def message_actions():
    url = create("messages")
    sent = SQS.send_message(QueueUrl=url, MessageBody="hello")
    equal(sent["MD5OfMessageBody"], hashlib.md5(b"hello").hexdigest())
    message = receive_all(url, 1, **{SYSTEM_ATTRIBUTE_NAMES: ["All"]})[0]
    equal((message["Body"], message["MessageId"]), ("hello", sent["MessageId"]))
    equal(message["MD5OfBody"], sent["MD5OfMessageBody"])
    equal(message["Attributes"]["ApproximateReceiveCount"], "1")
    handle = message["ReceiptHandle"]
    SQS.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    handle = receive_all(url, 1)[0]["ReceiptHandle"]
    SQS.delete_message(QueueUrl=url, ReceiptHandle=handle)
    equal(receive(url), [])


@test
def batch_actions():
    url = create("batches")
    entries = [{"Id": f"e{n}", "MessageBody": f"body {n}"} for n in range(10)]
    sent = SQS.send_message_batch(QueueUrl=url, Entries=entries)
    equal(sorted(entry["Id"] for entry in sent["Successful"]), sorted(e["Id"] for e in entries))
    messages = receive_all(url, 10)
    equal({m["Body"] for m in messages}, {e["MessageBody"] for e in entries})
    handles = [message["ReceiptHandle"] for message in messages]
    changed = SQS.change_message_visibility_batch(
        QueueUrl=url,
        Entries=[
            {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": 60}
            for n, handle in enumerate(handles)
        ],
    )
    equal(len(changed["Successful"]), 10)
    handles[4] = "garbage"
    deleted = SQS.delete_message_batch(
        QueueUrl=url,
        Entries=[{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(handles)],
    )
    equal(len(deleted["Successful"]), 9)
    failed = deleted["Failed"]
    equal([(f["Id"], f["Code"], f["SenderFault"]) for f in failed], [("4", "ReceiptHandleIsInvalid", True)])


@test
def purge():
    url = create("purge")
    SQS.send_message_batch(
        QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": "x"} for n in range(10)]
    )
    SQS.purge_queue(QueueUrl=url)
    equal(receive(url), [])
    error = error_of(SQS.purge_queue, QueueUrl=url)
    equal((error.response["Error"]["Code"], status_of(error)), ("AWS.SimpleQueueService.PurgeQueueInProgress", 403))
    equal(
        error.response["Error"]["Message"],
        "Only one PurgeQueue operation on purge is allowed every 60 seconds.",
    )


@test
def vector_1_visibility_and_repeated_deletes():
    url = create("vector-1")
    SQS.send_message(QueueUrl=url, MessageBody="x")
    handle = receive_all(url, 1, VisibilityTimeout=30)[0]["ReceiptHandle"]
    equal(receive(url), [])
    SQS.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    SQS.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=10)
    equal(receive(url), [])
    SQS.delete_message(QueueUrl=url, ReceiptHandle=handle)
    SQS.delete_message(QueueUrl=url, ReceiptHandle=handle)


@test
def vector_2_expired_handles_still_work():
    url = create("vector-2")
    SQS.send_message(QueueUrl=url, MessageBody="x")
    handle = receive_all(url, 1, VisibilityTimeout=1)[0]["ReceiptHandle"]
    time.sleep(2)
    SQS.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=2)
    time.sleep(2)
    handle = receive_all(url, 1, VisibilityTimeout=1)[0]["ReceiptHandle"]
    time.sleep(1)
    SQS.delete_message(QueueUrl=url, ReceiptHandle=handle)
    equal(receive(url, WaitTimeSeconds=2), [])


@test
def vector_3_visibility_is_extended_again_and_again():
    url = create("vector-3", VisibilityTimeout=2)
    SQS.send_message(QueueUrl=url, MessageBody="x")
    handle = receive_all(url, 1)[0]["ReceiptHandle"]
    for _ in range(4):
        time.sleep(1)
        SQS.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=2)
        equal(receive(url, WaitTimeSeconds=0), [])
    equal(len(receive(url, WaitTimeSeconds=5)), 1)


@test
def vector_4_an_old_handle_counts():
    url = create("vector-4")
    SQS.send_message(QueueUrl=url, MessageBody="x")
    first = receive_all(url, 1, VisibilityTimeout=0)[0]
    second = receive_all(url, 1, VisibilityTimeout=3)[0]
    assert first["ReceiptHandle"] != second["ReceiptHandle"]
    SQS.change_message_visibility(
        QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0
    )
    equal([m["MessageId"] for m in receive(url)], [first["MessageId"]])


@test
def vector_5_a_deleted_message_cannot_be_changed():
    url = create("vector-5")
    SQS.send_message(QueueUrl=url, MessageBody="x")
    handle = receive_all(url, 1)[0]["ReceiptHandle"]
    SQS.delete_message(QueueUrl=url, ReceiptHandle=handle)
    error = error_of(
        SQS.change_message_visibility, QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=42
    )
    equal(error.response["Error"]["Code"], "InvalidParameterValue")
    assert error.response["Error"]["Message"].endswith(
        "Message does not exist or is not available for visibility timeout change."
    ), error


@test
def vector_8_sizes_of_batch_entries():
    url = create("vector-8", MaximumMessageSize=2048)
    # Name, type and value count: 1 + 6 + 1.
    attribute = {"a": {"DataType": "String", "StringValue": "b"}}
    entries = [
        {"Id": "full", "MessageBody": "x" * 2040, "MessageAttributes": attribute},
        {"Id": "one", "MessageBody": "x"},
    ]
    equal(len(SQS.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]), 2)
    entries[0]["MessageBody"] += "x"
    answer = SQS.send_message_batch(QueueUrl=url, Entries=entries)
    equal([e["Id"] for e in answer["Successful"]], ["one"])
    equal([e["Id"] for e in answer["Failed"]], ["full"])
    url = create("vector-8-small", MaximumMessageSize=1024)
    entries = [
        {"Id": "fits", "MessageBody": "x" * 1024},
        {"Id": "not", "MessageBody": "x" * 1025},
    ]
    answer = SQS.send_message_batch(QueueUrl=url, Entries=entries)
    equal([e["Id"] for e in answer["Successful"]], ["fits"])
    equal([(e["Id"], e["SenderFault"]) for e in answer["Failed"]], [("not", True)])


@test
def vector_9_the_size_of_a_batch():
    url = create("vector-9")
    entries = [
        {"Id": "a", "MessageBody": "x" * (MIB // 2)},
        {"Id": "b", "MessageBody": "x" * (MIB // 2 + 1)},
    ]
    error = error_of(SQS.send_message_batch, QueueUrl=url, Entries=entries)
    assert isinstance(error, SQS.exceptions.BatchRequestTooLong), error
    assert "1048577" in error.response["Error"]["Message"], error


@test
def the_largest_message():
    url = create("largest")
    body = "x" * MIB
    SQS.send_message(QueueUrl=url, MessageBody=body)
    assert receive_all(url, 1)[0]["Body"] == body
    equal(code_of(SQS.send_message, QueueUrl=url, MessageBody=body + "x"), "InvalidParameterValue")


@test
def vector_11_selecting_message_attributes():
    url = create("vector-11", VisibilityTimeout=0)
    values = {"Hello": "a", "General": "b", "Help.Me": "c"}
    SQS.send_message(
        QueueUrl=url,
        MessageBody="x",
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in values.items()
        },
    )
    digests = {}
    for names, expected in [
        ([], []),
        (["All"], list(values)),
        (["*"], list(values)),
        ([".*"], list(values)),
        (["Foo", "Help"], []),
        (["Hello", "General"], ["Hello", "General"]),
        (["Hel.*"], ["Hello", "Help.Me"]),
        (["AWS."], []),
        (["..foo"], []),
    ]:
        message = receive_all(url, 1, MessageAttributeNames=names)[0]
        equal(sorted(message.get("MessageAttributes", {})), sorted(expected))
        digests[len(expected)] = message.get("MD5OfMessageAttributes")
    equal(digests[0], None)
    assert digests[2] != digests[3], "the digest must be that of what is returned"


@test
def vector_30_bodies_come_back_as_they_went():
    url = create("vector-30")
    bodies = ['{"foo": "ba\rr"}', '"&quot;&quot;\r', "é \U0001f600 \t\n<&>"]
    for body in bodies:
        SQS.send_message(QueueUrl=url, MessageBody=body)
    messages = receive_all(url, len(bodies))
    equal(sorted(m["Body"] for m in messages), sorted(bodies))


@takes_a_minute
def vector_7_retention_ends_what_is_in_flight():
    url = create("vector-7", MessageRetentionPeriod=60, VisibilityTimeout=60)
    SQS.send_message(QueueUrl=url, MessageBody="x")
    begin = time.monotonic()
    time.sleep(5)
    handle = receive_all(url, 1)[0]["ReceiptHandle"]
    time.sleep(max(0, begin + 64 - time.monotonic()))
    # Asked for until after the lease would have ended.
    while time.monotonic() < begin + 70:
        equal(receive(url), [])
    SQS.delete_message(QueueUrl=url, ReceiptHandle=handle)
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = SQS.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    equal([counts[name] for name in names], ["0", "0"])


@test
def vector_12_the_trace_header_of_a_request():
    url = create("vector-12")
    client = new_client(endpoint())
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"

    def add_header(params, **_):
        params["headers"]["X-Amzn-Trace-Id"] = trace

    client.meta.events.register("before-call.sqs", add_header)
    client.send_message(QueueUrl=url, MessageBody="one")
    entries = [{"Id": "a", "MessageBody": "two"}]
    equal(len(client.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]), 1)
    wanted = {SYSTEM_ATTRIBUTE_NAMES: ["AWSTraceHeader"]}
    for message in receive_all(url, 2, VisibilityTimeout=30, **wanted):
        equal(message["Attributes"], {"AWSTraceHeader": trace})


@test
def delays_of_queue_and_message():
    url = create("delays", DelaySeconds=900)
    SQS.send_message(QueueUrl=url, MessageBody="waits")
    SQS.send_message(QueueUrl=url, MessageBody="at once", DelaySeconds=0)
    SQS.send_message(QueueUrl=url, MessageBody="soon", DelaySeconds=2)
    equal([m["Body"] for m in receive_all(url, 1, VisibilityTimeout=60)], ["at once"])
    # Woken when the delay ends, not when the wait does.
    begin = time.monotonic()
    equal([m["Body"] for m in receive(url, WaitTimeSeconds=20)], ["soon"])
    assert time.monotonic() - begin < 15
    # Another delay is for what is sent from now on.
    SQS.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "0"})
    equal(receive(url), [])
