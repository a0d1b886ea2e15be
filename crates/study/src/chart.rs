//! Charts as SVG: panels above each other over one axis.
//!
//! Colours are Okabe and Ito's, which people who do not see all colours can tell apart; lines differ in
//! their dashes as well, for those who print.

use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const GAP: f64 = 44.0;
const FONT: &str = "font-family=\"Helvetica, Arial, sans-serif\"";
const INK: &str = "#222222";
const AXIS: &str = "stroke=\"#222222\"";
const FAINT: &str = "stroke=\"#dddddd\"";
const RULE: &str = "stroke=\"#009E73\" stroke-width=\"1.5\" stroke-dasharray=\"1 3\"";

/// How a series looks. The same thing looks the same in every panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// What is recommended.
    Blue,
    /// What it is compared with.
    Vermilion,
    /// What both were given.
    Grey,
    /// What should be.
    Green,
}

impl Ink {
    fn stroke(self) -> &'static str {
        match self {
            Self::Blue => "#0072B2",
            Self::Vermilion => "#D55E00",
            Self::Grey => "#777777",
            Self::Green => "#009E73",
        }
    }

    fn dashes(self) -> &'static str {
        match self {
            Self::Vermilion => " stroke-dasharray=\"7 3\"",
            Self::Green => " stroke-dasharray=\"1 3\"",
            Self::Blue | Self::Grey => "",
        }
    }
}

/// How points are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// By straight lines.
    Line,
    /// A value holds until the next.
    Steps,
    /// As a line, with what is below it filled.
    Area,
}

/// One line of a panel.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// In the legend; empty for none.
    pub(crate) name: String,
    pub(crate) ink: Ink,
    pub(crate) shape: Shape,
    /// In order. What is no number is a gap.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A horizontal line that says where something should be.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) at: f64,
    pub(crate) label: String,
}

/// One of the diagrams of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// What is shown, with its unit.
    pub(crate) title: String,
    pub(crate) height: f64,
    pub(crate) series: Vec<Series>,
    pub(crate) rule: Option<Rule>,
}

/// Something that happened, over all panels.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) at: f64,
    pub(crate) label: String,
}

/// A whole picture.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// What a person should see.
    pub(crate) title: String,
    /// What was done.
    pub(crate) subtitle: String,
    pub(crate) x_title: String,
    pub(crate) marks: Vec<Mark>,
    pub(crate) panels: Vec<Panel>,
}

/// From values to places.
#[derive(Clone, Copy, Debug)]
struct Frame {
    x: (f64, f64),
    y_max: f64,
    top: f64,
    height: f64,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        let part = (value - self.x.0) / (self.x.1 - self.x.0);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - value / self.y_max)
    }

    fn bottom(&self) -> f64 {
        self.top + self.height
    }
}

impl Chart {
    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let header = 96.0;
        let panels: f64 = self.panels.iter().map(|panel| panel.height + GAP).sum();
        let height = header + panels + 26.0;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" {FONT} fill=\"{INK}\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        text(&mut out, LEFT, 30.0, 19.0, "start", "font-weight=\"bold\"", &self.title);
        text(&mut out, LEFT, 50.0, 13.0, "start", "", &self.subtitle);
        self.legend(&mut out, 72.0);
        let x = self.x_range();
        let mut top = header + 18.0;
        for (index, panel) in self.panels.iter().enumerate() {
            let frame = Frame { x, y_max: panel.y_max(), top, height: panel.height };
            self.marks(&mut out, &frame, index == 0);
            panel.draw(&mut out, &frame);
            x_axis(&mut out, &frame, index + 1 == self.panels.len());
            top += panel.height + GAP;
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        text(&mut out, middle, height - 14.0, 13.0, "middle", "", &self.x_title);
        out.push_str("</svg>\n");
        out
    }

    fn x_range(&self) -> (f64, f64) {
        let all = self.panels.iter().flat_map(|panel| &panel.series).flat_map(|one| &one.points);
        let most = all.map(|(x, _)| *x).fold(f64::MIN_POSITIVE, f64::max);
        (0.0, most)
    }

    fn legend(&self, out: &mut String, y: f64) {
        let mut x = LEFT;
        let mut shown: Vec<&str> = Vec::new();
        for series in self.panels.iter().flat_map(|panel| &panel.series) {
            if series.name.is_empty() || shown.contains(&series.name.as_str()) {
                continue;
            }
            shown.push(&series.name);
            let (ink, dashes) = (series.ink.stroke(), series.ink.dashes());
            line(
                out,
                (x, y - 5.0),
                (x + 34.0, y - 5.0),
                &format!("stroke=\"{ink}\" stroke-width=\"3\"{dashes}"),
            );
            text(out, x + 42.0, y, 14.0, "start", &format!("fill=\"{ink}\""), &series.name);
            x += 74.0 + 7.6 * series.name.chars().count() as f64;
        }
    }

    fn marks(&self, out: &mut String, frame: &Frame, labels: bool) {
        for mark in &self.marks {
            let x = frame.x(mark.at);
            line(
                out,
                (x, frame.top),
                (x, frame.bottom()),
                "stroke=\"#999999\" stroke-dasharray=\"2 3\"",
            );
            if labels {
                text(out, x, frame.top - 4.0, 12.0, "middle", "fill=\"#555555\"", &mark.label);
            }
        }
    }
}

impl Panel {
    fn y_max(&self) -> f64 {
        let points = self.series.iter().flat_map(|series| &series.points);
        let rule = self.rule.as_ref().map_or(0.0, |rule| rule.at);
        let most = points.map(|(_, y)| *y).filter(|y| y.is_finite()).fold(rule, f64::max);
        if most > 0.0 { most * 1.06 } else { 1.0 }
    }

    fn draw(&self, out: &mut String, frame: &Frame) {
        text(out, LEFT, frame.top - 8.0, 13.0, "start", "font-weight=\"bold\"", &self.title);
        let step = tick_step(frame.y_max, (self.height / 30.0).max(3.0));
        let mut value = 0.0;
        while value <= frame.y_max {
            let y = frame.y(value);
            line(out, (LEFT, y), (WIDTH - RIGHT, y), FAINT);
            text(out, LEFT - 8.0, y + 4.0, 12.0, "end", "", &number(value));
            value += step;
        }
        for series in &self.series {
            series.draw(out, frame);
        }
        if let Some(rule) = &self.rule {
            let y = frame.y(rule.at);
            line(out, (LEFT, y), (WIDTH - RIGHT, y), RULE);
            // Readable over whatever passes behind it.
            let fill =
                "fill=\"#00704f\" paint-order=\"stroke\" stroke=\"#ffffff\" stroke-width=\"4\"";
            text(out, WIDTH - RIGHT - 4.0, y - 5.0, 12.0, "end", fill, &rule.label);
        }
    }
}

impl Series {
    fn draw(&self, out: &mut String, frame: &Frame) {
        let mut path = String::new();
        let mut last: Option<(f64, f64)> = None;
        for (x, y) in self.points.iter().copied() {
            if !y.is_finite() {
                last = None;
                continue;
            }
            let (x, y) = (frame.x(x), frame.y(y));
            let written = match (last, self.shape) {
                (None, _) => write!(path, "M{x:.1} {y:.1}"),
                (Some(_), Shape::Steps) => write!(path, "H{x:.1}V{y:.1}"),
                (Some(_), Shape::Line | Shape::Area) => write!(path, "L{x:.1} {y:.1}"),
            };
            written.expect("writing into memory does not fail");
            last = Some((x, y));
        }
        let width = if matches!(self.ink, Ink::Blue | Ink::Grey) { 2.2 } else { 1.5 };
        let (ink, dashes) = (self.ink.stroke(), self.ink.dashes());
        if self.shape == Shape::Area
            && let (Some((x, _)), Some((end, _))) = (self.points.first(), last)
        {
            let (begin, bottom) = (frame.x(*x), frame.bottom());
            put(
                out,
                format_args!(
                    "<path d=\"{path}L{end:.1} {bottom:.1}L{begin:.1} {bottom:.1}Z\" fill=\"{ink}\" \
                 fill-opacity=\"0.25\"/>\n"
                ),
            );
        }
        put(
            out,
            format_args!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{ink}\" stroke-width=\"{width}\"{dashes}/>\n"
            ),
        );
    }
}

fn x_axis(out: &mut String, frame: &Frame, labels: bool) {
    line(out, (LEFT, frame.bottom()), (WIDTH - RIGHT, frame.bottom()), AXIS);
    let step = tick_step(frame.x.1, 10.0);
    let mut value = frame.x.0;
    while value <= frame.x.1 * 1.001 {
        let x = frame.x(value);
        line(out, (x, frame.bottom()), (x, frame.bottom() + 5.0), AXIS);
        if labels {
            text(out, x, frame.bottom() + 19.0, 12.0, "middle", "", &number(value));
        }
        value += step;
    }
}

/// 1, 2 or 5 times a power of ten, such that there are about `ticks`.
fn tick_step(range: f64, ticks: f64) -> f64 {
    let raw = range / ticks;
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= raw);
    factor.unwrap_or(10.0) * power
}

/// Without a fraction that says nothing, and with commas.
fn number(value: f64) -> String {
    let rounded = (value * 1_000.0).round() / 1_000.0;
    let text = rounded.to_string();
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), ""), |parts| parts);
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), style: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    put(
        out,
        format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>\n"
        ),
    );
}

fn text(out: &mut String, x: f64, y: f64, size: f64, anchor: &str, more: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    put(
        out,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" {more}>{words}</text>\n"
        ),
    );
}

fn put(out: &mut String, words: std::fmt::Arguments<'_>) {
    out.write_fmt(words).expect("writing into memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(tick_step(100.0, 10.0), 10.0);
        assert_eq!(tick_step(3_600.0, 10.0), 500.0);
        assert_eq!(tick_step(7.0, 4.0), 2.0);
        assert_eq!(number(12_500.0), "12,500");
        assert_eq!(number(0.25), "0.25");
        assert_eq!(number(100.0), "100");
    }

    #[test]
    fn gaps_interrupt_a_line_and_words_are_escaped() {
        let points = vec![(0.0, 0.0), (1.0, f64::NAN), (2.0, 1.0), (3.0, 1.0)];
        let series = Series { name: "a<b".into(), ink: Ink::Blue, shape: Shape::Line, points };
        let panel = Panel { title: "x".into(), height: 100.0, series: vec![series], rule: None };
        let chart = Chart {
            title: "t & u".into(),
            subtitle: String::new(),
            x_title: "s".into(),
            marks: vec![],
            panels: vec![panel],
        };
        let svg = chart.svg();
        assert!(svg.contains("t &amp; u") && svg.contains("a&lt;b"), "{svg}");
        let path = svg.lines().find(|line| line.starts_with("<path")).unwrap();
        assert_eq!(path.matches('M').count(), 2, "{path}");
        assert!(!svg.contains("NaN"));
    }
}
