"""Dead letters, and tasks that move them."""

import base64
import json
import time

from .harness import (
    SQS, SYSTEM_ATTRIBUTE_NAMES, arn_of, bodies, create, create_fifo, equal, error_of, receive,
    receive_all, redrive_to, send_fifo, short, status_of, test,
)


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
def vector_24_dead_letters_of_a_fifo_queue():
    dead = create_fifo("v24-dead")
    url = create_fifo("v24", RedrivePolicy=redrive_to("v24-dead.fifo", 2))
    send_fifo(url, "g-m1")
    first = short(url, 1, VisibilityTimeout=0)[0]
    equal(bodies(short(url, 1, VisibilityTimeout=0)), ["g-m1"])
    equal(short(url, 1, VisibilityTimeout=0), [])
    send_fifo(url, "g-m2")
    equal(bodies(short(url, 1, VisibilityTimeout=0)), ["g-m2"])
    moved = short(dead, 10, **{SYSTEM_ATTRIBUTE_NAMES: ["All"]})[0]
    equal(moved["MessageId"], first["MessageId"])
    equal(moved["Attributes"]["MessageGroupId"], "g")
    equal(moved["Attributes"]["MessageDeduplicationId"], first["MessageId"])


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
    counts = ("ApproximateNumberOfMessagesMoved", "ApproximateNumberOfMessagesToMove")
    equal([task[count] for count in counts], [2, 2])
    assert "TaskHandle" not in task, task
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

    def refused(call, code, status, text, **arguments):
        error = error_of(call, **arguments)
        shown = error.response["Error"]
        equal((shown["Code"], status_of(error), shown["Message"]), (code, status, text))

    invalid = ("InvalidParameterValue", 400)
    missing = ("ResourceNotFoundException", 404)
    refused(
        SQS.start_message_move_task,
        *invalid,
        "There is already a task running. Only one active task is allowed for a source queue arn "
        "at a given time.",
        **start,
    )
    refused(
        SQS.cancel_message_move_task,
        *invalid,
        "Value for parameter TaskHandle is invalid.",
        TaskHandle="foobared",
    )
    told = json.loads(base64.b64decode(handle))
    unknown = {**told, "taskId": "00000000-0000-4000-8000-000000000000"}
    elsewhere = {**told, "sourceArn": arn_of("v27-nowhere")}
    no_resource = "The resource that you specified for the {} parameter doesn't exist."
    for wrong, text in (
        (unknown, "Task does not exist."),
        (elsewhere, no_resource.format("SourceArn")),
    ):
        forged = base64.b64encode(json.dumps(wrong).encode()).decode()
        refused(SQS.cancel_message_move_task, *missing, text, TaskHandle=forged)
    equal(tasks_of("v27")[0]["TaskHandle"], handle)
    SQS.cancel_message_move_task(TaskHandle=handle)
    equal(ended("v27")["Status"], "CANCELLED")
    only_active = "Only active tasks can be cancelled."
    refused(SQS.cancel_message_move_task, *invalid, only_active, TaskHandle=handle)
    refused(
        SQS.start_message_move_task,
        *invalid,
        "Source queue must be configured as a Dead Letter Queue.",
        SourceArn=arn_of("v27-source"),
    )
    nowhere = {"SourceArn": arn_of("v27-none"), "DestinationArn": arn_of("v27-none")}
    for name, wrong in nowhere.items():
        text = no_resource.format(name)
        refused(SQS.start_message_move_task, *missing, text, **{**start, name: wrong})


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
def what_a_dead_letter_queue_does_not_allow_does_not_go_back():
    dead, urls = fill_dead_letters("shut", 2, ["one", "two"])
    only_one = {"redrivePermission": "byQueue", "sourceQueueArns": [arn_of("shut-one")]}
    SQS.set_queue_attributes(
        QueueUrl=dead, Attributes={"RedriveAllowPolicy": json.dumps(only_one)}
    )
    SQS.start_message_move_task(SourceArn=arn_of("shut-dead"))
    task = ended("shut")
    equal((task["Status"], task["FailureReason"]), ("FAILED", "AccessDenied"))
    equal(receive(urls["two"]), [])
    # Wherever else they may go: that is for the queue there to allow.
    create("shut-other")
    SQS.start_message_move_task(SourceArn=arn_of("shut-dead"), DestinationArn=arn_of("shut-other"))
    equal(ended("shut")["Status"], "COMPLETED")
    equal(receive(dead), [])
