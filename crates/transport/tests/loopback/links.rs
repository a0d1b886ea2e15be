use bytes::Bytes;
use flotilla_transport::{CallError, Lane, LinkPhase};
use flotilla_types::ids::{GroupId, NodeId};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::support::*;

#[tokio::test]
async fn a_peer_that_restarts() {
    let (asking, answering) = pair().await;
    let call = |method| asking.call(TWO, Lane::Log, GroupId(1), method, Bytes::new(), LONG);
    call(ECHO).await.unwrap();
    let mut held = Box::pin(call(HELD));
    assert!(futures::poll!(&mut held).is_pending());
    let mut stream = asking.open(TWO, Lane::Log, GroupId(1), ECHO).await.unwrap();
    stream.tx.send(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(stream.rx.next().await, Some(Ok(Bytes::from_static(b"x"))));

    let address = answering.stop().await;
    assert_eq!(held.await, Err(CallError::Unreachable { sent: true }));
    assert_eq!(stream.rx.next().await, Some(Err(CallError::Unreachable { sent: true })));
    assert_eq!(stream.rx.next().await, None);
    assert!(stream.tx.send(Bytes::new()).await.is_err());
    wait_for(&asking, Lane::Log, is_down).await;
    assert_eq!(call(ECHO).await, Err(CallError::Unreachable { sent: false }));
    assert_eq!(asking.open_entries(), 0);

    let _answering = Answering::start_at(&address).await;
    wait_for(&asking, Lane::Log, |phase| *phase == LinkPhase::Up).await;
    call(ECHO).await.unwrap();
    assert_eq!(asking.counters().lane(Lane::Log).reconnects, 1);
}

/// A gap of which nothing else is left to be seen: found by seed 77000083 of the simulator.
#[tokio::test]
async fn both_sides_count_how_often_a_lane_came_up() {
    let (asking, mut answering) = pair().await;
    for times in 1..=3 {
        wait_for(&asking, Lane::Log, |phase| *phase == LinkPhase::Up).await;
        assert_eq!(asking.times_up(TWO, Lane::Log), times);
        eventually(|| answering.transport.times_up(ONE, Lane::Log) == 1).await;
        let address = answering.stop().await;
        wait_for(&asking, Lane::Log, is_down).await;
        answering = Answering::start_at(&address).await;
    }
    assert_eq!(asking.times_up(NodeId(9), Lane::Log), 0);
}

#[tokio::test]
async fn refused_introductions() {
    let answering = Answering::start().await;
    let address = &answering.address;
    let cases = [
        (with_identity(ONE, TWO, address, "cluster", "guess"), "wrong cluster token"),
        (with_identity(ONE, TWO, address, "other", "token"), "wrong cluster:"),
        (with_identity(NodeId(5), TWO, address, "cluster", "token"), "node 5 is not a configured"),
    ];
    for (asking, reason) in cases {
        let LinkPhase::Down(text) = wait_for(&asking, Lane::Control, is_down).await else {
            unreachable!()
        };
        assert!(text.contains(reason), "{text}");
        assert!(!asking.connected(TWO));
    }
    let meant_another = with_identity(ONE, NodeId(3), address, "cluster", "token");
    let mut phase = meant_another.watch(NodeId(3), Lane::Log).unwrap();
    let phase = phase.wait_for(is_down).await.unwrap().clone();
    assert_eq!(phase, LinkPhase::Down("refused by the peer: this is node 2, not node 3".into()));

    let not_yet_formed = with_identity(ONE, TWO, address, "", "token");
    wait_for(&not_yet_formed, Lane::Control, |phase| *phase == LinkPhase::Up).await;
}

#[tokio::test]
async fn a_node_without_a_handler_refuses_until_it_has_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let starting = transport(TWO, ONE, "127.0.0.1:9");
    tokio::spawn(starting.clone().serve(listener, std::future::pending()));
    let asking = transport(ONE, TWO, &address);
    let phase = wait_for(&asking, Lane::Log, is_down).await;
    assert_eq!(phase, LinkPhase::Down("refused by the peer: this node is starting".into()));
    starting.set_handler(Gated::new());
    wait_for(&asking, Lane::Log, |phase| *phase == LinkPhase::Up).await;
}

#[tokio::test]
async fn closing_ends_everything() {
    let (asking, answering) = pair().await;
    let mut held = Box::pin(asking.call(TWO, Lane::Forward, GroupId(1), HELD, Bytes::new(), LONG));
    // Sent for certain once it counts as sent.
    let sent = || asking.counters().lane(Lane::Forward).frames_sent == 1;
    tokio::select! {
        _ = &mut held => panic!("the gate is shut"),
        () = eventually(sent) => (),
    }
    asking.close();
    assert_eq!(held.await, Err(CallError::Unreachable { sent: true }));
    wait_for(&asking, Lane::Forward, is_down).await;
    eventually(|| answering.transport.open_entries() == 0).await;
}

/// Takes the peer's place until it is told to fall silent with its connections open.
async fn proxy(to: String, silent: CancellationToken) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            if silent.is_cancelled() {
                std::mem::forget(near);
                continue;
            }
            let mut far = TcpStream::connect(&to).await.unwrap();
            let silent = silent.clone();
            tokio::spawn(async move {
                silent.run_until_cancelled(copy_bidirectional(&mut near, &mut far)).await;
                // Neither closed nor read any more.
                std::future::pending::<()>().await;
                drop((near, far));
            });
        }
    });
    address
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_noticed() {
    let answering = Answering::start().await;
    let silent = CancellationToken::new();
    let asking = transport(ONE, TWO, &proxy(answering.address.clone(), silent.clone()).await);
    let call = || asking.call(TWO, Lane::Control, GroupId(1), ECHO, Bytes::new(), LONG);
    call().await.unwrap();
    silent.cancel();
    assert_eq!(call().await, Err(CallError::Unreachable { sent: true }));
    wait_for(&asking, Lane::Control, is_down).await;
}

#[tokio::test]
async fn a_newer_lane_replaces_the_older() {
    let answering = Answering::start().await;
    let first = transport(ONE, TWO, &answering.address);
    wait_for(&first, Lane::Log, |phase| *phase == LinkPhase::Up).await;
    let mut phase = first.watch(TWO, Lane::Log).unwrap();
    phase.mark_unchanged();
    let _second = transport(ONE, TWO, &answering.address);
    // The first comes back after that, and takes it from the second: two processes that claim
    // to be one node never both keep a lane.
    phase.wait_for(is_down).await.unwrap();
}
