//! Writes a figure as SVG.

use super::axis::Axis;
use super::svg::{line, text};
use super::{Event, Figure, Layer, Mark, Plot, Point, Rule};

const WIDTH: f64 = 960.0;
/// Around each diagram's area: for the numbers and names of its axes.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 22.0;
const ABOVE: f64 = 34.0;
const BELOW: f64 = 52.0;
/// The same where the axis is written further below.
const BELOW_UNWRITTEN: f64 = 12.0;
const LEGEND_LINE: f64 = 22.0;
/// Of a letter, of the font's size, on average.
const LETTER: f64 = 0.54;
/// That are tried for a rule's label.
const PLACES: usize = 12;
const FAINT: &str = "stroke=\"#e2e2e2\"";
const AXIS: &str = "stroke=\"#222222\"";
const EVENT: &str = "stroke=\"#888888\" stroke-dasharray=\"2 3\"";
const RULE: &str = "stroke=\"#009E73\" stroke-width=\"1.6\" stroke-dasharray=\"2 3\"";
/// Around words that are written over something.
const HALO: &str = "paint-order=\"stroke\" stroke=\"#ffffff\" stroke-width=\"4\"";

/// A diagram's area, and its axes with ranges.
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    x: Axis,
    y: Axis,
}

impl Frame {
    pub(super) fn x(&self, value: f64) -> f64 {
        self.left + self.width * self.x.place(value)
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - self.y.place(value).clamp(-0.05, 1.02))
    }

    pub(super) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// The middle and the half width of a column.
    pub(super) fn column(&self, x: f64, number: usize, of: usize) -> (f64, f64) {
        let room = self.x(1.0) - self.x(0.0);
        let width = 0.8 * room / of as f64;
        (self.x(x) + width * (number as f64 + 0.5 - of as f64 / 2.0), 0.46 * width)
    }
}

impl Figure {
    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let mut body = String::new();
        text(&mut body, 20.0, 32.0, 20.0, "start", "font-weight=\"bold\"", &self.title);
        let mut top = 40.0;
        for line in wrapped(&self.subtitle, 13.0, WIDTH - 40.0) {
            top += 17.0;
            text(&mut body, 20.0, top, 13.0, "start", "fill=\"#555555\"", &line);
        }
        top = self.legend(&mut body, top + 26.0);
        let cell = WIDTH / self.columns as f64;
        let rows = self.plots.len().div_ceil(self.columns);
        for (row, plots) in self.plots.chunks(self.columns).enumerate() {
            let heights = plots.iter().map(|plot| plot.height.unwrap_or(self.height));
            let height = heights.fold(0.0, f64::max);
            let written = !self.stacked || row + 1 == rows;
            for (column, plot) in plots.iter().enumerate() {
                let frame = plot.frame((cell * column as f64, top), cell, height);
                let label = row == 0;
                self.events.iter().for_each(|event| event.draw(&mut body, &frame, label));
                plot.draw(&mut body, &frame, written);
            }
            top += height + ABOVE + if written { BELOW } else { BELOW_UNWRITTEN };
        }
        let height = top + 6.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"Helvetica, Arial, sans-serif\" \
             fill=\"#222222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    }

    /// Returns where it ends.
    fn legend(&self, out: &mut String, mut y: f64) -> f64 {
        let (mut x, mut shown) = (20.0, Vec::new());
        for layer in self.plots.iter().flat_map(|plot| &plot.layers) {
            if layer.name.is_empty() || shown.contains(&layer.name) {
                continue;
            }
            let width = 52.0 + 14.0 * LETTER * layer.name.chars().count() as f64;
            if x + width > WIDTH && x > 20.0 {
                (x, y) = (20.0, y + LEGEND_LINE);
            }
            layer.sample(out, x, y - 5.0);
            text(out, x + 36.0, y, 14.0, "start", "", &layer.name);
            x += width;
            shown.push(layer.name.clone());
        }
        if shown.is_empty() { y - 20.0 } else { y + 8.0 }
    }
}

/// Lines of at most this width.
fn wrapped(words: &str, size: f64, width: f64) -> Vec<String> {
    let most = (width / (size * LETTER * 0.93)) as usize;
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

impl Plot {
    fn frame(&self, (left, top): (f64, f64), cell: f64, height: f64) -> Frame {
        let points = || self.layers.iter().flat_map(|layer| &layer.points);
        let spans = |layer: &&Layer| layer.mark != Mark::Span;
        let values = self.layers.iter().filter(spans).flat_map(|layer| &layer.points);
        let ys = values.flat_map(Point::extent);
        let ys = ys.chain(self.rule.iter().map(|rule| rule.at));
        Frame {
            left: left + LEFT,
            top: top + ABOVE,
            width: cell - LEFT - RIGHT,
            height,
            x: self.x.fit(points().map(|point| point.x), false),
            y: self.y.fit(ys, true),
        }
    }

    fn draw(&self, out: &mut String, frame: &Frame, written: bool) {
        let spans = |layer: &&Layer| layer.mark == Mark::Span;
        self.layers.iter().filter(spans).for_each(|layer| layer.draw(out, frame));
        let (x, y) = (frame.left - 54.0, frame.top - 12.0);
        text(out, x, y, 14.0, "start", "font-weight=\"bold\"", &self.title);
        frame.y_axis(out);
        frame.x_axis(out, written);
        self.layers.iter().filter(|layer| !spans(layer)).for_each(|layer| layer.draw(out, frame));
        if let Some(rule) = &self.rule {
            self.draw_rule(out, frame, rule);
        }
        let style = format!("{HALO} fill=\"#444444\"");
        for note in &self.notes {
            text(out, frame.x(note.x), frame.y(note.y), 12.5, "start", &style, &note.text);
        }
    }

    fn draw_rule(&self, out: &mut String, frame: &Frame, rule: &Rule) {
        let (y, right) = (frame.y(rule.at), frame.left + frame.width);
        line(out, (frame.left, y), (right, y), RULE);
        let (width, y) = (12.5 * LETTER * rule.label.chars().count() as f64, y - 8.0);
        let x = self.quietest(frame, y, width);
        let style = format!("{HALO} fill=\"#00704f\"");
        text(out, x, y, 12.5, "start", &style, &rule.label);
    }

    /// Where words above this height hide the fewest points; further to the right if it is the same.
    fn quietest(&self, frame: &Frame, y: f64, width: f64) -> f64 {
        let points = || self.layers.iter().flat_map(|layer| &layer.points);
        let hidden = |left: &f64| {
            let inside = |x: f64, above: f64| {
                (*left..left + width).contains(&x) && (y - 13.0..y + 4.0).contains(&above)
            };
            points().filter(|point| inside(frame.x(point.x), frame.y(point.y))).count()
        };
        let room = frame.width - width - 8.0;
        let places =
            (0..=PLACES).map(|i| frame.left + 4.0 + room * (1.0 - i as f64 / PLACES as f64));
        places.min_by_key(hidden).unwrap_or(frame.left)
    }
}

impl Frame {
    fn y_axis(&self, out: &mut String) {
        // Closer in low diagrams: one number alone says nothing of a scale.
        let about = (self.height / 40.0).max((self.height / 30.0).clamp(3.0, 5.0));
        for (value, words) in self.y.marks(about) {
            let y = self.y(value);
            line(out, (self.left, y), (self.left + self.width, y), FAINT);
            text(out, self.left - 8.0, y + 4.0, 12.0, "end", "", &words);
        }
        let (x, y) = (self.left - 56.0, self.top + self.height / 2.0);
        let turned = format!("transform=\"rotate(-90 {x:.1} {y:.1})\"");
        text(out, x, y, 13.0, "middle", &turned, &self.y.label);
    }

    fn x_axis(&self, out: &mut String, written: bool) {
        let bottom = self.bottom();
        line(out, (self.left, bottom), (self.left + self.width, bottom), AXIS);
        for (value, words) in self.x.marks(self.width / 70.0) {
            let x = self.x(value);
            line(out, (x, bottom), (x, bottom + 5.0), AXIS);
            if written {
                text(out, x, bottom + 19.0, 12.0, "middle", "", &words);
            }
        }
        if written {
            let middle = self.left + self.width / 2.0;
            text(out, middle, bottom + 40.0, 13.0, "middle", "", &self.x.label);
        }
    }
}

impl Event {
    fn draw(&self, out: &mut String, frame: &Frame, label: bool) {
        let x = frame.x(self.at);
        line(out, (x, frame.top), (x, frame.bottom()), EVENT);
        if label {
            text(out, x, frame.top - 5.0, 12.5, "middle", "fill=\"#444444\"", &self.label);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Axis, Colour, Dash, Dot, Point, png};

    fn figure(layers: Vec<Layer>) -> Figure {
        let plot = Plot::new("p < q", Axis::log("x (s)"), Axis::linear("y (%)"), layers)
            .note(1.0, 1.0, "here")
            .rule(2.0, "r > 1".into());
        Figure::new("t & u".into(), "what was done".into(), vec![plot])
    }

    fn line_of(points: &[(f64, f64)]) -> Layer {
        Layer::new("", Colour::Blue, Mark::Line(Dash::Solid), points.iter().copied())
    }

    #[test]
    fn every_mark_can_be_drawn_and_words_are_escaped() {
        let point = Point { x: 2.0, y: 3.0, range: Some((2.0, 4.0)) };
        let marks = [
            Mark::Dots(Dot::Circle),
            Mark::DotsAndLine(Dot::Diamond),
            Mark::Line(Dash::Dotted),
            Mark::Steps(Dash::Dashed),
            Mark::Area,
            Mark::Columns(0, 2),
            Mark::Ticks(1, 2),
            Mark::Span,
        ];
        let layers = marks.map(|mark| Layer::new("n<", Colour::Blue, mark, [point])).to_vec();
        let svg = figure(layers).events(vec![Event { at: 2.0, label: "e & f".into() }]).svg();
        for words in ["t &amp; u", "p &lt; q", "r &gt; 1", "e &amp; f"] {
            assert!(svg.contains(words), "{words}");
        }
        assert_eq!(svg.matches(">n&lt;</text>").count(), 1, "one entry in the legend");
        assert!(!svg.contains("NaN") && png(&svg).is_ok());
    }

    #[test]
    fn a_stack_has_one_axis_that_is_written_once() {
        let plot = |points| Plot::over_time("p", 60.0, vec![line_of(points)]);
        let plots = vec![plot(&[(0.0, 1.0), (7.0, 40.0)]), plot(&[(2.0, 1.0), (3.0, 90.0)])];
        let events = vec![Event { at: 5.0, label: "burst".into() }];
        let figure = Figure::stack("t".into(), "s".into(), &Axis::linear("time"), plots);
        assert_eq!(figure.plots[0].x.range, figure.plots[1].x.range);
        let svg = figure.events(events).svg();
        assert_eq!((svg.matches(">time<").count(), svg.matches(">burst<").count()), (1, 1));
        assert_eq!(svg.matches(EVENT).count(), 2);
        // The upper diagram's own numbers, though it is low; none of them is on the x axis.
        assert!(svg.contains(">20<") && svg.contains(">40<"));
    }

    #[test]
    fn a_rule_is_inside_and_its_label_hides_no_points() {
        let right: Vec<_> = (0..100).map(|i| (50.0 + f64::from(i) / 2.0, 11.0)).collect();
        let plot = Plot::over_time("p", 150.0, vec![line_of(&[(0.0, 1.0)]), line_of(&right)])
            .rule(10.0, "acceptable".into());
        let frame = plot.frame((0.0, 0.0), WIDTH, 150.0);
        let x = plot.quietest(&frame, frame.y(10.0), 70.0);
        assert!(x >= frame.left && x + 70.0 < frame.x(50.0), "{x}");
        let high = plot.rule(100.0, "acceptable".into()).frame((0.0, 0.0), WIDTH, 150.0);
        assert!(high.y(100.0) > high.top);
    }

    #[test]
    fn long_words_are_wrapped() {
        assert_eq!(wrapped("one two three", 10.0, 40.0), ["one two", "three"]);
    }
}
