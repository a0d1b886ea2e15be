//! Measurements as a table for people: one line for each workload, medians of its runs.

use crate::histogram::Percentiles;
use crate::report::Row;

const TITLES: [&str; 12] = [
    "workload",
    "runs",
    "msg/s (min-max)",
    "send ms",
    "receive ms",
    "end to end ms",
    "server cpu s/M",
    "client cpu s/M",
    "server MiB",
    "other cores",
    "lost/dup/err",
    "MiB/M left",
];

/// Latencies are p50/p99/p99.9. Rows keep the order in which their names first came.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut groups: Vec<(String, Vec<&Row>)> = Vec::new();
    for row in rows {
        let name = row.name();
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, group)) => group.push(row),
            None => groups.push((name, vec![row])),
        }
    }
    let mut lines = vec![TITLES.map(str::to_owned)];
    lines.extend(groups.into_iter().map(|(name, group)| line(name, &group)));
    aligned(&lines)
}

fn line(name: String, group: &[&Row]) -> [String; TITLES.len()] {
    let number = |digits, value: fn(&Row) -> Option<f64>| {
        let values = group.iter().filter_map(|row| value(row)).collect();
        median(values).map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let total = |count: fn(&Row) -> u64| group.iter().map(|row| count(row)).sum::<u64>();
    [
        name,
        group.len().to_string(),
        rate(group),
        latency(group, |row| row.send_ms),
        latency(group, |row| row.receive_ms),
        latency(group, |row| row.end_to_end_ms),
        number(1, |row| row.server_cpu_s_per_million),
        number(1, |row| row.client_cpu_s_per_million),
        number(0, |row| row.server_rss_mib),
        number(2, |row| Some(row.other_cores)),
        format!(
            "{}{}/{}/{}",
            if group.iter().all(|row| row.judgement.verified) { "" } else { "?" },
            total(|row| row.judgement.lost + row.judgement.damaged),
            total(|row| row.judgement.duplicates),
            total(|row| row.judgement.errors),
        ),
        number(0, |row| row.server_rss_mib_per_million),
    ]
}

fn rate(group: &[&Row]) -> String {
    let rates: Vec<f64> = group.iter().map(|row| row.messages_per_s).collect();
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rates.iter().copied().fold(0.0, f64::max);
    match median(rates) {
        Some(median) if group.len() > 1 => format!("{median:.0} ({least:.0}-{most:.0})"),
        Some(median) => format!("{median:.0}"),
        None => "-".to_owned(),
    }
}

fn latency(group: &[&Row], of: fn(&Row) -> Option<Percentiles>) -> String {
    let median_of = |pick: fn(Percentiles) -> f64| {
        median(group.iter().filter_map(|row| of(row).map(pick)).collect())
    };
    match (median_of(|ms| ms.p50), median_of(|ms| ms.p99), median_of(|ms| ms.p999)) {
        (Some(p50), Some(p99), Some(p999)) => format!("{p50:.2}/{p99:.2}/{p999:.2}"),
        _ => "-".to_owned(),
    }
}

/// Of an even number of values: the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].len()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for line in lines {
        let mut written = format!("{:<width$}", line[0], width = widths[0]);
        for (cell, width) in line.iter().zip(widths).skip(1) {
            written.push_str(&format!("  {cell:>width$}"));
        }
        text.push_str(written.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(workload: &str, rate: f64, rss: Option<f64>) -> Row {
        let line = serde_json::json!({
            "workload": workload, "messages": 10, "seconds": 2.0, "messages_per_s": rate,
            "send_ms": {"p50": rate / 100.0, "p99": 2.0, "p999": 3.0, "max": 4.0},
            "other_cores": 0.25, "server_rss_mib": rss,
            "verified": true, "lost": 0, "duplicates": 1, "damaged": 0, "errors": 2,
        });
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn runs_of_one_workload_share_a_line() {
        let rows = [
            row("send", 100.0, Some(10.0)),
            row("drain", 50.0, None),
            row("send", 300.0, Some(30.0)),
            row("send", 200.0, Some(20.0)),
        ];
        let table = table(&rows);
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split("  ").filter(|c| !c.is_empty()).collect())
            .collect();
        assert_eq!(lines.len(), 3);
        let trimmed: Vec<&str> = lines[1].iter().map(|cell| cell.trim()).collect();
        let expected = [
            "send",
            "3",
            "200 (100-300)",
            "2.00/2.00/3.00",
            "-",
            "-",
            "-",
            "-",
            "20",
            "0.25",
            "0/3/6",
            "-",
        ];
        assert_eq!(trimmed, expected);
        assert_eq!(lines[2][0].trim(), "drain");
    }

    #[test]
    fn a_row_survives_its_line() {
        let row = row("send", 1.5, None);
        let line = serde_json::to_string(&row).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Row>(&line).unwrap(), row);
    }
}
