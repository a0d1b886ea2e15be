"""What the documents say in passing: each a line there, and a thing that somebody relies on."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

from .dead_letters import ended, fill_dead_letters, tasks_of
from .harness import (
    SQS, SYSTEM_ATTRIBUTE_NAMES, arn_of, bodies, code_of, create, create_fifo, equal, error_of,
    receive, receive_all, redrive_to, short, test,
)

ALL = {SYSTEM_ATTRIBUTE_NAMES: ["All"], "MessageAttributeNames": ["All"]}


def shown(url, *names):
    answer = SQS.get_queue_attributes(QueueUrl=url, AttributeNames=names or ["All"])
    return answer.get("Attributes", {})


@test
def a_cancelled_move_stops_and_the_rest_stays():
    dead, urls = fill_dead_letters("stopped", 8)
    start = {"SourceArn": arn_of("stopped-dead"), "DestinationArn": arn_of("stopped-source")}
    task = SQS.start_message_move_task(**start, MaxNumberOfMessagesPerSecond=1)
    end = time.monotonic() + 20
    while tasks_of("stopped")[0]["ApproximateNumberOfMessagesMoved"] == 0:
        assert time.monotonic() < end
        time.sleep(0.1)
    SQS.cancel_message_move_task(TaskHandle=task["TaskHandle"])
    task = ended("stopped")
    equal(task["Status"], "CANCELLED")
    moved = task["ApproximateNumberOfMessagesMoved"]
    assert 0 < moved < 8, task
    time.sleep(2)
    equal(len(receive_all(urls["source"], moved, VisibilityTimeout=60)), moved)
    equal(receive(urls["source"]), [])
    equal(len(receive_all(dead, 8 - moved, VisibilityTimeout=60)), 8 - moved)
    equal(receive(dead), [])


@test
def what_is_moved_back_is_a_new_message_of_its_group():
    dead = create("anew-dead")
    url = create("anew", RedrivePolicy=redrive_to("anew-dead", 1), VisibilityTimeout=0)
    # Older models of boto3 know no groups of standard queues, but send them.
    sent = SQS.send_message(QueueUrl=url, MessageBody="b", MessageGroupId="tenant")
    before = receive_all(url, 1, **ALL)[0]
    equal(before["Attributes"]["MessageGroupId"], "tenant")
    while receive(url):
        pass
    letter = receive_all(dead, 1, VisibilityTimeout=0, **ALL)[0]
    equal((letter["MessageId"], letter["Attributes"]["MessageGroupId"]), (sent["MessageId"], "tenant"))
    equal(letter["Attributes"]["SentTimestamp"], before["Attributes"]["SentTimestamp"])
    SQS.start_message_move_task(SourceArn=arn_of("anew-dead"))
    equal(ended("anew")["Status"], "COMPLETED")
    back = receive_all(url, 1, **ALL)[0]
    assert back["MessageId"] != sent["MessageId"]
    equal((back["Body"], back["Attributes"]["MessageGroupId"]), ("b", "tenant"))
    equal(back["Attributes"]["ApproximateReceiveCount"], "1")
    assert int(back["Attributes"]["SentTimestamp"]) > int(before["Attributes"]["SentTimestamp"])


@test
def one_bad_entry_of_a_batch_fails_alone():
    url = create("bad-entries")
    text = {"DataType": "String", "StringValue": "v"}
    bad = {
        "type": {"a": {"DataType": "Text", "StringValue": "v"}},
        "empty": {"a": {"DataType": "String", "StringValue": ""}},
        "number": {"a": {"DataType": "Number", "StringValue": "one"}},
        "prefix": {"AWS.a": text},
        "dots": {"a..b": text},
        "many": {f"a{n}": text for n in range(11)},
    }
    entries = [{"Id": "first", "MessageBody": "first"}]
    entries += [{"Id": i, "MessageBody": i, "MessageAttributes": a} for i, a in bad.items()]
    entries += [{"Id": "last", "MessageBody": "last", "MessageAttributes": {"a": text}}]
    answer = SQS.send_message_batch(QueueUrl=url, Entries=entries)
    equal([entry["Id"] for entry in answer["Successful"]], ["first", "last"])
    equal([entry["Id"] for entry in answer["Failed"]], list(bad))
    equal({(e["Code"], e["SenderFault"]) for e in answer["Failed"]}, {("InvalidParameterValue", True)})
    equal(sorted(bodies(receive_all(url, 2))), ["first", "last"])


def digest_of(attributes):
    """Names in order, each with the length of what follows; 1 is text, 2 is bytes."""
    parts = b""
    for name, attribute in sorted(attributes.items()):
        binary = "BinaryValue" in attribute
        value = attribute["BinaryValue"] if binary else attribute["StringValue"].encode()
        for part in (name.encode(), attribute["DataType"].encode()):
            parts += len(part).to_bytes(4, "big") + part
        parts += (b"\x02" if binary else b"\x01") + len(value).to_bytes(4, "big") + value
    return hashlib.md5(parts).hexdigest() if attributes else None


@test
def digests_of_batches_and_of_what_is_returned():
    url = create("all-digests", VisibilityTimeout=0)
    text = {"DataType": "String", "StringValue": "\u00e9"}
    number = {"DataType": "Number.int", "StringValue": "7"}
    binary = {"DataType": "Binary", "BinaryValue": b"\x00\xff"}
    given = {"none": {}, "one": {"b": text}, "all": {"b.c": number, "a": binary, "B": text}}
    entries = [{"Id": i, "MessageBody": i, "MessageAttributes": a} for i, a in given.items()]
    sent = SQS.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]
    for entry in sent:
        equal(entry["MD5OfMessageBody"], hashlib.md5(entry["Id"].encode()).hexdigest())
        equal(entry.get("MD5OfMessageAttributes"), digest_of(given[entry["Id"]]))
    equal([entry["Id"] for entry in sent], list(given))
    for names in ([], ["b"], ["b.*"], ["a", "B"], ["All"]):
        for message in receive_all(url, 3, VisibilityTimeout=30, MessageAttributeNames=names):
            returned = message.get("MessageAttributes", {})
            equal(message.get("MD5OfMessageAttributes"), digest_of(returned))
            equal(message["MD5OfBody"], hashlib.md5(message["Body"].encode()).hexdigest())
            known = {k: v for k, v in given[message["Body"]].items() if k in returned}
            equal(returned, known)
            SQS.change_message_visibility(
                QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )


@test
def digests_of_system_attributes():
    url = create("digests")
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe"}}
    alone = SQS.send_message(QueueUrl=url, MessageBody="b", MessageSystemAttributes=trace)
    entries = [
        {"Id": "with", "MessageBody": "b", "MessageSystemAttributes": trace},
        {"Id": "without", "MessageBody": "b"},
    ]
    sent = SQS.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]
    digest = {entry["Id"]: entry.get("MD5OfMessageSystemAttributes") for entry in sent}
    expected = digest_of(trace)
    equal(alone["MD5OfMessageSystemAttributes"], expected)
    equal(digest, {"with": expected, "without": None})


@test
def what_counts_as_the_size_of_a_message():
    url = create("sizes", MaximumMessageSize=1024)
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe"}}

    def send(spare):
        # Name and type are 1 and 6 bytes; a binary value counts as it is, not as it is written.
        attribute = {"a": {"DataType": "Binary", "BinaryValue": b"\xff" * 500}}
        return {
            "QueueUrl": url,
            "MessageBody": "\u00e9" * 250 + "x" * (17 - spare),
            "MessageAttributes": attribute,
            "MessageSystemAttributes": trace,
        }

    SQS.send_message(**send(0))
    error = error_of(SQS.send_message, **send(-1)).response["Error"]
    equal(error["Code"], "InvalidParameterValue")
    assert error["Message"].endswith("Message must be shorter than 1024 bytes."), error


@test
def a_released_message_wakes_a_long_poll():
    url = create("released")
    SQS.send_message(QueueUrl=url, MessageBody="m")
    handle = receive_all(url, 1, VisibilityTimeout=600)[0]["ReceiptHandle"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(receive, url, WaitTimeSeconds=20)
        time.sleep(0.5)
        SQS.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
        equal(bodies(waiting.result(timeout=10)), ["m"])


@test
def handles_from_before_a_purge():
    url = create("purged-handles")
    SQS.send_message(QueueUrl=url, MessageBody="gone")
    handle = receive_all(url, 1)[0]["ReceiptHandle"]
    SQS.purge_queue(QueueUrl=url)
    SQS.send_message(QueueUrl=url, MessageBody="new")
    SQS.delete_message(QueueUrl=url, ReceiptHandle=handle)
    change = {"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 5}
    equal(code_of(SQS.change_message_visibility, **change), "InvalidParameterValue")
    equal(bodies(receive_all(url, 1)), ["new"])


@test
def only_the_body_makes_a_duplicate():
    url = create_fifo("hashed", ContentBasedDeduplication="true")
    group = {"QueueUrl": url, "MessageGroupId": "g"}
    attribute = {"a": {"DataType": "String", "StringValue": "v"}}
    first = SQS.send_message(MessageBody="same", **group)
    again = SQS.send_message(MessageBody="same", MessageAttributes=attribute, **group)
    equal(again["MessageId"], first["MessageId"])
    # An id of its own goes before what the body would come to.
    other = SQS.send_message(MessageBody="same", MessageDeduplicationId="another", **group)
    assert other["MessageId"] != first["MessageId"]
    equal(bodies(short(url, 10)), ["same", "same"])


@test
def numbers_of_a_queue():
    url = create("numbers")
    for delay in (0, 0, 0, 900, 900):
        SQS.send_message(QueueUrl=url, MessageBody="m", DelaySeconds=delay)
    # One message, unless more are asked for.
    equal([len(receive(url)), len(receive(url))], [1, 1])
    names = [f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed")]
    counts = shown(url, *names)
    equal([counts[name] for name in names], ["1", "2", "2"])


@test
def queues_count_seconds_and_messages_milliseconds():
    def near(stamp, unit_s):
        assert abs(int(stamp) * unit_s - time.time()) < 60, stamp

    dead, _ = fill_dead_letters("stamps", 1)
    for stamp in shown(dead, "CreatedTimestamp", "LastModifiedTimestamp").values():
        near(stamp, 1)
    SQS.start_message_move_task(SourceArn=arn_of("stamps-dead"), DestinationArn=arn_of("stamps-source"))
    near(ended("stamps")["StartedTimestamp"], 0.001)
    url = create("stamped")
    SQS.send_message(QueueUrl=url, MessageBody="m")
    stamps = receive_all(url, 1, **ALL)[0]["Attributes"]
    near(stamps["SentTimestamp"], 0.001)
    near(stamps["ApproximateFirstReceiveTimestamp"], 0.001)


@test
def a_change_is_dated():
    url = create("dated")
    created = shown(url, "CreatedTimestamp", "LastModifiedTimestamp")
    equal(created["LastModifiedTimestamp"], created["CreatedTimestamp"])
    time.sleep(1.1)
    SQS.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "1"})
    changed = shown(url, "CreatedTimestamp", "LastModifiedTimestamp")
    equal(changed["CreatedTimestamp"], created["CreatedTimestamp"])
    assert int(changed["LastModifiedTimestamp"]) > int(created["CreatedTimestamp"]), changed


@test
def attributes_that_a_queue_does_not_have_are_left_out():
    url = create("plain")
    fifo = ["FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"]
    equal(shown(url, *fifo), {})
    equal(shown(url, "VisibilityTimeout", *fifo), {"VisibilityTimeout": "30"})
    assert not set(fifo) & set(shown(url))
    # A key without a period of its own has the one of everybody.
    SQS.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "alias/x"})
    equal(shown(url, "KmsDataKeyReusePeriodSeconds"), {"KmsDataKeyReusePeriodSeconds": "300"})


@test
def a_queue_is_created_with_its_tags():
    def tagged(tags):
        return SQS.create_queue(QueueName="with-tags", tags=tags)["QueueUrl"]

    url = tagged({"team": "a", "Team": ""})
    equal(tagged({"Team": "", "team": "a"}), url)
    equal(create("with-tags"), url)
    for other in ({"team": "a"}, {"team": "b", "Team": ""}):
        equal(code_of(SQS.create_queue, QueueName="with-tags", tags=other), "QueueAlreadyExists")
    for bad in ({"aws:x": "v"}, {"a!": "v"}, {"k" * 129: "v"}, {"k": "v" * 257}):
        refused = code_of(SQS.create_queue, QueueName="without-tags", tags=bad)
        equal(refused, "InvalidParameterValue")
    missing = code_of(SQS.get_queue_url, QueueName="without-tags")
    equal(missing, "AWS.SimpleQueueService.NonExistentQueue")
