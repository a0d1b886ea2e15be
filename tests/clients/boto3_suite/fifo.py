"""FIFO queues."""

import time
from concurrent.futures import ThreadPoolExecutor

from .harness import (
    SQS, SYSTEM_ATTRIBUTE_NAMES, bodies, code_of, create_fifo, equal, error_of, fifo_with,
    receive, send_fifo, short, test,
)


@test
def fifo_attributes_and_what_a_send_must_have():
    url = create_fifo("strict")
    shown = SQS.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    for name, value in {
        "FifoQueue": "true",
        "ContentBasedDeduplication": "false",
        "DeduplicationScope": "queue",
        "FifoThroughputLimit": "perQueue",
    }.items():
        equal(shown[name], value)
    body = {"QueueUrl": url, "MessageBody": "b"}
    equal(code_of(SQS.send_message, **body), "MissingParameter")
    group = {**body, "MessageGroupId": "g"}
    equal(code_of(SQS.send_message, **group), "InvalidParameterValue")
    delayed = {**group, "MessageDeduplicationId": "d", "DelaySeconds": 1}
    equal(code_of(SQS.send_message, **delayed), "InvalidParameterValue")
    equal(code_of(SQS.create_queue, QueueName="nameless.fifo"), "InvalidParameterValue")


@test
def fifo_sends_say_where_they_are():
    url = create_fifo("numbered", ContentBasedDeduplication="true")
    first = SQS.send_message(QueueUrl=url, MessageBody="same", MessageGroupId="g")
    again = SQS.send_message(QueueUrl=url, MessageBody="same", MessageGroupId="g")
    other = SQS.send_message(QueueUrl=url, MessageBody="other", MessageGroupId="g")
    assert len(first["SequenceNumber"]) == 20
    equal(again["MessageId"], first["MessageId"])
    equal(again["SequenceNumber"], first["SequenceNumber"])
    assert other["SequenceNumber"] > first["SequenceNumber"]
    message = short(url, 10, **{SYSTEM_ATTRIBUTE_NAMES: ["All"]})[0]
    digest = "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5"
    equal(message["Attributes"]["MessageDeduplicationId"], digest)
    equal(message["Attributes"]["MessageGroupId"], "g")
    equal(message["Attributes"]["SequenceNumber"], first["SequenceNumber"])


@test
def vector_14_a_batch_is_filled_from_one_group_first():
    url = fifo_with("v14", "g1-m1", "g2-m1", "g1-m2", "g1-m3")
    equal(bodies(short(url, 10)), ["g1-m1", "g1-m2", "g1-m3", "g2-m1"])


@test
def vector_15_groups_are_held_and_come_again():
    url = fifo_with("v15", "g1-m1", "g1-m2", "g1-m3", "g1-m4", "g2-m1", "g3-m1")
    equal(bodies(short(url, 2, VisibilityTimeout=2)), ["g1-m1", "g1-m2"])
    equal(bodies(short(url, 1, VisibilityTimeout=2)), ["g2-m1"])
    time.sleep(2.2)
    # The group that waited all the time, then those that came back, in the order in which they did.
    seen = bodies(short(url, 10, VisibilityTimeout=0))
    equal(seen, ["g3-m1", "g1-m1", "g1-m2", "g1-m3", "g1-m4", "g2-m1"])


@test
def vector_16_visible_groups():
    url = fifo_with("v16", "g1-m1", "g2-m1", "g2-m2", "g3-m1", "g1-m2")
    equal(bodies(short(url, 3, VisibilityTimeout=0)), ["g1-m1", "g1-m2", "g2-m1"])
    rest = bodies(short(url, 10, VisibilityTimeout=0))
    equal(rest, ["g3-m1", "g1-m1", "g1-m2", "g2-m1", "g2-m2"])


@test
def vector_17_one_message_is_released():
    url = fifo_with("v17", "g1-m1", "g1-m2", "g2-m1")
    first, _ = short(url, 2, VisibilityTimeout=30)
    handle = first["ReceiptHandle"]
    SQS.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    equal(bodies(short(url, 3)), ["g2-m1", "g1-m1"])


@test
def vector_18_one_message_is_held_longer():
    for at, again in enumerate([[], ["g-m1"], ["g-m1", "g-m2"]]):
        url = fifo_with(f"v18-{at}", "g-m1", "g-m2", "g-m3")
        handle = short(url, 3, VisibilityTimeout=1)[at]["ReceiptHandle"]
        SQS.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=4)
        time.sleep(2.5)
        equal(bodies(short(url, 5)), again)


@test
def vector_19_a_group_goes_on_when_all_that_was_out_is_deleted():
    url = fifo_with("v19", "g1-m1", "g1-m2", "g1-m3", "g1-m4")
    first, second = short(url, 2, VisibilityTimeout=30)
    SQS.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    equal(short(url, 10), [])
    SQS.delete_message(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"])
    equal(bodies(short(url, 10)), ["g1-m3", "g1-m4"])


@test
def vector_20_expired_handles_of_a_fifo_queue():
    url = fifo_with("v20", "g-m1", "h-m1")
    handle = short(url, 1, VisibilityTimeout=1)[0]["ReceiptHandle"]
    longer = short(url, 1, VisibilityTimeout=1)[0]["ReceiptHandle"]
    SQS.change_message_visibility(QueueUrl=url, ReceiptHandle=longer, VisibilityTimeout=5)
    time.sleep(1.2)
    error = error_of(SQS.delete_message, QueueUrl=url, ReceiptHandle=handle)
    equal(error.response["Error"]["Code"], "InvalidParameterValue")
    assert "The receipt handle has expired" in error.response["Error"]["Message"]
    SQS.delete_message(QueueUrl=url, ReceiptHandle=longer)
    batch = SQS.delete_message_batch(
        QueueUrl=url, Entries=[{"Id": "a", "ReceiptHandle": handle}]
    )
    equal(batch["Failed"][0]["Code"], "ReceiptHandleIsInvalid")


@test
def vector_21_blocked_messages_count_as_visible():
    url = fifo_with("v21", *[f"g{group}-m{n}" for group in (1, 2, 3) for n in (1, 2)])
    equal([len(short(url, 1)), len(short(url, 1))], [1, 1])
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    shown = SQS.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    equal([shown[name] for name in names], ["4", "2"])


@test
def vector_22_scopes_of_deduplication():
    def count(url, *sent):
        send_fifo(url, *sent, MessageDeduplicationId="same")
        messages = short(url, 10)
        for message in messages:
            SQS.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return len(messages)

    url = create_fifo("v22-queue")
    equal(count(url, "g1-m1", "g2-m1"), 1)
    equal(count(url, "g1-m1"), 0)
    SQS.purge_queue(QueueUrl=url)
    equal(count(url, "g1-m1"), 1)
    spread = {"DeduplicationScope": "messageGroup"}
    equal(count(create_fifo("v22-group", **spread), "g1-m1", "g2-m1", "g1-m1"), 2)
    high = {**spread, "FifoThroughputLimit": "perMessageGroupId"}
    equal(count(create_fifo("v22-high", **high), "g1-m1", "g2-m1", "g1-m1"), 2)


@test
def vector_23_the_delay_of_a_fifo_queue():
    url = create_fifo("v23", DelaySeconds=2)
    send_fifo(url, "g-m1", DelaySeconds=0)
    equal(short(url, 1), [])
    equal(bodies(receive(url, WaitTimeSeconds=5)), ["g-m1"])
    error = error_of(
        SQS.send_message,
        QueueUrl=url,
        MessageBody="x",
        MessageGroupId="g",
        MessageDeduplicationId="x",
        DelaySeconds=5,
    )
    equal(error.response["Error"]["Code"], "InvalidParameterValue")
    equal(
        error.response["Error"]["Message"],
        "Value 5 for parameter DelaySeconds is invalid. Reason: The request include parameter "
        "that is not valid for this queue type.",
    )


@test
def a_repeated_attempt_gets_the_same_messages():
    for name, more in {"home": {}, "spread": {"DeduplicationScope": "messageGroup"}}.items():
        url = create_fifo(f"attempts-{name}", **more)
        send_fifo(url, "g1-m1", "g1-m2", "g2-m1", "g3-m1")
        asked = {"ReceiveRequestAttemptId": "again", "VisibilityTimeout": 30}
        first = short(url, 2, **asked)
        assert first
        again = short(url, 2, **asked)
        equal(bodies(again), bodies(first))
        other = short(url, 10, **{**asked, "ReceiveRequestAttemptId": "other"})
        assert not set(bodies(other)) & set(bodies(first))
        # Never more than asked for.
        equal(bodies(short(url, 1, **asked)), bodies(first)[:1])
        # A handle of either answer is good.
        SQS.delete_message(QueueUrl=url, ReceiptHandle=first[0]["ReceiptHandle"])
        assert not set(bodies(short(url, 10, **asked))) & set(bodies(first))


@test
def a_freed_group_wakes_a_long_poll():
    url = fifo_with("waking", "g-m1", "g-m2")
    handle = short(url, 1)[0]["ReceiptHandle"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(receive, url, WaitTimeSeconds=20)
        time.sleep(0.5)
        SQS.delete_message(QueueUrl=url, ReceiptHandle=handle)
        equal(bodies(waiting.result(timeout=5)), ["g-m2"])


@test
def many_groups_of_a_spread_queue_keep_their_order():
    url = create_fifo(
        "many", DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId"
    )
    sent = [f"g{n % 20}-{n:03}" for n in range(200)]
    for at in range(0, 200, 10):
        entries = [
            {
                "Id": body,
                "MessageBody": body,
                "MessageGroupId": body.split("-")[0],
                "MessageDeduplicationId": body,
            }
            for body in sent[at : at + 10]
        ]
        equal(len(SQS.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]), 10)
    seen = []
    while messages := receive(url, MaxNumberOfMessages=10):
        seen += bodies(messages)
        entries = [
            {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]}
            for n, message in enumerate(messages)
        ]
        equal(len(SQS.delete_message_batch(QueueUrl=url, Entries=entries)["Successful"]), len(entries))
    for group in range(20):
        mine = f"g{group}-"
        equal([b for b in seen if b.startswith(mine)], [b for b in sent if b.startswith(mine)])


@test
def groups_keep_their_order_when_the_scope_changes():
    """Messages that wait go first, whatever shard later ones go to."""
    url = create_fifo("scopes")
    attributes = [
        {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"},
        {"DeduplicationScope": "queue", "FifoThroughputLimit": "perQueue"},
    ]
    for at in range(4):
        sent = [f"g{group}-{at}{number}" for number in range(2) for group in range(6)]
        send_fifo(url, *sent[:6])
        SQS.set_queue_attributes(QueueUrl=url, Attributes=attributes[at % 2])
        shown = SQS.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        equal({name: shown[name] for name in attributes[0]}, attributes[at % 2])
        send_fifo(url, *sent[6:])
        seen = []
        while len(seen) < len(sent):
            for message in receive(url, MaxNumberOfMessages=10):
                seen.append(message["Body"])
                SQS.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        for group in range(6):
            mine = f"g{group}-"
            equal([b for b in seen if b.startswith(mine)], [b for b in sent if b.startswith(mine)])
