//! Faults against kinds of work: what was acknowledged, and what went wrong.

use std::collections::BTreeMap;
use std::fmt;

use flotilla_history::{Answer, Invariant};

use crate::chaos::queues::Work;
use crate::chaos::run::Judged;
use crate::chaos::totals::Totals;

/// One fault and one kind of work.
#[derive(Clone, Debug, Default)]
struct Cell {
    acknowledged: u64,
    /// Rules that were broken, and how often that was shown.
    broken: BTreeMap<Invariant, u64>,
}

#[derive(Clone, Debug, Default)]
struct Row {
    cells: [Cell; Work::ALL.len()],
    totals: Totals,
    /// How often the fault was there, and the requests that met it at least.
    times: u64,
    requests: u64,
    /// Why something is not known.
    doubts: Vec<String>,
    skipped: Option<String>,
}

/// A table of rows in the order in which they came; it prints as Markdown.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    rows: Vec<(String, Row)>,
}

impl Matrix {
    fn row(&mut self, name: &str) -> &mut Row {
        let place = self.rows.iter().position(|row| row.0 == name).unwrap_or_else(|| {
            self.rows.push((name.to_owned(), Row::default()));
            self.rows.len() - 1
        });
        &mut self.rows[place].1
    }

    /// Adds a run of these faults.
    pub fn add(&mut self, name: &str, judged: &Judged) {
        let row = self.row(name);
        row.totals.add(&judged.verdict);
        for (cell, count) in row.cells.iter_mut().zip(judged.acknowledged) {
            cell.acknowledged += count;
        }
        for finding in judged.verdict.findings() {
            let work = finding.queue.as_deref().map_or(Work::Standard, Work::of);
            *row.cells[work as usize].broken.entry(finding.invariant).or_default() += 1;
        }
        for seen in judged.verdict.coverage.faults_by_name.values() {
            row.times += seen.times;
            row.requests += seen.times * seen.requests_min;
        }
        if judged.verdict.answer == Answer::Unknown {
            row.doubts.extend(judged.verdict.doubts.iter().cloned());
        }
        row.doubts.extend(judged.unclear.iter().cloned());
    }

    /// A run that came to no verdict.
    pub fn broke(&mut self, name: &str, why: &str) {
        let row = self.row(name);
        row.totals.bad += 1;
        row.doubts.push(why.to_owned());
    }

    /// A fault that cannot be made here.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.row(name).skipped = Some(why.to_owned());
    }

    /// Whether every fault that was made broke nothing, and was seen to be there.
    pub fn is_green(&self) -> bool {
        self.rows.iter().all(|(_, row)| row.is_green())
    }
}

impl Row {
    fn is_green(&self) -> bool {
        self.totals.bad == 0 && self.doubts.is_empty()
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.broken.is_empty() {
            return write!(f, "{}", self.acknowledged);
        }
        let broken: Vec<String> =
            self.broken.iter().map(|(rule, times)| format!("{rule} x{times}")).collect();
        write!(f, "**{}** of {}", broken.join(" "), self.acknowledged)
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let works = Work::ALL.map(Work::name).join(" | ");
        writeln!(
            f,
            "| fault | result | times | requests in it | {works} | lost | early | disordered | after delete | other |"
        )?;
        writeln!(f, "| --- | --- | {}", "---: | ".repeat(Work::ALL.len() + 7).trim_end())?;
        for (name, row) in &self.rows {
            if let Some(why) = &row.skipped {
                writeln!(f, "| {name} | skipped: {why} |")?;
                continue;
            }
            let result = if row.is_green() { "green" } else { "**RED**" };
            write!(f, "| {name} | {result} | {} | {} |", row.times, row.requests)?;
            for cell in &row.cells {
                write!(f, " {cell} |")?;
            }
            let Totals { lost, early, disordered, after_delete, other, .. } = &row.totals;
            writeln!(f, " {lost} | {early} | {disordered} | {after_delete} | {other} |")?;
        }
        for (name, row) in self.rows.iter().filter(|row| !row.1.doubts.is_empty()) {
            for doubt in &row.doubts {
                writeln!(f, "\n{name}: {doubt}")?;
            }
        }
        Ok(())
    }
}
