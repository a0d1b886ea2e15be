// sqs-consumer on the JavaScript SDK: batches, retries by visibility, and an end in order.
"use strict";

const {
  SQSClient, CreateQueueCommand, GetQueueAttributesCommand, ReceiveMessageCommand,
  SendMessageBatchCommand, SendMessageCommand,
} = require("@aws-sdk/client-sqs");
const { Consumer } = require("sqs-consumer");

const endpoint = process.argv[2];
const sqs = new SQSClient({ endpoint, region: "us-east-1", maxAttempts: 1 });
const MESSAGES = 100;

function check(condition, what) {
  if (!condition) throw new Error(what);
}

async function create(name, Attributes) {
  return (await sqs.send(new CreateQueueCommand({ QueueName: name, Attributes }))).QueueUrl;
}

// The SDK compares the digests of what it sends and receives by itself.
async function fill(QueueUrl) {
  for (let from = 0; from < MESSAGES; from += 10) {
    const Entries = Array.from({ length: 10 }, (_, n) => ({
      Id: `m${from + n}`,
      MessageBody: JSON.stringify({ number: from + n, text: "\u00e9\u{1F600}\r\n\t\"<&>" }),
      MessageAttributes: {
        kind: { DataType: "String", StringValue: n % 2 ? "odd" : "even" },
        bytes: { DataType: "Binary", BinaryValue: Uint8Array.of(0, 255, from + n) },
      },
    }));
    const sent = await sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries }));
    check(sent.Successful.length === 10 && !sent.Failed?.length, "a batch failed in part");
  }
}

async function consume(queueUrl) {
  const tried = new Map();
  const done = new Set();
  await new Promise((resolve, reject) => {
    const consumer = Consumer.create({
      sqs,
      queueUrl,
      batchSize: 10,
      waitTimeSeconds: 20,
      visibilityTimeout: 30,
      heartbeatInterval: 5,
      terminateVisibilityTimeout: true,
      messageAttributeNames: ["All"],
      attributeNames: ["ApproximateReceiveCount"],
      handleMessage: async (message) => {
        const { number } = JSON.parse(message.Body);
        const tries = (tried.get(number) ?? 0) + 1;
        tried.set(number, tries);
        check(message.Attributes.ApproximateReceiveCount === String(tries), "receive count");
        check(message.MessageAttributes.bytes.BinaryValue[2] === number, "binary attribute");
        if (number % 10 === 0 && tries === 1) throw new Error("not this time");
        done.add(number);
        if (done.size === MESSAGES) consumer.stop();
        return message;
      },
    });
    consumer.on("error", reject);
    consumer.on("timeout_error", reject);
    consumer.on("processing_error", (error) => {
      if (error.message.includes("not this time")) return;
      reject(error);
    });
    // The last messages are still to be deleted when it is told to stop.
    consumer.on("stopped", resolve);
    consumer.start();
    setTimeout(() => reject(new Error(`${done.size} of ${MESSAGES} after a minute`)), 60_000).unref();
  });
  check([...tried.values()].filter((tries) => tries === 2).length === 10, "ten messages twice");
}

async function empty(QueueUrl) {
  const names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
  const end = Date.now() + 20_000;
  for (;;) {
    const asked = new GetQueueAttributesCommand({ QueueUrl, AttributeNames: names });
    const { Attributes } = await sqs.send(asked);
    if (names.every((name) => Attributes[name] === "0")) return;
    check(Date.now() < end, `left: ${JSON.stringify(Attributes)}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

const tests = {
  async a_consumer_retries_and_ends_in_order() {
    const url = await create("js-consumer", { VisibilityTimeout: "30" });
    await fill(url);
    await consume(url);
    await empty(url);
  },
  async an_aborted_long_poll_takes_nothing_along() {
    const QueueUrl = await create("js-aborted");
    const abort = new AbortController();
    const poll = sqs.send(new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 20 }), {
      abortSignal: abort.signal,
    });
    setTimeout(() => abort.abort(), 500);
    check(await poll.then(() => false, (error) => error.name === "AbortError"), "not aborted");
    await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: "kept" }));
    const got = await sqs.send(new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 5 }));
    check(got.Messages?.[0].Body === "kept", "the aborted poll has it");
  },
  async errors_are_classes() {
    const QueueUrl = `${endpoint}/000000000000/none`;
    const error = await sqs.send(new ReceiveMessageCommand({ QueueUrl })).catch((error) => error);
    check(error.name === "QueueDoesNotExist", `it is ${error.name}`);
    check(error.$metadata.httpStatusCode === 400, "status");
  },
};

(async () => {
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test();
      console.log(`ok   ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${name}\n${error.stack}`);
    }
  }
  console.log(`${Object.keys(tests).length - failed} passed, ${failed} failed`);
})();
