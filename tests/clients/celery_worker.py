"""Celery over SQS with real workers: one is killed at work, another one finishes."""

import os
import signal
import subprocess
import sys
import tempfile
import time

from celery import Celery

if __name__ == "__main__":
    # For the workers, which import this file.
    os.environ["ENDPOINT"] = sys.argv[1]
    os.environ["RESULTS"] = os.path.join(tempfile.mkdtemp(), "results")
ENDPOINT = os.environ["ENDPOINT"]
RESULTS = os.environ["RESULTS"]
TASKS = 120
# Longer than any task takes, and what a killed worker held is back after it.
VISIBILITY_TIMEOUT = 5

app = Celery("tasks", broker=ENDPOINT.replace("http://", "sqs://local:local@"))
app.conf.update(
    broker_transport_options={
        "region": "us-east-1",
        "is_secure": False,
        "wait_time_seconds": 2,
        "visibility_timeout": VISIBILITY_TIMEOUT,
    },
    broker_connection_retry_on_startup=True,
    task_default_queue="celery-work",
    task_acks_late=True,
    worker_prefetch_multiplier=4,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
)


def note(line):
    with open(RESULTS, "a", encoding="utf-8") as results:
        results.write(f"{line}\n")


@app.task(name="record")
def record(number):
    time.sleep(0.1)
    note(f"record {number}")


@app.task(name="unsteady", bind=True, max_retries=3)
def unsteady(self, number):
    note(f"try {number} {self.request.retries}")
    if self.request.retries < 2:
        raise self.retry(countdown=1)
    note(f"unsteady {number}")


def lines(kind):
    if not os.path.exists(RESULTS):
        return []
    with open(RESULTS, encoding="utf-8") as results:
        return [line.split()[1] for line in results if line.startswith(f"{kind} ")]


def worker():
    command = [sys.executable, "-m", "celery", "-A", "celery_worker", "worker"]
    command += ["--pool=prefork", "--concurrency=2", "--loglevel=error", "--without-gossip"]
    command += ["--without-mingle", "--without-heartbeat"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, start_new_session=True, stdout=quiet, stderr=quiet)


def wait_for(what, condition):
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.1)


def main():
    for number in range(TASKS):
        record.delay(number)
    for number in range(3):
        unsteady.delay(number)
    record.apply_async((TASKS,), countdown=2)
    wanted = {str(number) for number in range(TASKS + 1)}

    first = worker()
    wait_for("task is done", lambda: len(lines("record")) >= TASKS // 4)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = len(set(lines("record")))
    assert done < TASKS, "the worker was killed too late"

    second = worker()
    wait_for("end of the work", lambda: wanted <= set(lines("record")))
    wait_for("end of the retries", lambda: len(set(lines("unsteady"))) == 3)
    second.terminate()
    assert second.wait(timeout=60) == 0
    twice = len(lines("record")) - len(wanted)
    print(f"ok   {len(wanted)} tasks by two workers, {twice} of them twice")


if __name__ == "__main__":
    try:
        main()
        print("1 passed, 0 failed")
    except AssertionError as error:
        print(f"FAIL celery: {error}")
        print("0 passed, 1 failed")
