use std::{task::Poll, time::Duration};

use bytes::Bytes;
use flotilla_transport::{CallError, Lane, Transport};
use flotilla_types::{
    ids::{GroupId, NodeId},
    limits::{LINK_FRAME_BYTES_MAX, LINK_QUEUE_FRAMES_MAX},
};

use crate::support::*;

async fn ask(transport: &Transport, method: u32, payload: &str) -> Result<Bytes, CallError> {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    transport.call(TWO, Lane::Forward, GroupId(7), method, payload, LONG).await
}

#[tokio::test]
async fn answers_on_all_lanes() {
    let (asking, _answering) = pair().await;
    for lane in Lane::ALL {
        let answer = asking.call(TWO, lane, GroupId(0), ECHO, Bytes::from_static(b"x"), LONG).await;
        assert_eq!(answer, Ok(Bytes::from_static(b"x")));
        assert_eq!(asking.counters().lane(lane).calls, 1);
    }
    assert!(asking.connected(TWO));
    assert!(!asking.connected(NodeId(3)));
}

#[tokio::test]
async fn errors_of_the_handler() {
    let (asking, _answering) = pair().await;
    let refused = ask(&asking, REFUSED, "").await.unwrap_err();
    assert_eq!(refused, CallError::Refused("not for 1 in 7".into()));
    assert!(refused.never_ran());
    let lost = ask(&asking, LOST, "").await.unwrap_err();
    assert_eq!(lost, CallError::Failed("given up".into()));
    assert!(!lost.never_ran());
    assert_eq!(asking.counters().lane(Lane::Forward).calls_failed, 2);
    assert_eq!(asking.open_entries(), 0);
}

#[tokio::test]
async fn answers_come_in_any_order() {
    let (asking, answering) = pair().await;
    let mut held = Box::pin(ask(&asking, HELD, "first"));
    assert!(futures::poll!(&mut held).is_pending());
    assert_eq!(ask(&asking, ECHO, "second").await, Ok(Bytes::from_static(b"second")));
    assert!(futures::poll!(&mut held).is_pending());
    answering.handler.open();
    assert_eq!(held.await, Ok(Bytes::from_static(b"first")));
}

#[tokio::test]
async fn no_answer_in_time() {
    let (asking, _answering) = pair().await;
    let timeout = Duration::from_millis(20);
    ask(&asking, ECHO, "connected").await.unwrap();
    let call = asking.call(TWO, Lane::Forward, GroupId(1), HELD, Bytes::new(), timeout);
    assert_eq!(call.await, Err(CallError::Timeout { sent: true }));
    assert_eq!(asking.open_entries(), 0);
}

#[tokio::test]
async fn never_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let asking = transport(ONE, TWO, &address);
    assert_eq!(ask(&asking, ECHO, "x").await, Err(CallError::Unreachable { sent: false }));
    wait_for(&asking, Lane::Forward, is_down).await;
    let unknown = asking.call(NodeId(9), Lane::Log, GroupId(1), ECHO, Bytes::new(), LONG).await;
    assert_eq!(unknown, Err(CallError::UnknownPeer(NodeId(9))));
    let Err(error) = asking.open(TWO, Lane::Log, GroupId(1), ECHO).await else {
        panic!("nobody listens")
    };
    assert_eq!(error, CallError::Unreachable { sent: false });
}

#[tokio::test]
async fn large_payloads() {
    let (asking, _answering) = pair().await;
    let largest = Bytes::from(vec![3; LINK_FRAME_BYTES_MAX]);
    let answer = asking.call(TWO, Lane::Bulk, GroupId(1), ECHO, largest.clone(), LONG).await;
    assert!(answer.unwrap() == largest);
    let bytes = LINK_FRAME_BYTES_MAX + 1;
    let too_large = Bytes::from(vec![3; bytes]);
    let answer = asking.call(TWO, Lane::Bulk, GroupId(1), ECHO, too_large, LONG).await;
    assert_eq!(answer, Err(CallError::TooLarge { bytes }));
}

#[tokio::test]
async fn dropped_calls_leave_nothing() {
    let (asking, answering) = pair().await;
    ask(&asking, ECHO, "connected").await.unwrap();
    let mut calls: Vec<_> = (0..100).map(|_| Box::pin(ask(&asking, HELD, "x"))).collect();
    for call in &mut calls {
        assert!(futures::poll!(call).is_pending());
    }
    assert_eq!(asking.open_entries(), 100);
    drop(calls);
    assert_eq!(asking.open_entries(), 0);
    // The late answers are ignored, and the lane goes on.
    answering.handler.open();
    eventually(|| asking.counters().lane(Lane::Forward).frames_ignored == 100).await;
    assert_eq!(ask(&asking, ECHO, "y").await, Ok(Bytes::from_static(b"y")));
    assert_eq!(asking.counters().lane(Lane::Forward).calls_failed, 0);
}

/// On one thread the connection's task cannot run between two polls here, so the queue fills.
#[tokio::test]
async fn a_crowded_queue_refuses_and_coalesces() {
    let (asking, _answering) = pair().await;
    ask(&asking, ECHO, "connected").await.unwrap();
    let before = *asking.counters().lane(Lane::Forward);
    let extra = 10;
    let mut calls: Vec<_> =
        (0..LINK_QUEUE_FRAMES_MAX + extra).map(|_| Box::pin(ask(&asking, ECHO, "x"))).collect();
    let mut overloaded = 0;
    let mut waiting = Vec::new();
    for mut call in calls.drain(..) {
        match futures::poll!(&mut call) {
            Poll::Ready(answer) => {
                assert_eq!(answer, Err(CallError::Overloaded));
                overloaded += 1;
            }
            Poll::Pending => waiting.push(call),
        }
    }
    assert_eq!((overloaded, waiting.len()), (extra, LINK_QUEUE_FRAMES_MAX));
    for call in waiting {
        assert_eq!(call.await, Ok(Bytes::from_static(b"x")));
    }
    let after = *asking.counters().lane(Lane::Forward);
    assert_eq!(after.frames_sent - before.frames_sent, LINK_QUEUE_FRAMES_MAX as u64);
    assert_eq!(after.batches_sent - before.batches_sent, 1);
}
