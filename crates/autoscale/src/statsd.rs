//! Durations in StatsD's lines, which every language has a client for: `name:12.5|ms|@0.1`.

use std::time::Duration;

/// More lines do not fit into a datagram that arrives in one piece.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 1_500;
/// The metric whose last part is this is the processing time of a message.
pub(crate) const NAME: &str = "processing";
/// A sample stands for this many messages at most.
const WEIGHT_MAX: f64 = 100.0;

/// A processing time, and how many messages it stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Timing {
    pub(crate) duration: Duration,
    pub(crate) weight: f64,
}

/// The processing times in a datagram. Lines of anything else are passed over: a worker's other
/// metrics may come here too.
pub(crate) fn timings(datagram: &[u8]) -> impl Iterator<Item = Timing> {
    let text = std::str::from_utf8(datagram).unwrap_or_default();
    text.lines().filter_map(timing)
}

fn timing(line: &str) -> Option<Timing> {
    let (name, rest) = line.trim_end().split_once(':')?;
    if name.rsplit('.').next() != Some(NAME) {
        return None;
    }
    let mut parts = rest.split('|');
    let value: f64 = parts.next()?.parse().ok()?;
    if parts.next() != Some("ms") {
        return None;
    }
    let duration = Duration::try_from_secs_f64(value / 1_000.0).ok()?;
    let rate = parts.find_map(|part| part.strip_prefix('@'));
    let weight = match rate {
        Some(rate) => 1.0 / rate.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= 1.0)?,
        None => 1.0,
    };
    Some(Timing { duration, weight: weight.min(WEIGHT_MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(u64, f64)> {
        timings(text.as_bytes())
            .map(|timing| (timing.duration.as_micros() as u64, timing.weight))
            .collect()
    }

    #[test]
    fn processing_times_are_found_among_other_lines() {
        assert_eq!(read("processing:12.5|ms"), [(12_500, 1.0)]);
        assert_eq!(read("shop.sales.processing:3|ms|@0.1|#env:x\n"), [(3_000, 10.0)]);
        assert_eq!(
            read("done:1|c\nprocessing:1|ms\r\nother:5|ms\nprocessing:2|ms"),
            [(1_000, 1.0), (2_000, 1.0)]
        );
    }

    #[test]
    fn nonsense_is_passed_over() {
        for text in [
            "",
            "processing",
            "processing:",
            "processing:x|ms",
            "processing:-1|ms",
            "processing:NaN|ms",
            "processing:inf|ms",
            "processing:1|s",
            "processing:1|ms|@0",
            "processing:1|ms|@2",
            "processing:1|ms|@x",
        ] {
            assert_eq!(read(text), [], "{text}");
        }
        assert_eq!(timings(&[0xff, 0xfe]).count(), 0);
    }
}
