//! Every bound of the system, in one place.

use std::time::Duration;

/// Largest message: body plus user attributes (names, types, values), in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1_048_576;
/// Largest sum over the entries of one batch request, in bytes.
pub const BATCH_BYTES_MAX: usize = 1_048_576;
/// Entries of one batch request.
pub const BATCH_ENTRIES_MAX: usize = 10;
/// User attributes of one message.
pub const MESSAGE_ATTRIBUTES_MAX: usize = 10;
/// A message as it is stored: also with its trace header, the ids of its group and of duplicates, and who
/// sent it, each of which has a limit of its own.
pub const CONTENT_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 16 * 1_024;
/// X-Ray header of a message. It does not count towards the size of the message, but is stored.
pub const TRACE_HEADER_BYTES_MAX: usize = 4_096;
/// HTTP request body: a full batch with every byte escaped as `\u00XX` and base64 blobs around it.
pub const HTTP_BODY_BYTES_MAX: usize = 8 * 1_048_576;
/// What is read and forgotten of an HTTP request body beyond that.
pub const HTTP_BODY_BYTES_DRAINED_MAX: usize = 64 * 1_048_576;
/// Messages of one queue that are received and neither deleted nor visible again.
pub const IN_FLIGHT_MAX: u32 = 120_000;
/// Pairs of a shard and a queue of which a node tells the others how many messages are in flight there:
/// those with most. Of the others each node only counts its own.
pub const IN_FLIGHT_ROWS_TOLD_MAX: usize = 10_000;
/// Queues of a shard of another node of which is noted what was taken there since that node's last word.
pub const IN_FLIGHT_QUEUES_NOTED_MAX: usize = 1_000;
/// A node with less room than this on its disk takes no new messages, unless its configuration says
/// otherwise. Enough for the log's files, a flush and a few compactions.
pub const FREE_BYTES_MIN: u64 = 512 * 1_048_576;
/// Longest delay of a message.
pub const DELAY_SECONDS_MAX: u32 = 900;
/// Longest long poll.
pub const WAIT_SECONDS_MAX: u32 = 20;
/// Longest visibility timeout, counted from the receive.
pub const VISIBILITY_SECONDS_MAX: u32 = 43_200;
/// Names in one page of ListQueues.
pub const LIST_PAGE_MAX: usize = 1_000;
/// A deleted queue's name may not be used again for this long.
pub const NAME_REUSE_SECONDS: u64 = 60;
/// One PurgeQueue per queue in this time.
pub const PURGE_INTERVAL_SECONDS: u64 = 60;
/// But so soon after one that is not known to have reached every shard: no later than its caller hears
/// that it failed.
pub const PURGE_REPEAT_SECONDS: u64 = 4;
/// Tags of one queue.
pub const TAGS_MAX: usize = 50;
/// Characters of a tag's key.
pub const TAG_KEY_CHARS_MAX: usize = 128;
/// Characters of a tag's value.
pub const TAG_VALUE_CHARS_MAX: usize = 256;
/// Bytes of an access policy.
pub const POLICY_BYTES_MAX: usize = 8_192;
/// Statements of an access policy.
pub const POLICY_STATEMENTS_MAX: usize = 20;
/// Principals that the statements of an access policy name together.
pub const POLICY_PRINCIPALS_MAX: usize = 50;
/// Conditions that the statements of an access policy have together.
pub const POLICY_CONDITIONS_MAX: usize = 10;
/// Actions of one permission, and of one statement of a policy.
pub const PERMISSION_ACTIONS_MAX: usize = 7;
/// Characters of a permission's label.
pub const LABEL_CHARS_MAX: usize = 80;
/// Commands remembered per queue that changed its tags or permissions. One that is repeated after
/// so many others is taken for a new one.
pub const QUEUE_CHANGES_REMEMBERED_MAX: usize = 32;

/// Commands waiting for a proposal in one shard; one more is refused as throttled.
pub const SHARD_PENDING_COMMANDS_MAX: usize = 16_384;
/// Bytes of commands waiting for a proposal in one shard.
pub const SHARD_PENDING_BYTES_MAX: usize = 64 * 1_048_576;
/// While a command has waited for its proposal for longer than this, no more are taken: a client
/// that hears so at once does better than one that waits until it gives up.
pub const SHARD_PENDING_MAX: Duration = Duration::from_secs(1);
/// Commands folded into one Raft entry.
pub const ENTRY_COMMANDS_MAX: usize = 1_024;
/// Bytes folded into one Raft entry (one command may be larger than what is left, never than
/// this: a message and its envelope fit).
pub const ENTRY_BYTES_MAX: usize = 2 * 1_048_576;
/// Raft entries of one shard that are proposed and not yet applied.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 4;
/// Sequence numbers held ready for receives, per queue and shard, on the leader.
pub const READY_WINDOW_MAX: usize = 4_096;
/// A message of a standard queue that was received so often without being deleted does not go before
/// those that were not, when it comes back, but after those that were there by then.
pub const RECEIVES_TO_BACK: u32 = 3;
/// Never-received messages of a FIFO queue that the leader looks at, per queue and shard. As in SQS:
/// groups whose messages all lie further back wait until this many are fewer.
pub const FIFO_WINDOW_MAX: usize = 120_000;
/// Changes of queues (created, deleted, changed) that are under way at the catalog's leader.
pub const CATALOG_COMMANDS_MAX: usize = 1_024;
/// How long a deduplication id is remembered.
pub const DEDUP_INTERVAL_MS: u64 = 5 * 60 * 1_000;
/// Receives parked on one node.
pub const PARKED_POLLS_MAX: usize = 50_000;
/// Command counters remembered per gateway session and group.
pub const COMMAND_WINDOW: u64 = 65_536;
/// Gateway sessions remembered per group; the longest silent one is forgotten first.
pub const SESSIONS_MAX: usize = 64;
/// Tasks moving dead letters at the same time.
pub const MOVE_TASKS_MAX: usize = 100;
/// Ended tasks that a dead-letter queue's list shows, and one more for one that runs.
pub const MOVE_TASKS_LISTED_MAX: usize = 10;
/// A move task ends after so long, done or not.
pub const MOVE_TASK_HOURS_MAX: u64 = 36;
/// Most messages that a move task may be told to move in a second.
pub const MOVE_RATE_MAX: u32 = 500;
/// Messages that one command moves.
pub const MOVE_MESSAGES_MAX: usize = 100;
/// Messages that one command gives another delay: each is read.
pub const REDELAY_MESSAGES_MAX: usize = 500;
/// Messages one Expire command removes.
pub const EXPIRE_MESSAGES_MAX: usize = 1_000;
/// Messages one Expire command looks at: the shard stands still meanwhile.
pub const EXPIRE_SCANNED_MAX: usize = 1_024;
/// Open HTTP connections of one node.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Requests in work on one node, parked polls not counted.
pub const REQUESTS_IN_WORK_MAX: usize = 10_000;
/// Bytes of request bodies in work on one node.
pub const REQUEST_BYTES_IN_WORK_MAX: usize = 256 * 1_048_576;
/// Bytes of received messages, and of long answers, that one node has in memory until they are written to
/// their callers. A quarter of it is for small ones.
pub const ANSWER_BYTES_MAX: usize = 256 * 1_048_576;
/// The same of messages that other nodes received from the shards led here, until they are on their way there.
pub const CLAIM_BYTES_MAX: usize = 128 * 1_048_576;
/// What a receive may still take of messages when there is little room left.
pub const SMALL_ANSWER_BYTES_MAX: usize = 64 * 1_024;
/// An answer of so many bytes is not counted: connections are.
pub const ANSWER_BYTES_UNCOUNTED_MAX: usize = 4 * 1_024;
/// How long a receive waits for room before it is refused.
pub const ANSWER_ROOM_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long the other end of a connection may take nothing of what waits for it.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// The same while more than half of the room for answers is taken.
pub const WRITE_STALL_SHORT_MAX: Duration = Duration::from_secs(2);
/// One frame batch on a peer link; a frame larger than this travels alone.
pub const LINK_BATCH_BYTES_MAX: usize = 1_048_576;
/// Largest single frame that a peer may send.
pub const LINK_FRAME_BYTES_MAX: usize = 16 * 1_048_576;
/// Frames waiting for one lane of a peer link.
pub const LINK_QUEUE_FRAMES_MAX: usize = 4_096;
/// Queues of one cluster (they live in the memory of the catalog's replicas).
pub const QUEUES_MAX: usize = 1_000_000;
/// Bytes of frames waiting for one lane of a peer link (one frame may go over it).
pub const LINK_QUEUE_BYTES_MAX: usize = 64 * 1_048_576;
/// Bytes of one logical stream of a peer link that are sent and not yet taken out of the
/// receiver's buffer (one frame may go over it).
pub const LINK_STREAM_WINDOW_BYTES: usize = 4 * 1_048_576;
/// What a frame costs in link bounds on top of its payload, so that empty frames are bounded too.
pub const LINK_FRAME_OVERHEAD_BYTES: usize = 128;
/// Logical streams open on one lane of a peer link.
pub const LINK_STREAMS_MAX: usize = 4_096;
/// Calls of one lane that wait for their answer, on either side.
pub const LINK_CALLS_MAX: usize = 16_384;
/// Payload bytes of the calls that one lane's handler has in work, and of answers that wait for the lane.
pub const LINK_CALL_BYTES_IN_WORK_MAX: usize = 128 * 1_048_576;
/// Queues with metrics of their own on one node; the others count together.
pub const QUEUE_SERIES_MAX: usize = 10_000;
/// Queues of a shard that are looked at in one piece: then others get their turn.
pub const QUEUES_LOOKED_AT_MAX: usize = 1_000;
/// Queues that the janitor of a node visits in a second, over all shards. Where they are more than
/// that, old messages go some seconds or minutes later; they are not handed out meanwhile.
pub const QUEUES_SWEPT_MAX: usize = 1_000;
/// Shards of a new cluster unless told otherwise. Enough for three nodes: more cost heartbeats and make short polls
/// miss more (`shards` and `misses` in the report of `crates/study`).
pub const SHARDS_DEFAULT: u32 = 8;
/// Shards of one cluster.
pub const SHARDS_MAX: u32 = 1_024;
/// Nodes of one cluster: every node keeps links to every other.
pub const NODES_MAX: usize = 64;
