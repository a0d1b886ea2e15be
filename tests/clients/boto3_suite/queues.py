"""Queues: attributes, tags, permissions, pages."""

import json
import time

from .harness import MIB, SQS, arn_of, code_of, create, equal, error_of, status_of, test, url_of


@test
def queue_actions():
    url = create("actions", VisibilityTimeout=7)
    equal(url, url_of("actions"))
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
    missing = url_of("missing")
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
        QueueUrl=url_of("dead"), PaginationConfig={"PageSize": 2}
    )
    pages = [page["queueUrls"] for page in pages]
    equal([len(page) for page in pages], [2, 1])
    equal(sorted(sum(pages, [])), sorted(sources))
    # XML has no empty lists.
    equal(SQS.list_dead_letter_source_queues(QueueUrl=sources[0]).get("queueUrls", []), [])


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
def vector_13_a_key_and_its_removal():
    url = create("vector-13")
    names = ["SqsManagedSseEnabled", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds"]

    def shown():
        answer = SQS.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return [answer["Attributes"].get(name) for name in names]

    equal(shown(), ["true", None, None])
    key = {"KmsMasterKeyId": "alias/x", "KmsDataKeyReusePeriodSeconds": "6000"}
    SQS.set_queue_attributes(QueueUrl=url, Attributes=key)
    equal(shown(), ["false", "alias/x", "6000"])
    none = {"KmsMasterKeyId": "", "KmsDataKeyReusePeriodSeconds": "300"}
    SQS.set_queue_attributes(QueueUrl=url, Attributes=none)
    equal(shown(), ["false", None, None])
    both = {"SqsManagedSseEnabled": "true", "KmsMasterKeyId": "alias/x"}
    error = error_of(SQS.set_queue_attributes, QueueUrl=url, Attributes=both)
    equal(error.response["Error"]["Code"], "InvalidAttributeName")


@test
def policies_are_checked():
    url = create("policies")

    def statement(**changes):
        allowed = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage"}
        return {**allowed, "Resource": arn_of("policies"), **changes}

    def set_policy(*statements):
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        SQS.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        shown = SQS.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
        equal(shown["Attributes"]["Policy"], policy)

    set_policy(statement(Principal={"Service": "s3.amazonaws.com"}), statement(Effect="Deny"))
    set_policy(statement(Resource=arn_of("other")))
    for wrong in (
        [],
        [{}],
        [statement(Effect="Permit")],
        [statement(Principal={"AWS": "somebody"})],
        [statement(Action="sqs:SendMessageBatch")],
        [statement(Resource=[])],
        [statement(Condition={"Equals": {"aws:SourceIp": "10.0.0.1"}})],
        [statement(Sid="a"), statement(Sid="a")],
    ):
        error = error_of(set_policy, *wrong).response["Error"]
        equal(error["Code"], "InvalidAttributeValue")
        equal(error["Message"], "Invalid value for the parameter Policy.")
    error = error_of(set_policy, *[statement()] * 21)
    assert isinstance(error, SQS.exceptions.OverLimit), error
    equal(status_of(error), 403)
