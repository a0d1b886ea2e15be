"""Works off a queue, one message at a time: `worker.py QUEUE`. To be copied; needs boto3.

At SIGTERM it finishes the message that it has, gives back one that comes after that, and ends. It
only deletes what is done: when it fails, its message comes to another by its visibility timeout.
"""

import os
import signal
import socket
import sys
import time

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def work(body):
    time.sleep(0.2)  # Here goes what a message is for.


def end(*_):
    global ending
    ending = True


ending = False
signal.signal(signal.SIGTERM, end)
endpoint = os.environ.get("AWS_ENDPOINT_URL_SQS") or "http://127.0.0.1:9324"
region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
if endpoint.startswith("http://"):
    # A cluster of one's own takes any key and region. For AWS boto3 finds them itself, unless these are in its way.
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ.setdefault(name, "any")
    region = region or "us-east-1"
sqs = boto3.client("sqs", endpoint_url=endpoint, region_name=region)


def open_statsd():
    """Leads to the autoscaler's --measure, if there is one."""
    if "STATSD_HOST" not in os.environ:
        return None
    address = os.environ["STATSD_HOST"], os.environ.get("STATSD_PORT", "8125")
    try:
        family, kind, _, _, address = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
        opened = socket.socket(family, kind)
        opened.connect(address)
        return opened
    except OSError as error:
        print(f"processing times are not reported to {address}: {error}", file=sys.stderr)
        return None


statsd = open_statsd()


def report(seconds):
    if statsd:
        try:
            statsd.send(f"processing:{1000 * seconds:.3f}|ms".encode())
        except OSError:
            pass  # The work is done, whoever hears of it.


def take(queue):
    """One poll, and what it brings."""
    # A poll goes on after SIGTERM, so it is much shorter than the autoscaler's --grace-s.
    received = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5, MaxNumberOfMessages=1)
    for message in received.get("Messages", []):
        handle = {"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]}
        if ending:
            sqs.change_message_visibility(**handle, VisibilityTimeout=0)
            break
        begin = time.monotonic()
        work(message["Body"])
        sqs.delete_message(**handle)
        report(time.monotonic() - begin)


queue = None
while not ending:
    try:
        queue = queue or sqs.create_queue(QueueName=sys.argv[1])["QueueUrl"]
        take(queue)
    except (BotoCoreError, ClientError) as error:
        # The node may be away for longer than the client tries. A worker that ended here would be started again, and
        # look like one that crashes; a message that it could not delete comes again.
        print(f"the queue cannot be had: {error}", file=sys.stderr)
        time.sleep(1)
