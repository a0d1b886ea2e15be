use bytes::Bytes;
use flotilla_transport::{CallError, Lane, PeerStream};
use flotilla_types::{
    ids::GroupId,
    limits::{LINK_STREAM_WINDOW_BYTES, LINK_STREAMS_MAX},
};
use futures::StreamExt;

use crate::support::*;

fn number(n: u64) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_frames_both_ways_in_order() {
    const FRAMES: u64 = 100_000;
    let (asking, answering) = pair().await;
    let PeerStream { mut tx, mut rx } =
        asking.open(TWO, Lane::Log, GroupId(1), ECHO).await.unwrap();
    let sender = tokio::spawn(async move {
        for n in 0..FRAMES {
            tx.send(number(n)).await.unwrap();
        }
    });
    for n in 0..FRAMES {
        assert_eq!(rx.next().await, Some(Ok(number(n))));
    }
    sender.await.unwrap();
    // Its half is dropped: the echo ends, and closes too.
    assert_eq!(rx.next().await, None);
    drop(rx);
    eventually(|| asking.open_entries() + answering.transport.open_entries() == 0).await;
    assert_eq!(asking.counters().lane(Lane::Log).frames_ignored, 0);
    assert_eq!(asking.counters().lane(Lane::Log).resets_sent, 0);
}

#[tokio::test]
async fn dropping_both_halves_ends_the_stream() {
    let (asking, answering) = pair().await;
    let mut stream = asking.open(TWO, Lane::Log, GroupId(1), ECHO).await.unwrap();
    stream.tx.send(number(1)).await.unwrap();
    assert_eq!(stream.rx.next().await, Some(Ok(number(1))));
    drop(stream);
    eventually(|| asking.open_entries() + answering.transport.open_entries() == 0).await;
}

#[tokio::test]
async fn refused() {
    let (asking, _answering) = pair().await;
    let mut stream = asking.open(TWO, Lane::Log, GroupId(1), REFUSED).await.unwrap();
    let refused = CallError::Refused("no streams today".into());
    assert_eq!(stream.rx.next().await, Some(Err(refused.clone())));
    assert_eq!(stream.rx.next().await, None);
    assert_eq!(stream.tx.send(number(1)).await, Err(refused));
    assert_eq!(asking.open_entries(), 0);
}

#[tokio::test]
async fn a_slow_consumer_stops_only_its_own_sender() {
    const FRAME_BYTES: usize = 65_536;
    const FRAMES: usize = 2 * LINK_STREAM_WINDOW_BYTES / FRAME_BYTES;
    let (asking, answering) = pair().await;
    let PeerStream { mut tx, mut rx } =
        asking.open(TWO, Lane::Log, GroupId(1), HELD).await.unwrap();
    let slow = tokio::spawn(async move {
        for n in 0..FRAMES {
            tx.send(Bytes::from(vec![n as u8; FRAME_BYTES])).await.unwrap();
        }
    });
    let mut other = asking.open(TWO, Lane::Log, GroupId(2), ECHO).await.unwrap();
    for n in 0..1_000 {
        other.tx.send(number(n)).await.unwrap();
        assert_eq!(other.rx.next().await, Some(Ok(number(n))));
    }
    // More than the window and a frame cannot have left: the sender waits.
    let sent = asking.counters().lane(Lane::Log).bytes_sent as usize;
    assert!(sent < LINK_STREAM_WINDOW_BYTES + FRAME_BYTES + 1_000 * 8, "{sent}");
    assert!(!slow.is_finished());
    answering.handler.open();
    for n in 0..FRAMES {
        let payload = rx.next().await.unwrap().unwrap();
        assert!(payload.len() == FRAME_BYTES && payload.iter().all(|&byte| byte == n as u8));
    }
    slow.await.unwrap();
}

#[tokio::test]
async fn a_sender_goes_on_when_nobody_reads() {
    let (asking, _answering) = pair().await;
    let PeerStream { mut tx, rx } = asking.open(TWO, Lane::Bulk, GroupId(1), ECHO).await.unwrap();
    drop(rx);
    // Four windows: the echoes come back to nobody and must not stop the echoing side.
    for _ in 0..64 {
        tx.send(Bytes::from(vec![1; LINK_STREAM_WINDOW_BYTES / 16])).await.unwrap();
    }
    drop(tx);
    eventually(|| asking.open_entries() == 0).await;
}

#[tokio::test]
async fn streams_are_bounded() {
    let (asking, _answering) = pair().await;
    let mut streams = Vec::new();
    for _ in 0..LINK_STREAMS_MAX {
        streams.push(asking.open(TWO, Lane::Control, GroupId(1), ECHO).await.unwrap());
    }
    let one_more = asking.open(TWO, Lane::Control, GroupId(1), ECHO).await;
    assert_eq!(one_more.err(), Some(CallError::Overloaded));
    drop(streams.pop());
    assert_eq!(asking.open_entries(), streams.len());
    let mut stream = asking.open(TWO, Lane::Control, GroupId(1), ECHO).await.unwrap();
    stream.tx.send(number(5)).await.unwrap();
    // Also through the Stream trait.
    assert_eq!(StreamExt::next(&mut stream.rx).await, Some(Ok(number(5))));
}
