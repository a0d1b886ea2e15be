//! From values to places, and which values to write beside an axis.

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// What is not above the axis' beginning lies on it.
    Log,
}

/// One of the two.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// With the unit.
    pub(crate) label: String,
    pub(crate) scale: Scale,
    /// From the points, if `None`.
    pub(crate) range: Option<(f64, f64)>,
    /// Instead of round numbers.
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Axis {
    pub(crate) fn linear(label: &str) -> Self {
        Self { label: label.to_owned(), scale: Scale::Linear, range: None, ticks: Vec::new() }
    }

    pub(crate) fn log(label: &str) -> Self {
        Self { scale: Scale::Log, ..Self::linear(label) }
    }

    /// Names at 0, 1, 2…
    pub(crate) fn names<S: Into<String>>(label: &str, names: impl IntoIterator<Item = S>) -> Self {
        let ticks: Vec<_> =
            names.into_iter().enumerate().map(|(at, name)| (at as f64, name.into())).collect();
        let range = Some((-0.5, ticks.len() as f64 - 0.5));
        Self { range, ticks, ..Self::linear(label) }
    }

    pub(crate) fn range(mut self, from: f64, to: f64) -> Self {
        self.range = Some((from, to));
        self
    }

    pub(crate) fn ticks_at(mut self, values: &[f64]) -> Self {
        self.ticks = values.iter().map(|value| (*value, number(*value))).collect();
        self
    }

    /// With a range for these values.
    pub(crate) fn fit(&self, values: impl Iterator<Item = f64>, from_zero: bool) -> Self {
        let mut axis = self.clone();
        if axis.range.is_some() {
            return axis;
        }
        let usable =
            |value: &f64| value.is_finite() && (self.scale == Scale::Linear || *value > 0.0);
        let values: Vec<f64> = values.filter(usable).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        axis.range = Some(match self.scale {
            _ if values.is_empty() => (0.1, 1.0),
            Scale::Log => (least / 1.25, most * 1.25),
            Scale::Linear if from_zero && least >= 0.0 => (0.0, (most * 1.08).max(1e-9)),
            Scale::Linear => {
                let margin = ((most - least) * 0.05).max(1e-9);
                (least - margin, most + margin)
            }
        });
        axis
    }

    /// 0 at the beginning of the range, 1 at its end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (from, to) = self.range.unwrap_or((0.0, 1.0));
        match self.scale {
            Scale::Linear => (value - from) / (to - from),
            Scale::Log => (value.max(from) / from).ln() / (to / from).ln(),
        }
    }

    /// What to write where.
    pub(super) fn marks(&self, about: f64) -> Vec<(f64, String)> {
        let (from, to) = self.range.unwrap_or((0.0, 1.0));
        if !self.ticks.is_empty() {
            return self.ticks.clone();
        }
        let values: Vec<f64> = match self.scale {
            Scale::Linear => {
                let step = step((to - from) / about);
                let first = (from / step).ceil() as i64;
                (first..).map(|i| i as f64 * step).take_while(|v| *v <= to * (1.0 + 1e-9)).collect()
            }
            Scale::Log => logarithmic(from, to, about),
        };
        values.into_iter().map(|value| (value, number(value))).collect()
    }
}

/// As many in each decade as there is room for.
const FACTORS: [&[f64]; 4] =
    [&[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];

fn logarithmic(from: f64, to: f64, about: f64) -> Vec<f64> {
    let powers = (from.log10().floor() as i32)..=(to.log10().ceil() as i32);
    let every = ((to / from).log10() / about).ceil().max(1.0) as i32;
    let of = |factors: &[f64]| -> Vec<f64> {
        let powers = powers.clone().filter(|power| power.rem_euclid(every) == 0);
        let all = powers.flat_map(|power| factors.iter().map(move |f| f * 10_f64.powi(power)));
        all.filter(|value| *value >= from * 0.999 && *value <= to * 1.001).collect()
    };
    let few = |values: &Vec<f64>| values.len() as f64 <= about + 1.0;
    FACTORS.into_iter().map(of).find(few).unwrap_or_else(|| of(&[1.0]))
}

/// 1, 2 or 5 times a power of ten.
fn step(raw: f64) -> f64 {
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= raw * 0.999);
    factor.unwrap_or(10.0) * power
}

/// With commas, and without a fraction that says nothing.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = text.split_once('.').map_or((text, ""), |parts| parts);
    let mut grouped = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if !fraction.is_empty() {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(axis: &Axis, about: f64) -> Vec<String> {
        axis.marks(about).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round() {
        let axis = Axis::linear("x").range(0.0, 10.0);
        assert_eq!(written(&axis, 5.0), ["0", "2", "4", "6", "8", "10"]);
        let axis = Axis::linear("x").range(0.0, 3_600.0);
        assert_eq!(written(&axis, 10.0)[..3], ["0", "500", "1,000"]);
        let axis = Axis::log("x").range(0.05, 2_000.0);
        assert_eq!(written(&axis, 6.0), ["0.1", "1", "10", "100", "1,000"]);
        let axis = Axis::log("x").range(0.9, 11.0);
        assert_eq!(written(&axis, 6.0), ["1", "2", "5", "10"]);
    }

    #[test]
    fn short_logarithmic_axes_have_ticks_between_the_powers_of_ten() {
        let axis = Axis::log("x").range(1.2, 500.0);
        assert_eq!(written(&axis, 7.5), ["2", "5", "10", "20", "50", "100", "200", "500"]);
        assert_eq!(written(&axis, 5.5), ["3", "10", "30", "100", "300"]);
        let axis = Axis::log("x").range(1.8, 6.5);
        assert_eq!(written(&axis, 5.5), ["2", "3", "4", "6"]);
    }

    #[test]
    fn numbers_are_readable() {
        let numbers = [0.0, 0.25, 1.0, 62.5, 100.0, 12_500.0, 100_000.0, -1_500.0, 0.001];
        let expected = ["0", "0.25", "1", "62.5", "100", "12,500", "100,000", "-1,500", "0.001"];
        assert_eq!(numbers.map(number), expected);
    }

    #[test]
    fn logarithms_keep_what_is_nothing_at_the_edge() {
        let axis = Axis::log("x").fit([0.0, 1.0, 100.0].into_iter(), true);
        assert_eq!(axis.place(0.0), 0.0);
        assert!(axis.place(100.0) < 1.0);
        let axis = Axis::linear("x").fit([2.0, 4.0].into_iter(), true);
        assert_eq!(axis.range.unwrap().0, 0.0);
    }
}
