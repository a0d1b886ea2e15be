//! A picture of the requests around each finding: one page that needs nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::around::{Scene, Shown};
use crate::record::Op;
use crate::verdict::Verdict;
use crate::words::{Colour, colour, kind, line, seconds};

const WIDTH: f64 = 1_100.0;
const LEFT: f64 = 130.0;
const LANE: f64 = 30.0;
const TOP: f64 = 34.0;
const BAR: f64 = 20.0;
/// A bar narrower than this cannot be pointed at.
const BAR_WIDTH_MIN: f64 = 4.0;
const TICKS: u64 = 8;

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#222;background:#fff}\
h2{margin:2em 0 .3em;font-size:1.1em}p{margin:.2em 0}svg{display:block;margin:.6em 0;border:1px solid #ddd}\
table{border-collapse:collapse;font-size:12px}td,th{padding:1px 8px;text-align:left;vertical-align:top}\
tr.proof td{background:#fff3d6}.ok{fill:#7fb67f}.fail{fill:#b0b0b0}.info{fill:#e8a33d}\
.proofbar{stroke:#c00;stroke-width:2}.fault{fill:#c0392b;opacity:.5}text{font-size:11px;fill:#222}\
.axis{stroke:#ddd}.at{stroke:#c00;stroke-dasharray:3 3}";

/// The page, complete. Everything that comes from a history is escaped.
pub fn timeline(verdict: &Verdict, scenes: &[Scene]) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n",
        title = escaped(&format!("History: {:?} {}", verdict.answer, verdict.label))
    );
    for doubt in verdict.doubts.iter().chain(&verdict.losses) {
        let _ = writeln!(page, "<p>{}</p>", escaped(doubt));
    }
    if scenes.is_empty() {
        page.push_str("<p>Nothing was found.</p>\n");
    }
    page.push_str(
        "<p>One lane for each client. Green: success. Grey: certainly not applied. Orange: unknown, \
         open to the right. Red outline: proves the finding. Point at a bar for details.</p>\n",
    );
    for scene in scenes {
        one(&mut page, scene);
    }
    page.push_str("</body></html>\n");
    page
}

/// For text and for attributes in double quotes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Not allowed in a document, not even escaped.
            it if it.is_control() && !matches!(it, '\n' | '\t') => safe.push('\u{fffd}'),
            it => safe.push(it),
        }
    }
    safe
}

/// Where times lie on the picture.
struct Scale {
    from: u64,
    to: u64,
}

impl Scale {
    fn of(scene: &Scene) -> Self {
        let proofs = || scene.shown.iter().filter(|it| it.proof).map(|it| &it.record);
        let at = scene.finding.at_us;
        let from = proofs().map(|it| it.invoked_us).chain([at]).min().unwrap_or(at);
        let to = proofs().map(|it| it.returned_us).chain([at]).max().unwrap_or(at);
        let margin = ((to - from) / 10).max(1_000);
        Self { from: from.saturating_sub(margin), to: to.saturating_add(margin) }
    }

    fn x(&self, us: u64) -> f64 {
        let inside = us.clamp(self.from, self.to) - self.from;
        LEFT + inside as f64 / (self.to - self.from) as f64 * (WIDTH - LEFT - 10.0)
    }

    fn shows(&self, shown: &Shown) -> bool {
        shown.record.invoked_us <= self.to && shown.record.returned_us >= self.from
    }
}

fn one(page: &mut String, scene: &Scene) {
    let finding = &scene.finding;
    let _ = writeln!(
        page,
        "<h2>{} {}</h2>\n<p>{}</p>",
        finding.invariant,
        escaped(finding.invariant.title()),
        escaped(&finding.what)
    );
    let scale = Scale::of(scene);
    let mut lanes: BTreeMap<(bool, u32), usize> = BTreeMap::new();
    for shown in scene.shown.iter().filter(|it| scale.shows(it)) {
        let event = matches!(shown.record.op, Op::Fault(_) | Op::Mark(_));
        lanes.insert((!event, if event { 0 } else { shown.record.process }), 0);
    }
    lanes.values_mut().enumerate().for_each(|(number, lane)| *lane = number);
    let height = TOP + LANE * lanes.len() as f64 + 10.0;
    let _ = writeln!(
        page,
        "<svg width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">"
    );
    axis(page, &scale, height);
    for ((client, process), lane) in &lanes {
        let y = TOP + LANE * *lane as f64 + 15.0;
        let name = if *client { format!("client {process}") } else { "events".to_owned() };
        let _ = writeln!(page, "<text x=\"6\" y=\"{y:.1}\">{name}</text>");
    }
    for shown in scene.shown.iter().filter(|it| scale.shows(it)) {
        let event = matches!(shown.record.op, Op::Fault(_) | Op::Mark(_));
        let lane = lanes[&(!event, if event { 0 } else { shown.record.process })];
        bar(page, &scale, shown, lane);
    }
    let x = scale.x(finding.at_us);
    let _ = writeln!(
        page,
        "<line class=\"at\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"20\" y2=\"{height}\"/></svg>"
    );
    table(page, scene);
}

fn axis(page: &mut String, scale: &Scale, height: f64) {
    for tick in 0..=TICKS {
        let us = scale.from + (scale.to - scale.from) / TICKS * tick;
        let x = scale.x(us);
        let _ = writeln!(
            page,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"20\" y2=\"{height}\"/>\
             <text x=\"{x:.1}\" y=\"14\" text-anchor=\"middle\">{}</text>",
            seconds(us)
        );
    }
}

fn bar(page: &mut String, scale: &Scale, shown: &Shown, lane: usize) {
    let record = &shown.record;
    let outcome = colour(&record.op);
    let class = match (&record.op, outcome) {
        (Op::Fault(_) | Op::Mark(_), _) => "fault",
        (_, Colour::Ok) => "ok",
        (_, Colour::Fail) => "fail",
        (_, Colour::Info) => "info",
    };
    let from = scale.x(record.invoked_us);
    // Nobody knows when an unknown one ends.
    let to = if outcome == Colour::Info { WIDTH - 10.0 } else { scale.x(record.returned_us) };
    let y = TOP + LANE * lane as f64;
    let _ = writeln!(
        page,
        "<g><title>{}</title><rect class=\"{class}{}\" x=\"{from:.1}\" y=\"{y:.1}\" \
         width=\"{:.1}\" height=\"{BAR}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
        escaped(&format!("record {}, node {}: {}", shown.number, record.node, line(record))),
        if shown.proof { " proofbar" } else { "" },
        (to - from).max(BAR_WIDTH_MIN),
        from + 3.0,
        y + 14.0,
        if shown.proof { escaped(kind(&record.op)) } else { String::new() }
    );
}

fn table(page: &mut String, scene: &Scene) {
    page.push_str(
        "<table><tr><th>record</th><th>from s</th><th>to s</th><th>client</th><th>node</th>\
         <th>request</th></tr>\n",
    );
    for shown in &scene.shown {
        let _ = writeln!(
            page,
            "<tr{}><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            if shown.proof { " class=\"proof\"" } else { "" },
            shown.number,
            seconds(shown.record.invoked_us),
            seconds(shown.record.returned_us),
            shown.record.process,
            shown.record.node,
            escaped(&line(&shown.record))
        );
    }
    page.push_str("</table>\n");
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn nothing_of_a_history_becomes_markup() {
        assert_eq!(
            escaped("<a href=\"x\">'&\u{1}"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;\u{fffd}"
        );
    }
}
