//! Wall-clock time as a dependency, so that tests and the simulator can own it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where unix time comes from. Only leaders ask, and stamp what they propose; nothing that is
/// applied ever does.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the epoch.
    fn now_ms(&self) -> u64;

    /// Others have been at this time already: it is at least so late.
    fn at_least(&self, _ms: u64) {}

    /// It is this late, whatever this clock says: those of the others say so.
    fn begin_at(&self, _ms: u64) {}

    /// Those of most others say that this clock is ahead by so much; negative: behind; 0: nobody
    /// knows better. Said again and again, each time as it is then.
    fn steer(&self, _ahead_ms: i64) {}
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        // Before 1970 counts as 1970: a shard's own clock never runs back anyway.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

/// The machine's clock without its jumps. It begins with the time of day, then goes on as the time
/// since its beginning does, and follows the time of day by going up to 0.5 % faster or slower.
///
/// Leases and delays are differences of what leaders stamp. If those stamps jumped with a clock that
/// somebody sets, a second forward would take messages away from whoever works on them, and an hour
/// back would keep what is hidden hidden for an hour. A leader that is behind what earlier leaders
/// stamped jumps forward once ([`Clock::at_least`]): shards never go back, and would stand still.
///
/// A node that starts with a wrong time of day begins with that of the others ([`Clock::begin_at`]). Who
/// follows a wrong one, or has timers that are too fast, is pulled back ([`Clock::steer`]) by 10 %: faster
/// than either goes away. On a machine that was suspended this clock stood still, too, and is pulled
/// forward.
#[derive(Debug)]
pub struct SteadyClock<S = MachineTime> {
    source: S,
    last: Mutex<Reading>,
}

/// What a [`SteadyClock`] looks at.
pub trait TimeSource: Send + Sync + 'static {
    /// Since any moment that stays the same; never goes back.
    fn elapsed(&self) -> Duration;

    /// Since the epoch. It may be set, forward and back.
    fn time_of_day(&self) -> Duration;
}

/// The machine's own two clocks.
#[derive(Clone, Copy, Debug)]
pub struct MachineTime {
    began: Instant,
}

impl TimeSource for MachineTime {
    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn time_of_day(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Duration,
    since_epoch: Duration,
    /// What is left of [`Clock::steer`].
    ahead: Ahead,
}

/// How far a clock is from where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    Of(Duration),
    Behind(Duration),
}

impl Ahead {
    const NOT: Self = Self::Of(Duration::ZERO);

    fn by_ms(ms: i64) -> Self {
        let by = Duration::from_millis(ms.unsigned_abs());
        if ms < 0 { Self::Behind(by) } else { Self::Of(by) }
    }

    fn is_over(self) -> bool {
        let (Self::Of(by) | Self::Behind(by)) = self;
        by.is_zero()
    }
}

/// The clock is faster or slower by one part in so many while it is not where the time of day is.
const SLEW_DIVISOR: u32 = 200;
/// By one part in so many while it is told that it is wrong.
const STEER_DIVISOR: u32 = 10;

/// The same with a clock that is ahead, as others say: where it is, and what is left of that.
///
/// What is left is as fine as time is: it is read many times in a millisecond, and a rest that were rounded would
/// never be used up.
fn steered(before: Duration, elapsed: Duration, ahead: Ahead) -> (Duration, Ahead) {
    let steady = before + elapsed;
    let step = elapsed / STEER_DIVISOR;
    match ahead {
        Ahead::Of(by) => (steady - step.min(by), Ahead::Of(by.saturating_sub(step))),
        Ahead::Behind(by) => (steady + step.min(by), Ahead::Behind(by.saturating_sub(step))),
    }
}

/// Where a clock is that was at `before` a while ago.
fn follow(before: Duration, elapsed: Duration, time_of_day: Duration) -> Duration {
    let steady = before + elapsed;
    let slew = elapsed / SLEW_DIVISOR;
    match steady < time_of_day {
        true => (steady + slew).min(time_of_day),
        false => (steady - slew).max(time_of_day),
    }
}

impl SteadyClock {
    /// Begins with the time of day.
    pub fn start() -> Self {
        Self::over(MachineTime { began: Instant::now() })
    }
}

impl<S: TimeSource> SteadyClock<S> {
    /// The same on other clocks than the machine's.
    pub fn over(source: S) -> Self {
        let now =
            Reading { at: source.elapsed(), since_epoch: source.time_of_day(), ahead: Ahead::NOT };
        Self { source, last: Mutex::new(now) }
    }

    fn read(&self, at_least: Duration) -> Duration {
        // Whoever panicked with the lock left a reading in it.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever reads late must not make the next one count the same time again.
        let at = self.source.elapsed().max(last.at);
        let elapsed = at - last.at;
        let (since_epoch, ahead) = match last.ahead.is_over() {
            true => (follow(last.since_epoch, elapsed, self.source.time_of_day()), Ahead::NOT),
            false => steered(last.since_epoch, elapsed, last.ahead),
        };
        let since_epoch = since_epoch.max(at_least);
        *last = Reading { at, since_epoch, ahead };
        since_epoch
    }
}

impl<S: TimeSource> Clock for SteadyClock<S> {
    fn now_ms(&self) -> u64 {
        self.read(Duration::ZERO).as_millis() as u64
    }

    fn at_least(&self, ms: u64) {
        self.read(Duration::from_millis(ms));
    }

    fn begin_at(&self, ms: u64) {
        let since_epoch = Duration::from_millis(ms);
        let begin = Reading { at: self.source.elapsed(), since_epoch, ahead: Ahead::NOT };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = begin;
    }

    fn steer(&self, ahead_ms: i64) {
        // Up to now it went as it was told before.
        self.read(Duration::ZERO);
        self.last.lock().unwrap_or_else(PoisonError::into_inner).ahead = Ahead::by_ms(ahead_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_clock_that_is_right_stays_right() {
        let mut now = 1_000 * SECOND;
        for ms in 1..=100 {
            let time_of_day = 1_000 * SECOND + Duration::from_millis(ms);
            now = follow(now, Duration::from_millis(1), time_of_day);
            assert_eq!(now, time_of_day);
        }
    }

    #[test]
    fn a_jump_of_the_time_of_day_changes_the_pace_and_nothing_else() {
        let begin = 100_000 * SECOND;
        for (time_of_day, after_a_second) in [
            (begin + 3_600 * SECOND, Duration::from_millis(1_005)),
            (begin - 3_600 * SECOND, Duration::from_millis(995)),
            (begin + SECOND + Duration::from_millis(3), Duration::from_millis(1_003)),
            (begin + SECOND - Duration::from_millis(3), Duration::from_millis(997)),
        ] {
            assert_eq!(follow(begin, SECOND, time_of_day), begin + after_a_second);
        }
    }

    #[test]
    fn a_clock_that_is_ahead_goes_slower_until_it_is_where_the_others_are() {
        let before = 1_000 * SECOND;
        let ms = Duration::from_millis;
        let ahead = Ahead::by_ms;
        assert_eq!(steered(before, SECOND, ahead(250)), (before + ms(900), ahead(150)));
        assert_eq!(steered(before, SECOND, ahead(40)), (before + ms(960), ahead(0)));
        assert_eq!(steered(before, SECOND, ahead(-250)), (before + ms(1_100), ahead(-150)));
        let (at, rest) = steered(before, SECOND, ahead(-40));
        assert_eq!((at, rest.is_over()), (before + ms(1_040), true));
        assert_eq!(steered(before, Duration::ZERO, ahead(250)), (before, ahead(250)));
    }

    #[test]
    fn a_clock_that_is_read_all_the_time_is_pulled_no_farther_than_it_should_be() {
        let read = Duration::from_micros(7);
        for ahead_ms in [40, -40] {
            let (mut now, mut ahead) = (1_000 * SECOND, Ahead::by_ms(ahead_ms));
            for _ in 0..SECOND.as_micros() / read.as_micros() {
                (now, ahead) = steered(now, read, ahead);
            }
            let slower_us = (1_001 * SECOND).saturating_sub(now).as_micros() as i64;
            let quicker_us = now.saturating_sub(1_001 * SECOND).as_micros() as i64;
            assert!(ahead.is_over(), "{ahead:?}");
            assert!((slower_us - quicker_us - 1_000 * ahead_ms).abs() < 10, "{now:?}");
        }
    }

    #[test]
    fn a_clock_never_goes_back_while_it_is_pulled() {
        let clock = SteadyClock::start();
        let mut last_ms = clock.now_ms();
        for ahead_ms in [1_000, -1_000, 0, i64::MAX, i64::MIN] {
            clock.steer(ahead_ms);
            for _ in 0..100 {
                let now_ms = clock.now_ms();
                assert!((last_ms..last_ms + 60_000).contains(&now_ms), "{now_ms} after {last_ms}");
                last_ms = now_ms;
            }
        }
    }

    /// Shows one time after the other, then the last one.
    struct Shown(Mutex<Vec<u64>>);

    impl TimeSource for Shown {
        fn elapsed(&self) -> Duration {
            let mut left = self.0.lock().unwrap();
            let ms = if left.len() > 1 { left.remove(0) } else { left[0] };
            Duration::from_millis(ms)
        }

        fn time_of_day(&self) -> Duration {
            1_000 * SECOND
        }
    }

    #[test]
    fn who_reads_late_makes_no_time_pass_twice() {
        let clock = SteadyClock::over(Shown(Mutex::new(vec![0, 100, 20, 100, 20, 100])));
        for _ in 0..5 {
            clock.now_ms();
        }
        assert!((1_000_099..=1_000_100).contains(&clock.now_ms()));
    }

    #[test]
    fn a_clock_that_is_set_goes_on_from_there() {
        let clock = SteadyClock::start();
        let wrong_ms = clock.now_ms();
        for right_ms in [wrong_ms - 3_600_000, wrong_ms + 3_600_000] {
            clock.begin_at(right_ms);
            let now_ms = clock.now_ms();
            assert!((right_ms..right_ms + 60_000).contains(&now_ms), "{now_ms}");
        }
    }

    #[test]
    fn whoever_was_there_before_is_followed_at_once() {
        let clock = SteadyClock::start();
        let ahead_ms = clock.now_ms() + 3_600_000;
        clock.at_least(ahead_ms);
        assert!(clock.now_ms() >= ahead_ms);
        clock.at_least(0);
        assert!(clock.now_ms() >= ahead_ms);
    }
}
