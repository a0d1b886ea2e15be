#!/usr/bin/env bash
# What somebody does first: a queue, a message there and back, all by the command line.
set -uo pipefail

endpoint=$1
passed=0
failed=0

sqs() { aws --endpoint-url "$endpoint" --output text sqs "$@"; }

# check <what> <expected> <seen>
check() {
    if [[ $2 == "$3" ]]; then
        passed=$((passed + 1))
        echo "ok   $1"
    else
        failed=$((failed + 1))
        printf 'FAIL %s\n  expected: %s\n  seen:     %s\n' "$1" "$2" "$3"
    fi
}

url=$(sqs create-queue --queue-name cli-orders --query QueueUrl)
check create-queue "$endpoint/000000000000/cli-orders" "$url"
check get-queue-url "$url" "$(sqs get-queue-url --queue-name cli-orders --query QueueUrl)"
check list-queues "$url" "$(sqs list-queues --queue-name-prefix cli- --query 'QueueUrls[0]')"

id=$(sqs send-message --queue-url "$url" --message-body 'hello there' --query MessageId)
check send-message 36 "${#id}"
received=$(sqs receive-message --queue-url "$url" --wait-time-seconds 5 --visibility-timeout 60 \
    --query 'Messages[0].[MessageId,Body,ReceiptHandle]')
IFS=$'\t' read -r received_id body handle <<<"$received"
check 'receive-message: id' "$id" "$received_id"
check 'receive-message: body' 'hello there' "$body"
check 'in flight' 1 "$(sqs get-queue-attributes --queue-url "$url" \
    --attribute-names ApproximateNumberOfMessagesNotVisible \
    --query Attributes.ApproximateNumberOfMessagesNotVisible)"
sqs delete-message --queue-url "$url" --receipt-handle "$handle"
check delete-message 0 $?
check 'nothing left' None "$(sqs receive-message --queue-url "$url" --wait-time-seconds 1 --query 'Messages[0]')"

sqs send-message-batch --queue-url "$url" --entries Id=a,MessageBody=one Id=b,MessageBody=two >/dev/null
check send-message-batch 0 $?
sqs purge-queue --queue-url "$url"
check purge-queue 0 $?

sqs set-queue-attributes --queue-url "$url" --attributes VisibilityTimeout=77
check set-queue-attributes 77 "$(sqs get-queue-attributes --queue-url "$url" \
    --attribute-names All --query Attributes.VisibilityTimeout)"
sqs delete-queue --queue-url "$url"
check delete-queue 0 $?
error=$(sqs send-message --queue-url "$url" --message-body late 2>&1)
check 'a deleted queue is refused' yes \
    "$([[ $error == *AWS.SimpleQueueService.NonExistentQueue* ]] && echo yes || echo "$error")"

echo "$passed passed, $failed failed"
[[ $failed == 0 ]]
