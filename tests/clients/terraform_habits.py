"""What Terraform's AWS provider does to queues: every attribute that it set must read back equal,
policies as JSON, again and again, at creation, after every change and after every removal."""

import json
import sys
import traceback

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = sys.argv[1]
SQS = boto3.client(
    "sqs",
    endpoint_url=ENDPOINT,
    config=Config(retries={"total_max_attempts": 1, "mode": "standard"}),
)
# The provider believes an answer that it has seen so many times in a row.
IN_A_ROW = 6
# What the provider sends for attributes that the configuration does not mention.
DEFAULTS = {
    "DelaySeconds": "0",
    "MaximumMessageSize": "262144",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "VisibilityTimeout": "30",
}
AS_JSON = {"Policy", "RedrivePolicy", "RedriveAllowPolicy"}
GONE = "AWS.SimpleQueueService.NonExistentQueue"
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def equal(seen, expected):
    assert seen == expected, f"{seen!r} instead of {expected!r}"


def arn(name):
    return f"arn:aws:sqs:us-east-1:000000000000:{name}"


def read(url, *names):
    answer = SQS.get_queue_attributes(QueueUrl=url, AttributeNames=list(names or ["All"]))
    return answer.get("Attributes", {})


def code_of(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError("no error")


def matches(name, seen, expected):
    if name not in seen:
        # An attribute that was removed; the reuse period shows only where a key is set.
        return expected == "" or (
            name == "KmsDataKeyReusePeriodSeconds" and not seen.get("KmsMasterKeyId")
        )
    if name in AS_JSON:
        return bool(expected) and json.loads(seen[name]) == json.loads(expected)
    return seen[name] == expected


def reads_back(url, expected):
    for _ in range(IN_A_ROW):
        seen = read(url)
        for name, value in expected.items():
            assert matches(name, seen, value), f"{name}: {seen.get(name)!r} instead of {value!r}"


def create(queue_name, tags=None, **attributes):
    arguments = {"QueueName": queue_name, "Attributes": attributes}
    url = SQS.create_queue(**arguments, **({"tags": tags} if tags else {}))["QueueUrl"]
    reads_back(url, attributes)
    # The name is taken from the URL: its path has these two parts and no more.
    equal(url.removeprefix(ENDPOINT).split("/"), ["", "000000000000", queue_name])
    return url


def update(url, **attributes):
    SQS.set_queue_attributes(QueueUrl=url, Attributes=attributes)
    reads_back(url, attributes)


def destroy(url):
    SQS.delete_queue(QueueUrl=url)
    for _ in range(IN_A_ROW):
        equal(code_of(SQS.get_queue_attributes, QueueUrl=url, AttributeNames=["All"]), GONE)
    equal(code_of(SQS.delete_queue, QueueUrl=url), GONE)


def policy(queue, *actions):
    # Written as people do it, which is not how it would be written by a program.
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Id": "topic-to-queue",
            "Statement": [
                {
                    "Sid": action.replace(":", ""),
                    "Effect": "Allow",
                    "Principal": {"Service": "sns.amazonaws.com"},
                    "Action": [action],
                    "Resource": arn(queue),
                    "Condition": {"ArnEquals": {"aws:SourceArn": "arn:aws:sns:us-east-1:1:t"}},
                }
                for action in actions
            ],
        },
        indent=2,
    )


def redrive(target, count):
    return json.dumps({"maxReceiveCount": count, "deadLetterTargetArn": arn(target)})


def redrive_allow(*sources):
    return json.dumps({"sourceQueueArns": [arn(s) for s in sources], "redrivePermission": "byQueue"})


@test
def a_queue_with_nothing_but_a_name():
    url = create("tf-plain", **DEFAULTS)
    # Planning again finds nothing to do: creating it once more is no conflict either.
    equal(create("tf-plain", **DEFAULTS), url)
    destroy(url)
    # The provider waits and tries again when it hears this.
    again = code_of(SQS.create_queue, QueueName="tf-plain", Attributes=DEFAULTS)
    equal(again, "AWS.SimpleQueueService.QueueDeletedRecently")


@test
def every_attribute_and_every_change_of_one():
    create("tf-dead", **DEFAULTS)
    create("tf-other-dead", **DEFAULTS)
    url = create(
        "tf-full",
        {"team": "orders", "empty": ""},
        DelaySeconds="90",
        MaximumMessageSize="2048",
        MessageRetentionPeriod="86400",
        ReceiveMessageWaitTimeSeconds="10",
        VisibilityTimeout="60",
        Policy=policy("tf-full", "sqs:SendMessage"),
        RedrivePolicy=redrive("tf-dead", 4),
        RedriveAllowPolicy=redrive_allow("tf-dead", "tf-other-dead"),
        SqsManagedSseEnabled="true",
    )
    changes = {
        "DelaySeconds": "900",
        "MaximumMessageSize": "1048576",
        "MessageRetentionPeriod": "1209600",
        "ReceiveMessageWaitTimeSeconds": "20",
        "VisibilityTimeout": "43200",
        "Policy": policy("tf-full", "sqs:SendMessage", "sqs:GetQueueUrl"),
        "RedrivePolicy": redrive("tf-other-dead", 1000),
        "RedriveAllowPolicy": json.dumps({"redrivePermission": "denyAll"}),
        "SqsManagedSseEnabled": "false",
    }
    for name, value in changes.items():
        update(url, **{name: value})
    reads_back(url, changes)
    # The attributes go from the configuration all at once.
    update(url, **DEFAULTS, Policy="", RedrivePolicy="", RedriveAllowPolicy="")
    left = AS_JSON & read(url).keys()
    assert not left, left
    for name in ("tf-dead", "tf-other-dead", "tf-full"):
        destroy(f"{ENDPOINT}/000000000000/{name}")


@test
def encryption_of_either_kind():
    key = {"KmsMasterKeyId": "alias/aws/sqs", "KmsDataKeyReusePeriodSeconds": "300"}
    url = create("tf-keys", **DEFAULTS, **key)
    update(url, KmsDataKeyReusePeriodSeconds="3600")
    update(url, KmsMasterKeyId="", SqsManagedSseEnabled="true")
    update(url, SqsManagedSseEnabled="false")
    update(url, **key)
    equal(read(url)["SqsManagedSseEnabled"], "false")
    update(url, KmsMasterKeyId="", KmsDataKeyReusePeriodSeconds="300")
    equal(read(url, "KmsMasterKeyId"), {})
    destroy(url)


@test
def policies_that_are_resources_of_their_own():
    create("tf-own-dead", **DEFAULTS)
    url = create("tf-own", **DEFAULTS)
    for name, first, second in (
        ("Policy", policy("tf-own", "sqs:*"), policy("tf-own", "sqs:SendMessage")),
        ("RedrivePolicy", redrive("tf-own-dead", 1), redrive("tf-own-dead", 2)),
        ("RedriveAllowPolicy", '{"redrivePermission": "allowAll"}', redrive_allow("tf-own-dead")),
    ):
        # Read by its own name, an attribute that is not there is an answer without attributes.
        equal(read(url, name), {})
        for value in (first, second, second):
            update(url, **{name: value})
            equal(json.loads(read(url, name)[name]), json.loads(value))
        for _ in range(2):
            update(url, **{name: ""})
        equal(read(url, name), {})
    destroy(url)
    equal(code_of(SQS.set_queue_attributes, QueueUrl=url, Attributes={"Policy": ""}), GONE)


@test
def fifo_queues():
    fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = create("tf-plain.fifo", **DEFAULTS, **fifo)
    update(url, ContentBasedDeduplication="false")
    update(url, DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    update(url, DeduplicationScope="queue", FifoThroughputLimit="perQueue")
    high = {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
    spread = create("tf-high.fifo", **DEFAULTS, **fifo, **high)
    update(spread, FifoThroughputLimit="perQueue")
    update(spread, FifoThroughputLimit="perMessageGroupId")
    update(spread, RedrivePolicy=redrive("tf-plain.fifo", 5))
    destroy(spread)
    destroy(url)


@test
def tags_come_and_go():
    url = create("tf-tags", {"one": "1", "two": "2"}, **DEFAULTS)
    equal(SQS.list_queue_tags(QueueUrl=url)["Tags"], {"one": "1", "two": "2"})
    SQS.untag_queue(QueueUrl=url, TagKeys=["one"])
    SQS.tag_queue(QueueUrl=url, Tags={"two": "II", "three": "3"})
    equal(SQS.list_queue_tags(QueueUrl=url)["Tags"], {"two": "II", "three": "3"})
    SQS.untag_queue(QueueUrl=url, TagKeys=["two", "three"])
    equal(SQS.list_queue_tags(QueueUrl=url).get("Tags", {}), {})
    destroy(url)
    equal(code_of(SQS.list_queue_tags, QueueUrl=url), GONE)


@test
def data_sources():
    urls = [create(f"tf-list-{n}", **DEFAULTS) for n in range(3)]
    pages = SQS.get_paginator("list_queues").paginate(
        QueueNamePrefix="tf-list-", PaginationConfig={"PageSize": 2}
    )
    listed = [url for page in pages for url in page.get("QueueUrls", [])]
    equal(sorted(listed), urls)
    for url in urls:
        equal(SQS.get_queue_url(QueueName=url.rsplit("/", 1)[1])["QueueUrl"], url)
        destroy(url)
    equal(code_of(SQS.get_queue_url, QueueName="tf-list-0"), GONE)


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
