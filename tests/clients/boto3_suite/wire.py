"""What goes over the wire, through which node ever: errors, bare HTTP."""

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from botocore.exceptions import ClientError

from .harness import (
    ACCOUNT, CLIENTS, PROTOCOL, SQS, arn_of, code_of, create, endpoint, equal, error_of,
    receive_all, status_of, test, url_of,
)

JSON = "application/x-amz-json-1.0"


@test
def error_classes():
    missing = url_of("missing")
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


def ask(method, target, body=None, **headers):
    """Bare HTTP: status, type of the answer, and what it says."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(endpoint() + target, data=body, method=method, headers=headers)
    try:
        with urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


@test
def vector_28_paths_and_parameters():
    one, other = create("vector-28"), create("vector-28-other")
    path = f"/{ACCOUNT}/vector-28"
    body = json.dumps({"QueueUrl": one, "MessageBody": "json"}).encode()
    json_headers = {"Content_Type": JSON, "X_Amz_Target": "AmazonSQS.SendMessage"}
    status, kind, said = ask("POST", path, body, **json_headers)
    equal((status, kind, len(json.loads(said)["MessageId"])), (200, JSON, 36))
    asked = urlencode({"Action": "SendMessage", "MessageBody": "query", "QueueUrl": other})
    status, kind, said = ask("GET", f"{path}?{asked}")
    equal((status, kind), (200, "text/xml"))
    assert "<MessageId>" in said, said
    equal([m["Body"] for m in receive_all(one, 1)], ["json"])
    equal([m["Body"] for m in receive_all(other, 1)], ["query"])

    status, _, said = ask("GET", path)
    equal((status, said.strip()), (404, "<UnknownOperationException/>"))
    for action in ("CreateQueue", "ListQueues"):
        status, kind, said = ask("GET", f"{path}?Action={action}&QueueName=x")
        equal((status, kind), (400, "text/xml"))
        assert "<Code>InvalidAction</Code>" in said, said
        assert f"The action {action} is not valid for this endpoint." in said, said
    # A POST without a word about JSON.
    status, kind, said = ask("POST", f"{path}?Action=GetQueueAttributes&AttributeName.1=QueueArn")
    equal((status, kind), (200, "text/xml"))
    assert arn_of("vector-28") in said, said


@test
def what_one_node_does_all_others_know():
    """Each step through another node."""
    turns = itertools.cycle(CLIENTS)

    def here():
        return next(turns)

    url = here().create_queue(QueueName="everywhere", Attributes={"VisibilityTimeout": "60"})
    url = url["QueueUrl"]
    sent = {here().send_message(QueueUrl=url, MessageBody=str(n))["MessageId"] for n in range(7)}
    received = {}
    end = time.monotonic() + 20
    while len(received) < 7 and time.monotonic() < end:
        answer = here().receive_message(QueueUrl=url, MaxNumberOfMessages=3, WaitTimeSeconds=1)
        received.update({m["MessageId"]: m["ReceiptHandle"] for m in answer.get("Messages", [])})
    equal(set(received), sent)
    for handle in received.values():
        here().change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=90)
        here().delete_message(QueueUrl=url, ReceiptHandle=handle)
    for delay in range(5):
        here().set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": str(delay)})
        for client in CLIENTS:
            shown = client.get_queue_attributes(QueueUrl=url, AttributeNames=["DelaySeconds"])
            equal(shown["Attributes"]["DelaySeconds"], str(delay))
        here().tag_queue(QueueUrl=url, Tags={"delay": str(delay)})
        for client in CLIENTS:
            equal(client.list_queue_tags(QueueUrl=url)["Tags"], {"delay": str(delay)})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(here().receive_message, QueueUrl=url, WaitTimeSeconds=20)
        time.sleep(0.5)
        here().send_message(QueueUrl=url, MessageBody="wakes", DelaySeconds=0)
        equal([m["Body"] for m in waiting.result(timeout=15)["Messages"]], ["wakes"])
    here().delete_queue(QueueUrl=url)
    for client in CLIENTS:
        gone = code_of(client.get_queue_url, QueueName="everywhere")
        equal(gone, "AWS.SimpleQueueService.NonExistentQueue")
