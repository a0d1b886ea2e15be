use futures::StreamExt as _;

use super::*;

fn session() -> Arc<Session> {
    Session::new(NodeId(2), Lane::Log, Arc::default(), CancellationToken::new())
}

fn call(session: &Arc<Session>) -> PendingCall {
    session.begin_call(GroupId(1), 1, Bytes::from_static(b"x")).unwrap()
}

#[tokio::test]
async fn what_is_still_queued_was_not_sent() {
    let session = session();
    let mut batches = session.batches();
    let mut sent = call(&session);
    assert_eq!(batches.next().await.unwrap().frames.len(), 1);
    let mut unsent = call(&session);
    session.fail();
    assert_eq!(sent.answer().await, Err(CallError::Unreachable { sent: true }));
    assert_eq!(unsent.answer().await, Err(CallError::Unreachable { sent: false }));
    assert!(batches.next().await.is_none());
    let after = session.begin_call(GroupId(1), 1, Bytes::new());
    assert_eq!(after.err(), Some(CallError::Unreachable { sent: false }));
    assert_eq!(session.open_entries(), 0);
}

#[tokio::test]
async fn a_withdrawn_call_never_leaves() {
    let session = session();
    let mut batches = session.batches();
    let (first, second) = (call(&session), call(&session));
    assert!(first.withdraw());
    assert!(!first.withdraw());
    let frames = batches.next().await.unwrap().frames;
    assert_eq!(frames.iter().map(|frame| frame.stream).collect::<Vec<_>>(), [second.stream]);
    assert!(!second.withdraw());
}

#[tokio::test]
async fn calls_without_answer_are_bounded() {
    let session = session();
    let mut batches = session.batches();
    let mut calls = Vec::new();
    for _ in 0..LINK_CALLS_MAX {
        calls.push(call(&session));
        batches.next().await.unwrap();
    }
    let one_more = session.begin_call(GroupId(1), 1, Bytes::new());
    assert_eq!(one_more.err(), Some(CallError::Overloaded));
    drop(calls.pop().unwrap());
    assert_eq!(session.open_entries(), calls.len());
    call(&session);
}

#[tokio::test]
async fn an_answer_settles_only_its_own_call() {
    let session = session();
    let (mut first, mut second) = (call(&session), call(&session));
    let answer = |stream, payload: &'static [u8]| Frame {
        stream,
        kind: FrameKind::Answer.into(),
        payload: Bytes::from_static(payload),
        ..Frame::default()
    };
    session.on_frame(answer(second.stream, b"2"));
    session.on_frame(answer(first.stream, b"1"));
    session.on_frame(answer(first.stream, b"again"));
    assert_eq!(first.answer().await, Ok(Bytes::from_static(b"1")));
    assert_eq!(second.answer().await, Ok(Bytes::from_static(b"2")));
}

#[tokio::test]
async fn losing_the_connection_ends_the_session() {
    let session = session();
    drop(session.batches());
    assert!(session.ended.is_cancelled());
}
