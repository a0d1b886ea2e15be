"""What the suites share: clients of every node, tests and what they say, small helpers."""

import json
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINTS = sys.argv[1].split(",")
ACCOUNT = "000000000000"
MIB = 1_048_576
TESTS = []
MINUTES = []
_turn = threading.local()


def new_client(endpoint):
    # No retries: a test must see what the server answered.
    config = Config(retries={"total_max_attempts": 1, "mode": "standard"})
    return boto3.client("sqs", endpoint_url=endpoint, config=config)


CLIENTS = [new_client(endpoint) for endpoint in ENDPOINTS]
PROTOCOL = CLIENTS[0].meta.service_model.metadata["protocol"]
# The versions that speak the Query protocol know this member by its older name only.
SYSTEM_ATTRIBUTE_NAMES = {"json": "MessageSystemAttributeNames", "query": "AttributeNames"}[PROTOCOL]


class Turns:
    """Client of one of the nodes: another one for each test."""

    def __getattr__(self, name):
        return getattr(CLIENTS[turn()], name)


SQS = Turns()


def turn():
    return getattr(_turn, "number", 0) % len(ENDPOINTS)


def endpoint():
    """Where the test's client goes."""
    return ENDPOINTS[turn()]


def url_of(name):
    return f"{endpoint()}/{ACCOUNT}/{name}"


def test(function):
    TESTS.append(function)
    return function


def takes_a_minute(function):
    """A test that mostly waits, and is run beside the others."""
    MINUTES.append(function)
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


def error_of(call, *places, **arguments):
    try:
        call(*places, **arguments)
    except ClientError as error:
        return error
    raise AssertionError("no error")


def code_of(call, **arguments):
    return error_of(call, **arguments).response["Error"]["Code"]


def status_of(error):
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def equal(seen, expected):
    assert seen == expected, f"{seen!r} instead of {expected!r}"


def redrive_to(target, count):
    arn = f"arn:aws:sqs:us-east-1:000000000000:{target}"
    return json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": count})


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


def arn_of(name):
    return f"arn:aws:sqs:us-east-1:000000000000:{name}"


def run_one(number, function):
    _turn.number = number
    try:
        function()
    except Exception:  # one failure must not hide the next
        return f"FAIL {function.__name__} (through {endpoint()})\n{traceback.format_exc()}", False
    return f"ok   {function.__name__}", True


def main():
    passed = 0
    with ThreadPoolExecutor(max_workers=max(1, len(MINUTES))) as beside:
        slow = [beside.submit(run_one, *numbered) for numbered in enumerate(MINUTES)]
        outcomes = (run_one(*numbered) for numbered in enumerate(TESTS))
        for text, is_good in [*outcomes, *(future.result() for future in slow)]:
            print(text, flush=True)
            passed += is_good
    failed = len(TESTS) + len(MINUTES) - passed
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
