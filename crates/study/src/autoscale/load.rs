//! A load that rises, bursts and falls.

/// A stretch of time in which the rate goes straight from one value to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Phase {
    pub(crate) seconds: f64,
    /// Messages a second.
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Messages that come at once when it begins.
    pub(crate) burst: u32,
}

/// Phases after each other; nothing comes after the last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) phases: Vec<Phase>,
}

impl Load {
    /// `(seconds, from, to, burst)` each.
    pub(crate) fn new(phases: &[(f64, f64, f64, u32)]) -> Self {
        let phase = |&(seconds, from, to, burst): &_| Phase { seconds, from, to, burst };
        Self { phases: phases.iter().map(phase).collect() }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.phases.iter().map(|phase| phase.seconds).sum()
    }

    /// The most that come in a second, bursts aside.
    pub(crate) fn peak(&self) -> f64 {
        self.phases.iter().map(|phase| phase.from.max(phase.to)).fold(0.0, f64::max)
    }

    /// Messages a second at a moment, without bursts.
    pub(crate) fn rate(&self, at: f64) -> f64 {
        let mut begin = 0.0;
        for phase in &self.phases {
            if at < begin + phase.seconds {
                let part = (at - begin) / phase.seconds;
                return phase.from + (phase.to - phase.from) * part;
            }
            begin += phase.seconds;
        }
        0.0
    }

    /// Messages that are due until a moment.
    pub(crate) fn total(&self, until: f64) -> f64 {
        let mut begin = 0.0;
        let mut total = 0.0;
        for phase in &self.phases {
            if until < begin {
                break;
            }
            let part = ((until - begin) / phase.seconds).min(1.0);
            let rate_then = phase.from + (phase.to - phase.from) * part;
            total += f64::from(phase.burst);
            total += part * phase.seconds * f64::midpoint(phase.from, rate_then);
            begin += phase.seconds;
        }
        total
    }

    /// When it begins to fall.
    pub(crate) fn falls_at(&self) -> f64 {
        let until = self.phases.iter().take_while(|phase| phase.to >= phase.from);
        until.map(|phase| phase.seconds).sum()
    }

    /// When it exceeds a rate for the first time; never is later than everything.
    pub(crate) fn exceeds_at(&self, rate: f64) -> f64 {
        let mut begin = 0.0;
        for phase in &self.phases {
            if phase.from > rate {
                return begin;
            }
            if phase.to > rate {
                return begin + phase.seconds * (rate - phase.from) / (phase.to - phase.from);
            }
            begin += phase.seconds;
        }
        f64::INFINITY
    }

    /// When bursts come, and how large they are.
    pub(crate) fn bursts(&self) -> Vec<(f64, u32)> {
        let mut begin = 0.0;
        let mut bursts = Vec::new();
        for phase in &self.phases {
            if phase.burst > 0 {
                bursts.push((begin, phase.burst));
            }
            begin += phase.seconds;
        }
        bursts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_what_rates_and_bursts_add_up_to() {
        let load = Load::new(&[(10.0, 0.0, 20.0, 0), (5.0, 20.0, 20.0, 7)]);
        assert_eq!(load.seconds(), 15.0);
        assert_eq!((load.rate(5.0), load.rate(12.0), load.rate(15.0)), (10.0, 20.0, 0.0));
        assert_eq!(load.total(0.0), 0.0);
        assert_eq!(load.total(5.0), 25.0);
        assert_eq!(load.total(9.999).round(), 100.0);
        assert_eq!(load.total(10.0), 107.0);
        assert_eq!(load.total(15.0), 207.0);
        assert_eq!(load.total(99.0), 207.0);
        assert_eq!(load.bursts(), [(10.0, 7)]);
        assert_eq!((load.exceeds_at(5.0), load.falls_at()), (2.5, 15.0));
        assert!(load.exceeds_at(20.0).is_infinite());
        let falls = Load::new(&[(10.0, 5.0, 5.0, 0), (5.0, 5.0, 1.0, 0), (5.0, 1.0, 1.0, 0)]);
        assert_eq!((falls.falls_at(), falls.exceeds_at(4.0)), (10.0, 0.0));
    }
}
