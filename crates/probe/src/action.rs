//! What failpoints are told to do: `name=action` or `name=action@n` (at the n-th time) or
//! `name=action%p` (each time with probability p), several with semicolons between.

use std::time::Duration;

use crate::Point;

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Action {
    /// The process ends as if it had been killed.
    Crash,
    /// The step fails, where it can.
    Error,
    /// It takes longer. The thread sleeps, as it does in a system call that takes long.
    Delay(Duration),
    /// It takes until the point is told something else.
    Pause,
}

impl Action {
    /// As it is said when it is done.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Error => "error",
            Self::Delay(_) => "delay",
            Self::Pause => "pause",
        }
    }
}

/// When it happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum When {
    Always,
    /// Once, at this time from now on.
    Nth(u64),
    Chance(f64),
}

/// `None`: the point does nothing from now on.
pub(crate) type Order = (Point, Option<(Action, When)>);

pub(crate) fn parse(text: &str) -> Result<Vec<Order>, String> {
    text.split(';').map(str::trim).filter(|part| !part.is_empty()).map(order).collect()
}

fn order(text: &str) -> Result<Order, String> {
    let bad = || format!("not understood: {text}");
    let (name, what) = text.split_once('=').ok_or_else(bad)?;
    let point = Point::named(name).ok_or_else(|| format!("no failpoint is called {name}"))?;
    let (action, when) = match what.split_once(['@', '%']) {
        Some((action, number)) if what.contains('@') => {
            (action, When::Nth(number.parse().map_err(|_| bad())?))
        }
        Some((action, chance)) => (action, When::Chance(chance.parse().map_err(|_| bad())?)),
        None => (what, When::Always),
    };
    let action = match action {
        "off" => return Ok((point, None)),
        "crash" => Action::Crash,
        "error" if point.can_fail() => Action::Error,
        "error" => return Err(format!("{name} cannot fail")),
        "pause" => Action::Pause,
        _ => {
            let ms = action.strip_prefix("delay(").and_then(|rest| rest.strip_suffix(')'));
            Action::Delay(Duration::from_millis(ms.and_then(|ms| ms.parse().ok()).ok_or_else(bad)?))
        }
    };
    Ok((point, Some((action, when))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_or_refused() {
        let crash = |when| Some((Action::Crash, when));
        assert_eq!(parse("log-sync=crash"), Ok(vec![(Point::LogSync, crash(When::Always))]));
        assert_eq!(
            parse("log-sync=crash@3; apply=delay(5)%0.5;park=off"),
            Ok(vec![
                (Point::LogSync, crash(When::Nth(3))),
                (Point::Apply, Some((Action::Delay(Duration::from_millis(5)), When::Chance(0.5)))),
                (Point::Park, None),
            ])
        );
        assert_eq!(parse(""), Ok(vec![]));
        for bad in ["log-sync", "log-sync=", "nothing=crash", "park=error", "log-sync=crash@x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
