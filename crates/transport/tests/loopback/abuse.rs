//! A peer with the token that breaks the rules of the lane.

use bytes::Bytes;
use flotilla_transport::Lane;
use flotilla_types::limits::{
    LINK_CALL_BYTES_IN_WORK_MAX, LINK_FRAME_BYTES_MAX, LINK_QUEUE_BYTES_MAX,
    LINK_STREAM_WINDOW_BYTES,
};
use flotilla_wire::proto::peer::{
    Batch, Frame, FrameKind, Hello, ResetReason, peer_client::PeerClient,
};
use futures::StreamExt as _;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Request, Streaming, metadata::BinaryMetadataValue};

use crate::support::*;

const BIG: usize = 20 * 1_048_576;

/// A hand-made lane to node 2: what is sent into the one comes out of the other.
async fn raw_lane(address: &str) -> (mpsc::UnboundedSender<Batch>, Streaming<Batch>) {
    let (tx, mut rx) = mpsc::unbounded_channel();
    let outgoing = futures::stream::poll_fn(move |cx| rx.poll_recv(cx));
    let hello = Hello {
        format: 1,
        cluster: "cluster".into(),
        from_node: 1,
        to_node: 2,
        token: "token".into(),
        lane: 0,
    };
    let mut request = Request::new(outgoing);
    let value = BinaryMetadataValue::from_bytes(&hello.encode_to_vec());
    request.metadata_mut().insert_bin("flotilla-hello-bin", value);
    let mut client = PeerClient::connect(format!("http://{address}"))
        .await
        .unwrap()
        .max_decoding_message_size(BIG)
        .max_encoding_message_size(2 * BIG);
    (tx, client.lane(request).await.unwrap().into_inner())
}

fn frame(stream: u64, kind: FrameKind, method: u32, payload: &'static [u8]) -> Frame {
    let payload = Bytes::from_static(payload);
    Frame { stream, kind: kind.into(), method, payload, ..Frame::default() }
}

async fn frames_until_answer(incoming: &mut Streaming<Batch>, stream: u64) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        let batch = incoming.next().await.unwrap().unwrap();
        for frame in batch.frames {
            if frame.stream == stream {
                assert_eq!(frame.kind(), FrameKind::Answer);
                return frames;
            }
            frames.push(frame);
        }
    }
}

#[tokio::test]
async fn nonsense_is_ignored_or_reset() {
    let answering = Answering::start().await;
    let (tx, mut incoming) = raw_lane(&answering.address).await;
    let mut frames = vec![
        frame(1, FrameKind::Data, 0, b"to nobody"),
        frame(2, FrameKind::Close, 0, b""),
        frame(3, FrameKind::Reset, 0, b"\xff\xfe"),
        frame(4, FrameKind::Answer, 0, b"to no question"),
        frame(5, FrameKind::Credit, 0, b""),
        Frame { stream: 6, kind: 77, ..Frame::default() },
        frame(u64::MAX, FrameKind::Data, 0, b""),
    ];
    let ignored = frames.len() as u64;
    frames.push(frame(8, FrameKind::Open, HELD, b""));
    frames.push(frame(8, FrameKind::Open, HELD, b""));
    frames.push(Frame { credit: u32::MAX, ..frame(8, FrameKind::Credit, 0, b"") });
    frames.push(frame(9, FrameKind::Call, ECHO, b"still works"));
    tx.send(Batch { frames }).unwrap();
    tx.send(Batch::default()).unwrap();
    let others = frames_until_answer(&mut incoming, 9).await;
    assert_eq!(others.len(), 1, "{others:?}");
    assert_eq!(others[0].stream, 8);
    assert_eq!(others[0].kind(), FrameKind::Reset);
    assert_eq!(others[0].reason(), ResetReason::Protocol);
    // The credit for the stream that was reset is one more.
    assert_eq!(answering.transport.counters().lane(Lane::Log).frames_ignored, ignored + 1);
    assert_eq!(answering.transport.open_entries(), 0);
}

#[tokio::test]
async fn a_sender_that_ignores_the_window_loses_its_stream() {
    let answering = Answering::start().await;
    let (tx, mut incoming) = raw_lane(&answering.address).await;
    let open = frame(1, FrameKind::Open, HELD, b"");
    tx.send(Batch { frames: vec![open] }).unwrap();
    let chunk = Bytes::from(vec![0; 1_048_576]);
    for _ in 0..=(LINK_STREAM_WINDOW_BYTES + LINK_FRAME_BYTES_MAX) / chunk.len() {
        let data = Frame { payload: chunk.clone(), ..frame(1, FrameKind::Data, 0, b"") };
        tx.send(Batch { frames: vec![data] }).unwrap();
    }
    tx.send(Batch { frames: vec![frame(2, FrameKind::Call, ECHO, b"")] }).unwrap();
    let others = frames_until_answer(&mut incoming, 2).await;
    assert_eq!(others.len(), 1, "{others:?}");
    assert_eq!(others[0].reason(), ResetReason::Protocol);
    assert_eq!(answering.transport.open_entries(), 0);
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_lane_only() {
    let answering = Answering::start().await;
    let (tx, mut incoming) = raw_lane(&answering.address).await;
    let payload = Bytes::from(vec![0; BIG]);
    let huge = Frame { payload, ..frame(1, FrameKind::Call, ECHO, b"") };
    tx.send(Batch { frames: vec![huge] }).unwrap();
    assert!(!matches!(incoming.next().await, Some(Ok(_))));
    let asking = transport(ONE, TWO, &answering.address);
    wait_for(&asking, Lane::Log, |phase| *phase == flotilla_transport::LinkPhase::Up).await;
}

/// Its answers wait for the lane, and they are much longer than what asks for them.
#[tokio::test]
async fn a_peer_that_does_not_read_its_answers_gets_no_more_of_them() {
    const CALLS: usize = 60;
    let answering = Answering::start().await;
    let (tx, mut incoming) = raw_lane(&answering.address).await;
    for call in 1..=CALLS as u64 {
        tx.send(Batch { frames: vec![frame(call, FrameKind::Call, LARGE, b"")] }).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let (mut answered, mut refused) = (0, 0);
    while answered + refused < CALLS {
        for frame in incoming.next().await.unwrap().unwrap().frames {
            match frame.kind() {
                FrameKind::Answer => answered += 1,
                _ => {
                    assert_eq!(frame.reason(), ResetReason::Overloaded);
                    refused += 1;
                }
            }
        }
    }
    // Some more were in the connection.
    let waited = (LINK_QUEUE_BYTES_MAX + LINK_CALL_BYTES_IN_WORK_MAX) / LARGE_BYTES;
    assert!(answered <= waited + 8, "{answered} answers were kept for a peer that does not read");
    tx.send(Batch { frames: vec![frame(99, FrameKind::Call, ECHO, b"")] }).unwrap();
    frames_until_answer(&mut incoming, 99).await;
}
