"""All actions, and recorded behaviour of the real service, through boto3's client.

    boto3_client.py ENDPOINT[,ENDPOINT...] json|query

Each test goes through one of the nodes, the next test through the next."""

import importlib
import sys

from boto3_suite import harness

for theme in ("queues", "messages", "fifo", "dead_letters", "details", "wire"):
    importlib.import_module(f"boto3_suite.{theme}")

assert harness.PROTOCOL == sys.argv[2], f"this boto3 speaks {harness.PROTOCOL}"
sys.exit(harness.main())
