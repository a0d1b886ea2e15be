//! Faults against numbers of nodes, and against kinds of work: what was acknowledged, and what went wrong.

use std::collections::BTreeMap;
use std::fmt;

use flotilla_history::Answer;
use serde::{Deserialize, Serialize};

use crate::chaos::queues::Work;
use crate::chaos::remains::More;
use crate::chaos::run::Judged;
use crate::chaos::totals::Totals;

/// What came of one fault with so many nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    totals: Totals,
    /// How often the fault was there.
    times: u64,
    /// Acknowledged, by kinds of work.
    acknowledged: [u64; Work::ALL.len()],
    /// Rules that were broken, in words, and how often that was shown.
    broken: BTreeMap<String, u64>,
    /// Why something is not known.
    doubts: Vec<String>,
    skipped: Option<Skipped>,
    /// What a node took more in the end, at most.
    more: More,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Skipped {
    /// It makes no sense with so many nodes.
    Pointless(String),
    /// The machine lacks what it takes.
    Lacking(String),
}

/// A table of rows in the order in which they came; it prints as Markdown.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    rows: Vec<(String, BTreeMap<u64, Cell>)>,
}

impl Matrix {
    fn cell(&mut self, name: &str, nodes: u64) -> &mut Cell {
        let place = self.rows.iter().position(|row| row.0 == name).unwrap_or_else(|| {
            self.rows.push((name.to_owned(), BTreeMap::new()));
            self.rows.len() - 1
        });
        self.rows[place].1.entry(nodes).or_default()
    }

    /// Adds what came of these faults.
    pub fn put(&mut self, name: &str, nodes: u64, cell: &Cell) {
        self.cell(name, nodes).merge(cell);
    }

    /// Something will come of these faults: until then it is missing.
    pub fn expect(&mut self, name: &str, nodes: u64) {
        self.cell(name, nodes);
    }

    /// What was expected and did not come.
    pub fn missing(&self) -> usize {
        self.cells().filter(|cell| cell.is_missing()).count()
    }

    /// A fault that makes no sense with so many nodes.
    pub fn pointless(&mut self, name: &str, nodes: u64, why: &str) {
        self.cell(name, nodes).skipped = Some(Skipped::Pointless(why.to_owned()));
    }

    /// A fault that cannot be made here.
    pub fn skip(&mut self, name: &str, nodes: u64, why: &str) {
        self.cell(name, nodes).skipped = Some(Skipped::Lacking(why.to_owned()));
    }

    /// Whether every fault that was made broke nothing, and was seen to be there, and none is missing.
    pub fn is_green(&self) -> bool {
        self.cells().all(|cell| cell.is_green() && !cell.is_missing())
    }

    /// What could not be made here.
    pub fn skipped(&self) -> Vec<String> {
        let lacking = |name: &str, cell: &Cell| match &cell.skipped {
            Some(Skipped::Lacking(why)) => Some(format!("{name}: {why}")),
            _ => None,
        };
        let rows = self.rows.iter();
        rows.flat_map(|(name, cells)| cells.values().filter_map(move |it| lacking(name, it)))
            .collect()
    }

    fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.rows.iter().flat_map(|row| row.1.values())
    }

    fn widths(&self) -> Vec<u64> {
        let mut nodes: Vec<u64> = self.rows.iter().flat_map(|row| row.1.keys().copied()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

impl Cell {
    /// A run that came to a verdict.
    pub fn judged(judged: &Judged) -> Self {
        let (acknowledged, more) = (judged.acknowledged, judged.more);
        let mut cell = Self { acknowledged, more, ..Self::default() };
        cell.totals.add(&judged.verdict);
        // What is not the checker's to say is bad all the same.
        let is_passed = judged.verdict.answer == Answer::Pass;
        cell.totals.bad += u64::from(is_passed && !judged.is_good());
        for finding in judged.verdict.findings() {
            let of = finding.queue.as_deref().map_or("no queue", |queue| Work::of(queue).name());
            *cell.broken.entry(format!("{}, of {of}", finding.invariant)).or_default() += 1;
        }
        let seen = judged.verdict.coverage.faults_by_name.values();
        cell.times = seen.map(|seen| seen.times).sum();
        if judged.verdict.answer == Answer::Unknown {
            cell.doubts.extend(judged.verdict.doubts.iter().cloned());
        }
        cell.doubts.extend(judged.unclear.iter().cloned());
        cell.doubts.extend(judged.left.iter().cloned());
        for (work, count) in Work::ALL.into_iter().zip(judged.acknowledged) {
            if count == 0 {
                cell.doubts.push(format!("nothing of {work} was acknowledged"));
            }
        }
        cell
    }

    /// A run that came to none.
    pub fn broke(why: &str) -> Self {
        let totals = Totals { runs: 1, bad: 1, ..Totals::default() };
        Self { totals, doubts: vec![why.to_owned()], ..Self::default() }
    }

    /// What its runs add up to.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    fn merge(&mut self, other: &Self) {
        self.totals.merge(&other.totals);
        self.times += other.times;
        self.more = self.more.max(other.more);
        for (sum, count) in self.acknowledged.iter_mut().zip(other.acknowledged) {
            *sum += count;
        }
        for (rule, times) in &other.broken {
            *self.broken.entry(rule.clone()).or_default() += times;
        }
        self.doubts.extend(other.doubts.iter().cloned());
    }

    fn is_missing(&self) -> bool {
        self.totals.runs == 0 && self.skipped.is_none()
    }

    fn is_green(&self) -> bool {
        self.totals.bad == 0 && self.doubts.is_empty() && self.broken.is_empty()
    }
}

/// What is counted of each fault with so many nodes.
const COLUMNS: [&str; 8] =
    ["runs", "seen", "acknowledged", "lost", "early", "disordered", "after delete", "other"];

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.skipped {
            Some(Skipped::Pointless(_)) => f.write_str(&" - |".repeat(COLUMNS.len())),
            Some(Skipped::Lacking(_)) => {
                write!(f, " skipped |{}", " |".repeat(COLUMNS.len() - 1))
            }
            None if self.is_missing() => {
                write!(f, " missing |{}", " |".repeat(COLUMNS.len() - 1))
            }
            None => self.counts(f),
        }
    }
}

impl Cell {
    fn counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { runs, acknowledged, lost, early, disordered, after_delete, other, .. } =
            &self.totals;
        let red = if self.is_green() { "" } else { "**RED** " };
        write!(f, " {red}{runs} | {} | {} |", self.times, thousands(*acknowledged))?;
        write!(f, " {lost} | {early} | {disordered} | {after_delete} | {other} |")
    }
}

/// With commas.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        write!(f, "| fault |")?;
        for nodes in &widths {
            for column in COLUMNS {
                write!(f, " {nodes}: {column} |")?;
            }
        }
        writeln!(f, "\n| --- |{}", " ---: |".repeat(widths.len() * COLUMNS.len()))?;
        let mut sums: BTreeMap<u64, Cell> = BTreeMap::new();
        for (name, cells) in &self.rows {
            write!(f, "| {name} |")?;
            for nodes in &widths {
                match cells.get(nodes) {
                    Some(cell) => write!(f, "{cell}")?,
                    None => f.write_str(&" |".repeat(COLUMNS.len()))?,
                }
            }
            writeln!(f)?;
            for (nodes, cell) in cells {
                sums.entry(*nodes).or_default().merge(cell);
            }
        }
        write!(f, "| **all** |")?;
        widths.iter().try_for_each(|nodes| sums[nodes].counts(f))?;
        writeln!(f, "\n")?;
        let sum = |work: usize| sums.values().map(|cell| cell.acknowledged[work]).sum::<u64>();
        let works: Vec<String> = (Work::ALL.into_iter().enumerate())
            .map(|(place, work)| format!("{work} {}", thousands(sum(place))))
            .collect();
        writeln!(f, "acknowledged by kinds of work: {}", works.join(", "))?;
        let more = sums.values().fold(More::default(), |most, cell| most.max(cell.more));
        writeln!(f, "a node took up to {more} more when all was over")?;
        self.remarks(f)
    }
}

impl Matrix {
    fn remarks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, nodes, cell) in self
            .rows
            .iter()
            .flat_map(|(name, cells)| cells.iter().map(move |it| (name, it.0, it.1)))
        {
            let mut remark = |what: &str| writeln!(f, "\n{name}, {nodes} nodes: {what}");
            for (rule, times) in &cell.broken {
                remark(&format!("{rule}: broken {times} times"))?;
            }
            cell.doubts.iter().try_for_each(|doubt| remark(doubt))?;
            match &cell.skipped {
                Some(Skipped::Pointless(why)) => remark(&format!("not made: {why}"))?,
                Some(Skipped::Lacking(why)) => remark(&format!("SKIPPED: {why}"))?,
                None => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_made_or_came_to_nothing_is_said() {
        let mut matrix = Matrix::default();
        matrix.pointless("ring", 3, "takes five nodes");
        assert!(matrix.is_green() && matrix.skipped().is_empty());
        matrix.skip("slow-disk", 3, "no loop devices");
        assert!(matrix.is_green());
        assert_eq!(matrix.skipped(), ["slow-disk: no loop devices"]);
        matrix.put("pause", 5, &Cell::broke("it panicked"));
        assert!(!matrix.is_green());
        let text = matrix.to_string();
        for said in
            ["| ring | - |", "| slow-disk | skipped |", "**RED** 1 |", "pause, 5 nodes: it pan"]
        {
            assert!(text.contains(said), "{said}:\n{text}");
        }
        let bars = |line: &str| line.matches('|').count();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(lines.len(), 6);
        assert!(lines.iter().all(|line| bars(line) == bars(lines[0])), "{text}");
    }

    #[test]
    fn what_was_expected_and_did_not_come_is_missing() {
        let mut matrix = Matrix::default();
        matrix.expect("pause", 3);
        matrix.expect("flap", 3);
        assert_eq!((matrix.missing(), matrix.is_green()), (2, false));
        let good = Cell { totals: Totals { runs: 1, ..Totals::default() }, ..Cell::default() };
        matrix.put("pause", 3, &good);
        assert_eq!((matrix.missing(), matrix.is_green()), (1, false));
        assert!(matrix.to_string().contains("| flap | missing |"), "{matrix}");
        matrix.put("flap", 3, &good);
        assert!(matrix.is_green());
    }

    #[test]
    fn large_numbers_have_commas() {
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
    }
}
