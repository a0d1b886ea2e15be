"""The autoscaler's example of a worker, behind a shell that does not exec: ended at work, it loses
nothing and leaves nothing hidden."""

import os
import pathlib
import shlex
import subprocess
import sys
import time

import boto3

ENDPOINT = sys.argv[1]
WORKER = pathlib.Path(__file__).parents[2] / "crates/autoscale/examples/worker.py"
MESSAGES = 60
COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

sqs = boto3.client("sqs", endpoint_url=ENDPOINT)
queue = sqs.create_queue(QueueName="autoscale-worker")["QueueUrl"]


def counts():
    found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=COUNTS)["Attributes"]
    return [int(found[name]) for name in COUNTS]


def wait_for(what, condition):
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, f"no {what}: {counts()}"
        time.sleep(0.1)


def autoscaler():
    # The second command keeps the shell from becoming the first.
    worker = f"{shlex.quote(sys.executable)} {shlex.quote(str(WORKER))} autoscale-worker; exit $?"
    command = [os.environ["FLOTILLA_BIN"], "autoscale", "--endpoint", ENDPOINT]
    command += ["--queue", "autoscale-worker", "--processing-ms", "200", "--measure", "127.0.0.1:0"]
    command += ["--acceptable-latency-s", "4", "--max", "3", "--grace-s", "60"]
    command += ["--listen", "127.0.0.1:0", "--", "sh", "-c", worker]
    environment = {**os.environ, "AWS_ENDPOINT_URL_SQS": ENDPOINT}
    return subprocess.Popen(command, env=environment)


def main():
    for first in range(0, MESSAGES, 10):
        entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(first, first + 10)]
        assert not sqs.send_message_batch(QueueUrl=queue, Entries=entries).get("Failed")
    for at_least_done in (MESSAGES // 3, MESSAGES):
        scaler = autoscaler()
        wait_for("progress", lambda: sum(counts()) <= MESSAGES - at_least_done)
        scaler.terminate()
        assert scaler.wait(timeout=90) == 0
        # What was begun is finished, and the rest is there for others at once.
        visible, hidden = counts()
        assert hidden == 0, f"{hidden} messages are hidden"
        assert visible > 0 or at_least_done == MESSAGES, "ended too late"
    print(f"ok   {MESSAGES} messages by workers that were ended at work")


if __name__ == "__main__":
    try:
        main()
        print("1 passed, 0 failed")
    except AssertionError as error:
        print(f"FAIL worker: {error}")
        print("0 passed, 1 failed")
