//! Clocks that are wrong. What is faked is the time of day; the timers of a machine go on.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use tokio::time::sleep;

use super::machine::Strike;
use super::{FaultKind, Nemesis};

const JUMPS_SECONDS: [i64; 8] = [-3_600, -60, -10, -1, 1, 10, 60, 3_600];
/// The library looks for news this often.
const NOTICED: Duration = Duration::from_millis(1_100);
const RIGHT: &str = "+0";

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let jump = *JUMPS_SECONDS.choose(&mut nemesis.dice).expect("there are some");
    let text = match strike.kind {
        FaultKind::ClockJump => format!("{jump:+}s"),
        _ if nemesis.dice.random_range(0..2) == 0 => "+0 x1.05".to_owned(),
        _ => "+0 x0.95".to_owned(),
    };
    let set = |nemesis: &Nemesis<'_>, text: &str| {
        strike.nodes.iter().for_each(|id| nemesis.fleet.set_clock(*id, text));
    };
    if strike.kind == FaultKind::ClockStrobe {
        nemesis.fired(strike);
        let begin = Instant::now();
        while begin.elapsed() < 4 * NOTICED + nemesis.hold {
            let jump = *JUMPS_SECONDS.choose(&mut nemesis.dice).expect("there are some");
            set(nemesis, &format!("{jump:+}s"));
            sleep(NOTICED).await;
            set(nemesis, RIGHT);
            sleep(NOTICED).await;
        }
    } else {
        set(nemesis, &text);
        sleep(NOTICED).await;
        nemesis.fired(strike);
    }
    nemesis.hold_for_long().await;
    set(nemesis, RIGHT);
    sleep(NOTICED).await;
    Ok(())
}
