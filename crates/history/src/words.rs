//! Requests in words, for reports and timelines.

use crate::around::queue_of;
use crate::record::{FaultPhase, Mark, Op, Outcome, Record};

/// What a request was.
pub(crate) fn kind(op: &Op) -> &'static str {
    match op {
        Op::Send(_) => "send",
        Op::Receive(_) => "receive",
        Op::Delete(_) => "delete",
        Op::Change(_) => "change visibility",
        Op::Purge(_) => "purge",
        Op::CreateQueue(_) => "create queue",
        Op::DeleteQueue(_) => "delete queue",
        Op::SetAttributes(_) => "set attributes",
        Op::GetAttributes(_) => "get attributes",
        Op::StartMove(_) => "start move task",
        Op::ListMoves(_) => "list move tasks",
        Op::CancelMove(_) => "cancel move task",
        Op::Fault(_) => "fault",
        Op::Mark(_) => "mark",
    }
}

/// What was known of it in the end: the worst of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Colour {
    Ok,
    Fail,
    Info,
}

impl Colour {
    fn of<T>(outcome: &Outcome<T>) -> Self {
        match outcome {
            Outcome::Ok(_) => Self::Ok,
            Outcome::Fail(_) => Self::Fail,
            Outcome::Info(_) => Self::Info,
        }
    }
}

/// See [`Colour`].
pub(crate) fn colour(op: &Op) -> Colour {
    let worst = |colours: &mut dyn Iterator<Item = Colour>| colours.max().unwrap_or(Colour::Ok);
    match op {
        Op::Send(op) => worst(&mut op.entries.iter().map(|it| Colour::of(&it.result))),
        Op::Receive(op) => Colour::of(&op.result),
        Op::Delete(op) => worst(&mut op.entries.iter().map(|it| Colour::of(&it.result))),
        Op::Change(op) => worst(&mut op.entries.iter().map(|it| Colour::of(&it.result))),
        Op::Purge(op) | Op::DeleteQueue(op) => Colour::of(&op.result),
        Op::CreateQueue(op) | Op::SetAttributes(op) => Colour::of(&op.result),
        Op::GetAttributes(op) => Colour::of(&op.result),
        Op::StartMove(op) => Colour::of(&op.result),
        Op::ListMoves(op) => Colour::of(&op.result),
        Op::CancelMove(op) => Colour::of(&op.result),
        Op::Fault(_) | Op::Mark(_) => Colour::Ok,
    }
}

fn of<T>(outcome: &Outcome<T>, ok: impl Fn(&T) -> String) -> String {
    match outcome {
        Outcome::Ok(answer) => ok(answer),
        Outcome::Fail(code) => format!("not applied: {code}"),
        Outcome::Info(reason) => format!("unknown: {reason}"),
    }
}

fn short(handle: &str) -> String {
    let tail = handle.char_indices().rev().nth(7).map_or(0, |(at, _)| at);
    format!("..{}", &handle[tail..])
}

/// What a request asked and got.
pub(crate) fn details(op: &Op) -> String {
    let done = |outcome: &Outcome<()>| of(outcome, |()| "ok".to_owned());
    let attributes = |attributes: &std::collections::BTreeMap<String, String>| {
        let pairs: Vec<String> =
            attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join(" ")
    };
    match op {
        Op::Send(op) => join(op.entries.iter().map(|it| {
            let group = it.group.as_ref().map_or(String::new(), |it| format!(" group {it}"));
            let dedup = it.dedup.as_ref().map_or(String::new(), |it| format!(" dedup {it}"));
            let delay = it.delay_ms.map_or(String::new(), |it| format!(" delay {it} ms"));
            let result = of(&it.result, |sent| {
                let sequence =
                    sent.sequence.as_ref().map_or(String::new(), |it| format!(" number {it}"));
                format!("id {}{sequence}", sent.message_id)
            });
            format!("{}{group}{dedup}{delay}: {result}", it.content.key)
        })),
        Op::Receive(op) => {
            let wait = op.wait_ms.map_or(String::new(), |it| format!(" wait {it} ms"));
            let hide = op.visibility_ms.map_or(String::new(), |it| format!(" hide {it} ms"));
            let attempt = op.attempt.as_ref().map_or(String::new(), |it| format!(" attempt {it}"));
            let result = of(&op.result, |delivered| match delivered.as_slice() {
                [] => "empty".to_owned(),
                delivered => join(delivered.iter().map(|it| {
                    let key = it.content.map_or(it.message_id.clone(), |it| it.key.to_string());
                    let count = it.receive_count.map_or(String::new(), |it| format!(" ({it}.)"));
                    let sequence =
                        it.sequence.as_ref().map_or(String::new(), |it| format!(" number {it}"));
                    format!("{key}{count}{sequence} handle {}", short(&it.handle))
                })),
            });
            let lost = if op.lost { ", may have hidden more" } else { "" };
            let unheard: Vec<String> = op.unheard.iter().map(u32::to_string).collect();
            let unheard = match unheard.is_empty() {
                true => String::new(),
                false => format!(", not heard: {}", unheard.join(" ")),
            };
            format!("up to {}{wait}{hide}{attempt}: {result}{lost}{unheard}", op.max)
        }
        Op::Delete(op) => join(
            op.entries
                .iter()
                .map(|it| format!("handle {}: {}", short(&it.handle), done(&it.result))),
        ),
        Op::Change(op) => join(op.entries.iter().map(|it| {
            let result = done(&it.result);
            format!("handle {} for {} ms: {result}", short(&it.handle), it.visibility_ms)
        })),
        Op::Purge(op) | Op::DeleteQueue(op) => done(&op.result),
        Op::CreateQueue(op) | Op::SetAttributes(op) => {
            format!("{}: {}", attributes(&op.attributes), done(&op.result))
        }
        Op::GetAttributes(op) => of(&op.result, attributes),
        Op::StartMove(op) => {
            let to = op.destination.as_deref().unwrap_or("where each came from");
            format!("to {to}: {}", of(&op.result, |_| "ok".to_owned()))
        }
        Op::ListMoves(op) => of(&op.result, |task| match task {
            Some(task) => format!("{}, {} moved", task.status, task.moved),
            None => "none".to_owned(),
        }),
        Op::CancelMove(op) => of(&op.result, |moved| format!("{moved} moved")),
        Op::Fault(fault) => {
            let phase = match fault.phase {
                FaultPhase::Fired => "fired",
                FaultPhase::Healed => "healed",
                FaultPhase::Ready => "over, all is well again",
            };
            format!("{} of nodes {:?} {phase}", fault.name, fault.nodes)
        }
        Op::Mark(Mark::DrainBegan) => "the drain begins".to_owned(),
        Op::Mark(Mark::DrainEnded { complete: true }) => "the drain is over".to_owned(),
        Op::Mark(Mark::DrainEnded { complete: false }) => "the drain was given up".to_owned(),
        Op::Mark(Mark::Note(text)) => text.clone(),
    }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("; ")
}

/// A request in a line.
pub(crate) fn line(record: &Record) -> String {
    let queue = queue_of(&record.op).map_or(String::new(), |queue| format!(" {queue}"));
    let status = record.status.map_or(String::new(), |status| format!(" [{status}]"));
    let id = record.request_id.as_ref().map_or(String::new(), |id| format!(" {{{id}}}"));
    format!("{}{queue}: {}{status}{id}", kind(&record.op), details(&record.op))
}

/// Microseconds as seconds with all their digits.
pub(crate) fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}
