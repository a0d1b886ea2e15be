//! The workloads: what is timed, on a queue of its own each.

mod deep;
mod drain;
mod idle_longpoll;
mod latency;
mod mixed;
mod send;

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::args::{Command, Settings};
use crate::report::{Judgement, Row};
use crate::run::Run;
use crate::supply::Supply;
use crate::workers::{Intake, Team, Until};

/// Consumers that a load of its own keeps busy wait this long for more; the end of a run takes it.
const SHORT_WAIT_S: u32 = 1;
/// For filling and emptying queues outside the timed phases.
const HELPERS: usize = 16;
const HELPER_BATCH: usize = 10;

/// Runs one workload: a row for each of its timed phases.
pub(crate) async fn run(settings: &Settings, command: &Command) -> anyhow::Result<Vec<Row>> {
    let window = match command {
        Command::Mixed(mixed) => Some(mixed.window),
        _ => None,
    };
    let run = Run::create(settings, window).await?;
    let mut rows = match command {
        Command::Send(args) => vec![send::run(&run, args).await?],
        Command::Mixed(args) => vec![mixed::run(&run, args).await?],
        Command::Drain(args) => vec![drain::run(&run, args).await?],
        Command::Latency(args) => vec![latency::run(&run, args).await?],
        Command::IdleLongpoll(args) => vec![idle_longpoll::run(&run, args).await?],
        Command::Deep(args) => deep::run(&run, args).await?,
        Command::Summary { .. } => Vec::new(),
    };
    let verify = !settings.no_verify;
    if verify {
        empty(&run).await?;
    }
    let judgement = Judgement::of(&run, verify);
    for row in &mut rows {
        row.workload = match settings.groups {
            Some(groups) => format!("{command} --groups {groups}"),
            None => command.to_string(),
        };
        row.judgement = judgement.clone();
    }
    run.delete_queue().await?;
    Ok(rows)
}

/// When a timed phase that begins now ends.
fn end_of_phase(run: &Run) -> Instant {
    Instant::now() + Duration::from_secs(u64::from(run.settings.seconds))
}

/// Sends so many messages, untimed.
async fn fill(run: &Rc<Run>, messages: u64) -> anyhow::Result<()> {
    Team::producers(run, HELPERS, HELPER_BATCH, Supply::count(messages)).await?.join().await
}

/// Receives and deletes until everything that was acknowledged has come back or is lost.
async fn empty(run: &Rc<Run>) -> anyhow::Result<()> {
    run.end_sending();
    let intake = Intake { batch: HELPER_BATCH, wait_s: SHORT_WAIT_S, until: Until::Complete };
    Team::consumers(run, HELPERS, intake).await?.join().await
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Args;
    use crate::stub::{self, Fault};

    fn rows(line: &str, fault: Fault) -> Vec<Row> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let words = format!("flotilla-bench {line} --patience 1 --seconds 1");
            let mut args = Args::try_parse_from(words.split(' ')).unwrap();
            args.settings.endpoints = vec![stub::start(fault).await];
            super::run(&args.settings, &args.command).await.unwrap()
        })
    }

    fn judgement(line: &str, fault: Fault) -> Judgement {
        rows(line, fault).remove(0).judgement
    }

    const DRAIN: &str = "drain --consumers 2 --batch 3 --messages 100";

    fn sound() -> Judgement {
        Judgement { verified: true, ..Judgement::default() }
    }

    #[test]
    fn a_faithful_queue_is_sound_under_every_workload() {
        for (line, phases) in [
            (DRAIN, 1),
            ("send --producers 2 --batch 10", 1),
            ("mixed --producers 2 --consumers 2 --batch 2 --window 10", 1),
            ("latency --rate 50 --producers 2 --consumers 2", 1),
            ("idle-longpoll --consumers 1 --messages 3", 1),
            ("deep --messages 50 --producers 1 --consumers 2 --batch 1", 4),
        ] {
            let rows = rows(line, Fault::None);
            assert_eq!(rows.len(), phases, "{line}");
            for row in rows {
                assert_eq!(row.judgement, sound(), "{line}");
                assert!(row.messages > 0, "{line}");
            }
        }
    }

    #[test]
    fn every_message_is_counted_where_the_number_is_known() {
        assert_eq!(rows(DRAIN, Fault::None)[0].messages, 100);
        let latency = rows("latency --rate 50 --producers 2 --consumers 2", Fault::None);
        assert_eq!(latency[0].messages, 50);
    }

    #[test]
    fn a_lost_message_is_found() {
        let judgement = judgement(DRAIN, Fault::Lose(99));
        assert_eq!(judgement, Judgement { lost: 1, ..sound() });
        assert!(!judgement.is_sound());
    }

    #[test]
    fn a_damaged_message_is_found_and_missed() {
        let judgement = judgement(DRAIN, Fault::Damage(0));
        assert_eq!(judgement, Judgement { lost: 1, damaged: 1, ..sound() });
    }

    #[test]
    fn a_repeated_message_is_counted() {
        let judgement = judgement(DRAIN, Fault::Repeat(50));
        assert_eq!(judgement, Judgement { duplicates: 1, ..sound() });
        assert!(judgement.is_sound());
    }

    #[test]
    fn a_refused_message_is_not_missed() {
        let judgement =
            judgement("latency --rate 20 --producers 1 --consumers 1", Fault::Refuse(5));
        assert_eq!((judgement.errors, judgement.lost), (1, 0));
        assert!(judgement.last_error.unwrap().contains("503"));
    }
}
