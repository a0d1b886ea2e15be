"""All actions, and recorded behaviour of the real service, through boto3."""

import base64
import hashlib
import json
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = sys.argv[1]
# No retries: a test must see what the server answered.
SQS = boto3.client(
    "sqs",
    endpoint_url=ENDPOINT,
    config=Config(retries={"total_max_attempts": 1, "mode": "standard"}),
)
PROTOCOL = SQS.meta.service_model.metadata["protocol"]
assert PROTOCOL == sys.argv[2], f"this boto3 speaks {PROTOCOL}"
# The versions that speak the Query protocol know this member by its older name only.
SYSTEM_ATTRIBUTE_NAMES = {"json": "MessageSystemAttributeNames", "query": "AttributeNames"}[PROTOCOL]
TESTS = []
MIB = 1_048_576


def test(function):
    TESTS.append(function)
    return function


def create(name, **attributes):
    attributes = {key: str(value) for key, value in attributes.items()}
    return SQS.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]


def receive(url, **more):
    """One receive that asks every shard."""
    answer = SQS.receive_message(QueueUrl=url, **{"WaitTimeSeconds": 1, **more})
    return answer.get("Messages", [])


def receive_all(url, count, **more):
    messages = []
    end = time.monotonic() + 20
    while len(messages) < count and time.monotonic() < end:
        messages += receive(url, MaxNumberOfMessages=10, **more)
    assert len(messages) == count, f"{len(messages)} instead of {count}"
    return messages


def error_of(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error
    raise AssertionError("no error")


def code_of(call, **arguments):
    return error_of(call, **arguments).response["Error"]["Code"]


def status_of(error):
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def equal(seen, expected):
    assert seen == expected, f"{seen!r} instead of {expected!r}"


@test
def queue_actions():
    url = create("actions", VisibilityTimeout=7)
    equal(url, f"{ENDPOINT}/000000000000/actions")
    equal(SQS.get_queue_url(QueueName="actions")["QueueUrl"], url)
    equal(SQS.list_queues(QueueNamePrefix="actions")["QueueUrls"], [url])
    SQS.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "1"})
    attributes = SQS.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    equal(attributes["VisibilityTimeout"], "7")
    equal(attributes["DelaySeconds"], "1")
    equal(attributes["QueueArn"], "arn:aws:sqs:us-east-1:000000000000:actions")
    equal(attributes["MaximumMessageSize"], str(MIB))
    SQS.delete_queue(QueueUrl=url)
    equal(code_of(SQS.get_queue_url, QueueName="actions"), "AWS.SimpleQueueService.NonExistentQueue")


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
def tags():
    url = SQS.create_queue(QueueName="tags", tags={"team": "a"})["QueueUrl"]
    SQS.tag_queue(QueueUrl=url, Tags={"team": "b", "Team": "", "caf\u00e9": "x y"})
    equal(
        SQS.list_queue_tags(QueueUrl=url)["Tags"], {"team": "b", "Team": "", "caf\u00e9": "x y"}
    )
    SQS.untag_queue(QueueUrl=url, TagKeys=["team", "Team", "unknown"])
    equal(SQS.list_queue_tags(QueueUrl=url)["Tags"], {"caf\u00e9": "x y"})
    SQS.untag_queue(QueueUrl=url, TagKeys=["caf\u00e9"])
    assert "Tags" not in SQS.list_queue_tags(QueueUrl=url)
    many = {f"k{n}": "v" for n in range(51)}
    error = error_of(SQS.tag_queue, QueueUrl=url, Tags=many)
    equal(error.response["Error"]["Code"], "InvalidParameterValue")
    equal(error.response["Error"]["Message"], "Too many tags added for queue tags.")
    missing = f"{ENDPOINT}/000000000000/missing"
    for call, arguments in [
        (SQS.tag_queue, {"Tags": {"a": "b"}}),
        (SQS.untag_queue, {"TagKeys": ["a"]}),
        (SQS.list_queue_tags, {}),
    ]:
        equal(code_of(call, QueueUrl=missing, **arguments), "AWS.SimpleQueueService.NonExistentQueue")


@test
def permissions():
    url = create("permissions")
    arn = "arn:aws:sqs:us-east-1:000000000000:permissions"

    def policy():
        answer = SQS.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
        return answer.get("Attributes", {}).get("Policy")

    def reason(call, **arguments):
        error = error_of(call, QueueUrl=url, **arguments)
        equal(error.response["Error"]["Code"], "InvalidParameterValue")
        return error.response["Error"]["Message"].split("Reason: ")[1]

    grant = {"Label": "l", "AWSAccountIds": ["111111111111"], "Actions": ["ReceiveMessage"]}
    equal(reason(SQS.remove_permission, Label="l"), "can't find label.")
    SQS.add_permission(QueueUrl=url, **grant)
    equal(
        json.loads(policy()),
        {
            "Version": "2008-10-17",
            "Id": f"{arn}/SQSDefaultPolicy",
            "Statement": [
                {
                    "Sid": "l",
                    "Effect": "Allow",
                    "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
                    "Action": "SQS:ReceiveMessage",
                    "Resource": arn,
                }
            ],
        },
    )
    equal(reason(SQS.add_permission, **grant), "Already exists.")
    actions = ["SendMessage"] * 8
    error = error_of(SQS.add_permission, QueueUrl=url, **{**grant, "Actions": actions})
    assert isinstance(error, SQS.exceptions.OverLimit), error
    SQS.remove_permission(QueueUrl=url, Label="l")
    equal(policy(), None)


@test
def pages():
    names = {f"page-{n}" for n in range(7)}
    for name in names:
        create(name)
    paginator = SQS.get_paginator("list_queues")
    found = []
    sizes = []
    for page in paginator.paginate(QueueNamePrefix="page-", PaginationConfig={"PageSize": 3}):
        urls = page.get("QueueUrls", [])
        sizes.append(len(urls))
        found += [url.rsplit("/", 1)[1] for url in urls]
    equal(sorted(found), sorted(names))
    assert max(sizes) <= 3 and len(sizes) >= 3, sizes


@test
def dead_letter_sources():
    create("dead")
    policy = '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":3}'
    sources = [create(f"source-{n}", RedrivePolicy=policy) for n in range(3)]
    paginator = SQS.get_paginator("list_dead_letter_source_queues")
    pages = paginator.paginate(
        QueueUrl=f"{ENDPOINT}/000000000000/dead", PaginationConfig={"PageSize": 2}
    )
    pages = [page["queueUrls"] for page in pages]
    equal([len(page) for page in pages], [2, 1])
    equal(sorted(sum(pages, [])), sorted(sources))
    # XML has no empty lists.
    equal(SQS.list_dead_letter_source_queues(QueueUrl=sources[0]).get("queueUrls", []), [])


@test
def error_classes():
    missing = f"{ENDPOINT}/000000000000/missing"
    try:
        SQS.send_message(QueueUrl=missing, MessageBody="x")
        raise AssertionError("no error")
    except SQS.exceptions.QueueDoesNotExist as error:
        equal(status_of(error), 400)
        if PROTOCOL == "json":
            equal(error.response["Error"]["QueryErrorCode"], "QueueDoesNotExist")
        end = {"json": ".", "query": " for this wsdl version."}[PROTOCOL]
        equal(error.response["Error"]["Message"], f"The specified queue does not exist{end}")
    url = create("errors")
    for call, arguments, exception, status in [
        (SQS.delete_message, {"ReceiptHandle": "garbage"}, SQS.exceptions.ReceiptHandleIsInvalid, 404),
        (SQS.send_message_batch, {"Entries": []}, SQS.exceptions.EmptyBatchRequest, 400),
        (
            SQS.send_message_batch,
            {"Entries": [{"Id": str(n), "MessageBody": "x"} for n in range(11)]},
            SQS.exceptions.TooManyEntriesInBatchRequest,
            400,
        ),
        (
            SQS.send_message_batch,
            {"Entries": [{"Id": "a", "MessageBody": "x"}] * 2},
            SQS.exceptions.BatchEntryIdsNotDistinct,
            400,
        ),
        (
            SQS.send_message_batch,
            {"Entries": [{"Id": "a.b", "MessageBody": "x"}]},
            SQS.exceptions.InvalidBatchEntryId,
            400,
        ),
        (
            SQS.set_queue_attributes,
            {"Attributes": {"Colour": "blue"}},
            SQS.exceptions.InvalidAttributeName,
            400,
        ),
        (
            SQS.set_queue_attributes,
            {"Attributes": {"DelaySeconds": "901"}},
            # Older models do not know it.
            getattr(SQS.exceptions, "InvalidAttributeValue", ClientError),
            400,
        ),
        (SQS.send_message, {"MessageBody": "\x0b"}, SQS.exceptions.InvalidMessageContents, 400),
    ]:
        error = error_of(call, QueueUrl=url, **arguments)
        assert isinstance(error, exception), f"{error!r} is no {exception.__name__}"
        equal(status_of(error), status)
    equal(code_of(SQS.send_message, QueueUrl=url, MessageBody=""), "MissingParameter")
    equal(
        code_of(SQS.receive_message, QueueUrl=url, MaxNumberOfMessages=11), "InvalidParameterValue"
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


def redrive_to(target, count):
    arn = f"arn:aws:sqs:us-east-1:000000000000:{target}"
    return json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": count})


@test
def vector_6_dead_letters():
    dead = create("dead")
    url = create("deadly", RedrivePolicy=redrive_to("dead", 1), VisibilityTimeout=0)
    sent = SQS.send_message(
        QueueUrl=url,
        MessageBody="poison",
        MessageAttributes={"kind": {"DataType": "String", "StringValue": "bad"}},
        MessageSystemAttributes={
            "AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe"}
        },
    )
    everything = {SYSTEM_ATTRIBUTE_NAMES: ["All"], "MessageAttributeNames": ["All"]}
    first = receive_all(url, 1, **everything)[0]
    equal(first["Attributes"]["ApproximateReceiveCount"], "1")
    assert "DeadLetterQueueSourceArn" not in first["Attributes"]
    equal(receive(url), [])
    moved = receive_all(dead, 1, **everything)[0]
    equal((moved["MessageId"], moved["Body"]), (sent["MessageId"], "poison"))
    equal(moved["MessageAttributes"], first["MessageAttributes"])
    equal(
        moved["Attributes"],
        {
            **first["Attributes"],
            "ApproximateReceiveCount": "2",
            "DeadLetterQueueSourceArn": "arn:aws:sqs:us-east-1:000000000000:deadly",
        },
    )
    equal(receive(url), [])
    # A handle of the source is worth nothing any more, but deleting with it is no error.
    SQS.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    SQS.delete_message(QueueUrl=dead, ReceiptHandle=moved["ReceiptHandle"])
    equal(receive(dead, VisibilityTimeout=0), [])


@test
def dead_letters_without_their_queue_are_delivered():
    dead = create("short-lived")
    url = create("loyal", RedrivePolicy=redrive_to("short-lived", 1), VisibilityTimeout=0)
    SQS.send_message(QueueUrl=url, MessageBody="poison")
    receive_all(url, 1)
    SQS.delete_queue(QueueUrl=dead)
    receive_all(url, 1)


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
def vector_10_creating_again():
    url = create("vector-10", DelaySeconds=1)
    time.sleep(1)
    equal(create("vector-10"), url)
    equal(create("vector-10", DelaySeconds=1), url)

    def differs(value):
        error = error_of(
            SQS.create_queue, QueueName="vector-10", Attributes={"DelaySeconds": value}
        )
        assert isinstance(error, SQS.exceptions.QueueNameExists), error
        assert "DelaySeconds" in error.response["Error"]["Message"], error

    differs("2")
    SQS.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "2"})
    equal(create("vector-10", DelaySeconds=2), url)
    differs("1")


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


def create_fifo(name, **attributes):
    return create(f"{name}.fifo", FifoQueue="true", **attributes)


def send_fifo(url, *bodies, **more):
    """Bodies like "g1-m2": the group is what comes before the dash."""
    for body in bodies:
        SQS.send_message(
            QueueUrl=url,
            MessageBody=body,
            MessageGroupId=body.split("-")[0],
            **{"MessageDeduplicationId": body, **more},
        )


def bodies(messages):
    return [message["Body"] for message in messages]


def short(url, count, **more):
    """One short poll: of a FIFO queue it returns what is there."""
    return receive(url, MaxNumberOfMessages=count, WaitTimeSeconds=0, **more)


def fifo_with(name, *sent):
    url = create_fifo(name)
    send_fifo(url, *sent)
    return url


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
    seen = bodies(short(url, 10, VisibilityTimeout=0))
    equal(sorted(seen), ["g1-m1", "g1-m2", "g1-m3", "g1-m4", "g2-m1", "g3-m1"])
    equal([b for b in seen if b.startswith("g1")], ["g1-m1", "g1-m2", "g1-m3", "g1-m4"])


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


@test
def vector_24_dead_letters_of_a_fifo_queue():
    dead = create_fifo("v24-dead")
    url = create_fifo("v24", RedrivePolicy=redrive_to("v24-dead.fifo", 2))
    send_fifo(url, "g-m1", "g-m2")
    first = short(url, 1, VisibilityTimeout=0)[0]
    equal(bodies(short(url, 1, VisibilityTimeout=0)), ["g-m1"])
    equal(short(url, 1, VisibilityTimeout=0), [])
    equal(bodies(short(url, 1, VisibilityTimeout=0)), ["g-m2"])
    moved = short(dead, 10, **{SYSTEM_ATTRIBUTE_NAMES: ["All"]})[0]
    equal(moved["MessageId"], first["MessageId"])
    equal(moved["Attributes"]["MessageGroupId"], "g")
    equal(moved["Attributes"]["MessageDeduplicationId"], first["MessageId"])


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


def arn_of(name):
    return f"arn:aws:sqs:us-east-1:000000000000:{name}"


def fill_dead_letters(name, count, sources=("source",)):
    """A dead-letter queue with so many messages of each source; the sources' URLs by name."""
    dead = create(f"{name}-dead")
    urls = {}
    for source in sources:
        url = create(
            f"{name}-{source}", RedrivePolicy=redrive_to(f"{name}-dead", 1), VisibilityTimeout=0
        )
        for n in range(count):
            SQS.send_message(QueueUrl=url, MessageBody=f"{source} {n}")
        urls[source] = url
        receive_all(url, count)
        while receive(url, MaxNumberOfMessages=10):
            pass
    return dead, urls


def tasks_of(name, **more):
    return SQS.list_message_move_tasks(SourceArn=arn_of(f"{name}-dead"), **more)["Results"]


def ended(name):
    end = time.monotonic() + 20
    while (task := tasks_of(name)[0])["Status"] in ("RUNNING", "CANCELLING"):
        assert time.monotonic() < end, task
        time.sleep(0.1)
    return task


@test
def vector_25_dead_letters_are_moved():
    _, urls = fill_dead_letters("v25", 2, ["one", "two"])
    other = create("v25-other")
    handle = SQS.start_message_move_task(SourceArn=arn_of("v25-dead"))["TaskHandle"]
    assert handle
    task = ended("v25")
    equal(task["Status"], "COMPLETED")
    equal(task["ApproximateNumberOfMessagesMoved"], 4)
    equal(task["ApproximateNumberOfMessagesToMove"], 4)
    assert "TaskHandle" not in task and "DestinationArn" not in task
    for source, url in urls.items():
        SQS.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": ""})
        messages = receive_all(
            url, 2, VisibilityTimeout=30, **{SYSTEM_ATTRIBUTE_NAMES: ["All"]}
        )
        equal(sorted(bodies(messages)), [f"{source} 0", f"{source} 1"])
        equal({m["Attributes"]["ApproximateReceiveCount"] for m in messages}, {"1"})
        assert all("DeadLetterQueueSourceArn" not in m["Attributes"] for m in messages)

    fill_dead_letters("v25b", 2)
    SQS.start_message_move_task(SourceArn=arn_of("v25b-dead"), DestinationArn=arn_of("v25-other"))
    task = ended("v25b")
    equal((task["Status"], task["DestinationArn"]), ("COMPLETED", arn_of("v25-other")))
    equal(sorted(bodies(receive_all(other, 2))), ["source 0", "source 1"])


@test
def vector_26_the_rate_of_a_move():
    fill_dead_letters("v26", 4)
    begin = time.monotonic()
    SQS.start_message_move_task(SourceArn=arn_of("v26-dead"), MaxNumberOfMessagesPerSecond=1)
    task = ended("v26")
    assert time.monotonic() - begin >= 3
    equal((task["Status"], task["ApproximateNumberOfMessagesMoved"]), ("COMPLETED", 4))
    equal(task["MaxNumberOfMessagesPerSecond"], 1)


@test
def vector_27_errors_of_moves():
    fill_dead_letters("v27", 8)
    start = {"SourceArn": arn_of("v27-dead"), "MaxNumberOfMessagesPerSecond": 1}
    handle = SQS.start_message_move_task(**start)["TaskHandle"]
    equal(code_of(SQS.start_message_move_task, **start), "InvalidParameterValue")
    equal(code_of(SQS.cancel_message_move_task, TaskHandle="foobared"), "InvalidParameterValue")
    told = json.loads(base64.b64decode(handle))
    unknown = {**told, "taskId": "00000000-0000-4000-8000-000000000000"}
    elsewhere = {**told, "sourceArn": arn_of("v27-nowhere")}
    for wrong in (unknown, elsewhere):
        forged = base64.b64encode(json.dumps(wrong).encode()).decode()
        error = error_of(SQS.cancel_message_move_task, TaskHandle=forged)
        equal((error.response["Error"]["Code"], status_of(error)), ("ResourceNotFoundException", 404))
    equal(tasks_of("v27")[0]["TaskHandle"], handle)
    SQS.cancel_message_move_task(TaskHandle=handle)
    equal(ended("v27")["Status"], "CANCELLED")
    equal(code_of(SQS.cancel_message_move_task, TaskHandle=handle), "InvalidParameterValue")
    nobodys = {"SourceArn": arn_of("v27-source")}
    equal(code_of(SQS.start_message_move_task, **nobodys), "InvalidParameterValue")
    for missing in ({"SourceArn": arn_of("v27-none")}, {**start, "DestinationArn": arn_of("v27-none")}):
        equal(code_of(SQS.start_message_move_task, **missing), "ResourceNotFoundException")


@test
def a_move_without_a_way_back_fails():
    dead, _ = fill_dead_letters("lost", 1)
    SQS.send_message(QueueUrl=dead, MessageBody="sent here")
    SQS.start_message_move_task(SourceArn=arn_of("lost-dead"))
    task = ended("lost")
    equal((task["Status"], task["FailureReason"]), ("FAILED", "CouldNotDetermineMessageSource"))
    assert "sent here" in bodies(receive_all(dead, 2 - task["ApproximateNumberOfMessagesMoved"]))


@test
def dead_letters_of_a_fifo_queue_are_moved_in_order():
    create_fifo("back-dead")
    url = create_fifo("back", RedrivePolicy=redrive_to("back-dead.fifo", 1), VisibilityTimeout=0)
    other = create_fifo("back-other")
    sent = [f"g{n % 2}-{n}" for n in range(8)]
    send_fifo(url, *sent)
    while receive(url, MaxNumberOfMessages=10):
        pass
    to = {"DestinationArn": arn_of("back-other.fifo")}
    SQS.start_message_move_task(SourceArn=arn_of("back-dead.fifo"), **to)
    seen = []
    while len(seen) < 8:
        messages = receive(other, MaxNumberOfMessages=10)
        seen += bodies(messages)
        for message in messages:
            SQS.delete_message(QueueUrl=other, ReceiptHandle=message["ReceiptHandle"])
    for group in ("g0", "g1"):
        equal([b for b in seen if b.startswith(group)], [b for b in sent if b.startswith(group)])


@test
def vector_30_bodies_come_back_as_they_went():
    url = create("vector-30")
    bodies = ['{"foo": "ba\rr"}', '"&quot;&quot;\r', "é \U0001f600 \t\n<&>"]
    for body in bodies:
        SQS.send_message(QueueUrl=url, MessageBody=body)
    messages = receive_all(url, len(bodies))
    equal(sorted(m["Body"] for m in messages), sorted(bodies))


def main():
    passed = 0
    for function in TESTS:
        try:
            function()
        except Exception:  # one failure must not hide the next
            print(f"FAIL {function.__name__}")
            traceback.print_exc(file=sys.stdout)
        else:
            passed += 1
            print(f"ok   {function.__name__}")
    failed = len(TESTS) - passed
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
