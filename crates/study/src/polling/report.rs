//! One page with everything in it, and the files beside it.

use std::fmt::Write as _;

use super::PollingArgs;
use super::advice::advice;
use super::choices::choices;
use crate::section::{Section, Table};

/// What somebody needs to do it again.
pub(super) struct Facts {
    command: String,
    quick: bool,
    seed: u64,
    own_clusters: bool,
    cores: usize,
    /// Of the code, and whether files differ from it.
    code: String,
}

/// The commit that `scripts/study` built, with `-dirty` behind it if something was changed.
const COMMIT: &str = "FLOTILLA_STUDY_COMMIT";

impl Facts {
    pub(super) fn of(args: &PollingArgs) -> Self {
        let mut command = "scripts/study polling".to_owned();
        if args.quick {
            command.push_str(" --quick");
        }
        for endpoint in &args.endpoint {
            let _ = write!(command, " --endpoint {endpoint}");
        }
        if !args.only.is_empty() {
            let names: Vec<&str> = args.only.iter().map(|one| one.name()).collect();
            let _ = write!(command, " --only {}", names.join(","));
        }
        let _ = write!(command, " --seed {}", args.seed);
        Self {
            command,
            quick: args.quick,
            seed: args.seed,
            own_clusters: args.endpoint.is_empty(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            code: code(std::env::var(COMMIT).ok()),
        }
    }
}

fn code(commit: Option<String>) -> String {
    let Some(commit) = commit.filter(|commit| !commit.is_empty()) else {
        return "of a commit that is not known (it was not started by scripts/study)".to_owned();
    };
    match commit.strip_suffix("-dirty") {
        Some(commit) => format!("commit `{commit}` with changes that are not committed"),
        None => format!("commit `{commit}`"),
    }
}

const STYLE: &str = "body{font:16px/1.5 Helvetica,Arial,sans-serif;color:#222;max-width:1000px;margin:2em auto;padding:0 1em}\
h1{font-size:1.7em;line-height:1.2}h2{margin-top:2.2em;border-top:1px solid #ccc;padding-top:.8em;font-size:1.3em}\
svg{max-width:100%;height:auto;margin:.6em 0;border:1px solid #eee}\
.method{color:#555}.theory{border-left:4px solid #D55E00;padding-left:.8em}.broken{border-left:4px solid #D55E00;background:#fdeee5;padding:.6em .8em}\
.advice{background:#eef5fa;border-left:4px solid #0072B2;padding:.4em 1em}\
table{border-collapse:collapse;font-size:13px}td,th{border:1px solid #ddd;padding:2px 8px;text-align:right}\
table.words{font-size:14px}table.words td,table.words th{text-align:left;vertical-align:top}\
summary{cursor:pointer;color:#0072B2}code{background:#f2f2f2;padding:0 .25em}";

/// Above the table of uses.
const CHOICES: &str = "The defaults are a wait of 0 s (as in SQS: it is an attribute of the queue, or of the request), samples of 3 weighted by \
    backlog (<code>sample</code> of a node's <code>[polling]</code>), and 8 shards (<code>shards</code>, when a cluster is made).";

/// The whole report: nothing is loaded from anywhere.
pub(super) fn page(facts: &Facts, sections: &[Section]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>What polling really does</title>\
         <style>{STYLE}</style></head><body>\n<h1>What polling really does: short against long</h1>\n"
    );
    introduction(&mut out, facts, sections);
    for section in sections {
        write_section(&mut out, section);
    }
    paragraphs(
        &mut out,
        "<h2 id=\"advice\">Recommendations</h2>\n<div class=\"advice\"><ul>",
        &advice(sections),
        "li",
    );
    out.push_str("</ul></div>\n");
    let choices = choices(sections);
    if !choices.rows.is_empty() {
        out.push_str("<h3 id=\"choices\">Which wait, sample and shards for whom</h3>\n");
        put(&mut out, format_args!("<p class=\"method\">{CHOICES}</p>\n<table class=\"words\">"));
        write_rows(&mut out, &choices);
        out.push_str("</table>\n");
    }
    out.push_str("</body></html>\n");
    out
}

fn introduction(out: &mut String, facts: &Facts, sections: &[Section]) {
    let clusters = if facts.own_clusters {
        "clusters of three nodes, three processes on this machine, started for it (eight shards, samples of three, \
         weights by backlog, where nothing else is said)"
    } else {
        "a running cluster; what needs others was skipped"
    };
    put(
        out,
        format_args!(
            "<p>A queue is spread over shards. A short poll asks a sample of them, a long poll asks all and waits. This report \
             measures what follows from that, beside what theory says, and how many should poll.</p>\n<p class=\"method\">Made by <code>{}</code>, \
             version {}, {}, with {clusters}. {} cores, {} operating system; senders, consumers and servers share them. Seed {} for all arrivals; \
             the servers' own luck has none. {} 95 % confidence intervals: Wilson's for shares, Student's for means of trials or of the parts of \
             a run, order statistics or a bootstrap of those parts for quantiles.</p>\n",
            escaped(&facts.command),
            env!("CARGO_PKG_VERSION"),
            escaped(&facts.code),
            facts.cores,
            std::env::consts::OS,
            facts.seed,
            if facts.quick { "A quick run: few trials, wide intervals." } else { "A full run." }
        ),
    );
    let broken: Vec<String> = sections.iter().flat_map(|section| section.broken.clone()).collect();
    if broken.is_empty() {
        out.push_str("<p>Every promise was kept: all messages came, and all were seen within the bounds.</p>\n");
    } else {
        paragraphs(out, "<div class=\"broken\"><p>Promises were broken:</p>", &broken, "p");
        out.push_str("</div>\n");
    }
    out.push_str("<ol>\n");
    for section in sections {
        let finding =
            section.findings.first().or(section.skipped.as_ref()).map_or("", String::as_str);
        put(
            out,
            format_args!(
                "<li><a href=\"#{}\">{}</a> {}</li>\n",
                section.name,
                escaped(title(section)),
                escaped(finding)
            ),
        );
    }
    out.push_str("</ol>\n<p><a href=\"#advice\">Recommendations</a> are at the end.</p>\n");
}

fn title(section: &Section) -> &str {
    if section.question.is_empty() { section.name } else { &section.question }
}

fn write_section(out: &mut String, section: &Section) {
    put(out, format_args!("<h2 id=\"{}\">{}</h2>\n", section.name, escaped(title(section))));
    if let Some(why) = &section.skipped {
        put(out, format_args!("<p class=\"method\">Skipped. {}</p>\n", escaped(why)));
        return;
    }
    paragraphs(out, "", &section.findings, "p");
    for (_, figure) in &section.figures {
        out.push_str(&figure.svg());
    }
    paragraphs(out, "<div class=\"theory\">", &section.theory, "p");
    out.push_str("</div>\n");
    put(out, format_args!("<p class=\"method\">{}</p>\n", escaped(&section.method)));
    section.tables.iter().for_each(|table| write_table(out, table));
}

fn write_table(out: &mut String, table: &Table) {
    put(
        out,
        format_args!(
            "<details><summary>{}.csv, {} rows</summary><table>",
            table.name,
            table.rows.len()
        ),
    );
    write_rows(out, table);
    out.push_str("</table></details>\n");
}

fn write_rows(out: &mut String, table: &Table) {
    let mut line = |tag: &str, cells: &[String]| {
        out.push_str("<tr>");
        cells.iter().for_each(|cell| put(out, format_args!("<{tag}>{}</{tag}>", escaped(cell))));
        out.push_str("</tr>\n");
    };
    line("th", &table.header);
    table.rows.iter().for_each(|row| line("td", row));
}

fn paragraphs(out: &mut String, before: &str, words: &[String], tag: &str) {
    out.push_str(before);
    words.iter().for_each(|one| put(out, format_args!("<{tag}>{}</{tag}>\n", escaped(one))));
}

/// Code stays code, between backticks.
fn escaped(words: &str) -> String {
    let plain = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut out = String::new();
    for (index, part) in plain.split('`').enumerate() {
        match index % 2 {
            0 => out.push_str(part),
            _ => put(&mut out, format_args!("<code>{part}</code>")),
        }
    }
    out
}

fn put(out: &mut String, words: std::fmt::Arguments<'_>) {
    out.write_fmt(words).expect("writing into memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            command: "study".into(),
            quick: true,
            seed: 7,
            own_clusters: true,
            cores: 2,
            code: code(Some("abc-dirty".into())),
        }
    }

    #[test]
    fn what_was_broken_is_said_first() {
        let section = Section {
            name: "coverage",
            question: "How many < so".into(),
            broken: vec!["too many polls".into()],
            ..Section::default()
        };
        let page = page(&facts(), &[section]);
        let (broken, section) = (page.find("too many polls"), page.find("<h2 id=\"coverage\">"));
        assert!(broken.unwrap() < section.unwrap());
        assert!(page.contains("How many &lt; so") && !page.contains("Every promise was kept"));
        assert!(page.contains("commit <code>abc</code> with changes that are not committed"));
    }

    #[test]
    fn uses_are_named_where_something_is_known_of_them() {
        let values = vec![("3 of 8", 0.5), ("8 of 8", 0.0)];
        let misses = Section { name: "misses", values, ..Section::default() };
        assert!(page(&facts(), &[misses]).contains("<h3 id=\"choices\">"));
        assert!(!page(&facts(), &[]).contains("choices"));
    }

    #[test]
    fn what_was_skipped_says_why() {
        let section =
            Section { name: "misses", skipped: Some("no cluster".into()), ..Section::default() };
        let page = page(&facts(), &[section]);
        assert!(page.contains("Skipped. no cluster") && page.contains("Every promise was kept"));
        assert_eq!(escaped("use `a < b`"), "use <code>a &lt; b</code>");
    }
}
