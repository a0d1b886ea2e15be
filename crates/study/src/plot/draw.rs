//! Writes a figure as SVG.

use std::fmt::Write as _;

use super::axis::Axis;
use super::{Colour, Dash, Dot, Figure, Layer, Mark, Plot, Point};

const WIDTH: f64 = 960.0;
/// Around each diagram's area: for the numbers and names of its axes.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 22.0;
const ABOVE: f64 = 34.0;
const BELOW: f64 = 52.0;
const LEGEND_LINE: f64 = 22.0;
/// Of a letter, of the font's size, on average.
const LETTER: f64 = 0.54;
const FAINT: &str = "stroke=\"#e2e2e2\"";
const AXIS: &str = "stroke=\"#222222\"";

/// A diagram's area, and its axes with ranges.
struct Frame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    x: Axis,
    y: Axis,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        self.left + self.width * self.x.place(value)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - self.y.place(value).clamp(-0.05, 1.02))
    }

    fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// The middle and the half width of a column.
    fn column(&self, x: f64, number: usize, of: usize) -> (f64, f64) {
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
        for (index, plot) in self.plots.iter().enumerate() {
            let (row, column) = (index / self.columns, index % self.columns);
            let place = (cell * column as f64, top + row as f64 * (self.height + ABOVE + BELOW));
            plot.draw(&mut body, &plot.frame(place, cell, self.height));
        }
        let rows = self.plots.len().div_ceil(self.columns);
        let height = top + rows as f64 * (self.height + ABOVE + BELOW) + 6.0;
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
        let ys = values.flat_map(|point| {
            let (low, high) = point.range.unwrap_or((point.y, point.y));
            [low, point.y, high]
        });
        Frame {
            left: left + LEFT,
            top: top + ABOVE,
            width: cell - LEFT - RIGHT,
            height,
            x: self.x.fit(points().map(|point| point.x), false),
            y: self.y.fit(ys, true),
        }
    }

    fn draw(&self, out: &mut String, frame: &Frame) {
        let middle = frame.left + frame.width / 2.0;
        let spans = |layer: &&Layer| layer.mark == Mark::Span;
        self.layers.iter().filter(spans).for_each(|layer| layer.draw(out, frame));
        text(
            out,
            frame.left - 54.0,
            frame.top - 12.0,
            14.0,
            "start",
            "font-weight=\"bold\"",
            &self.title,
        );
        for (value, words) in frame.y.marks(frame.height / 40.0) {
            let y = frame.y(value);
            line(out, (frame.left, y), (frame.left + frame.width, y), FAINT);
            text(out, frame.left - 8.0, y + 4.0, 12.0, "end", "", &words);
        }
        line(out, (frame.left, frame.bottom()), (frame.left + frame.width, frame.bottom()), AXIS);
        for (value, words) in frame.x.marks(frame.width / 70.0) {
            let x = frame.x(value);
            line(out, (x, frame.bottom()), (x, frame.bottom() + 5.0), AXIS);
            text(out, x, frame.bottom() + 19.0, 12.0, "middle", "", &words);
        }
        text(out, middle, frame.bottom() + 40.0, 13.0, "middle", "", &self.x.label);
        let (x, y) = (frame.left - 56.0, frame.top + frame.height / 2.0);
        let turned = format!("transform=\"rotate(-90 {x:.1} {y:.1})\"");
        text(out, x, y, 13.0, "middle", &turned, &self.y.label);
        self.layers.iter().filter(|layer| !spans(layer)).for_each(|layer| layer.draw(out, frame));
        let halo = "paint-order=\"stroke\" stroke=\"#ffffff\" stroke-width=\"4\" fill=\"#444444\"";
        for note in &self.notes {
            text(out, frame.x(note.x), frame.y(note.y), 12.5, "start", halo, &note.text);
        }
    }
}

impl Layer {
    /// For the legend.
    fn sample(&self, out: &mut String, x: f64, y: f64) {
        let hex = self.colour.hex();
        match self.mark {
            Mark::Columns(..) => put(
                out,
                format_args!(
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"16\" height=\"12\" fill=\"{hex}\"/>\n",
                    x + 10.0,
                    y - 6.0
                ),
            ),
            Mark::Span => put(
                out,
                format_args!(
                    "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"28\" height=\"13\" fill=\"{hex}\" \
                     fill-opacity=\"0.15\"/>\n",
                    y - 7.0
                ),
            ),
            Mark::Ticks(..) => {
                line(out, (x + 6.0, y), (x + 28.0, y), &stroke(self.colour, Dash::Solid, 3.0))
            }
            Mark::Line(dash) => line(out, (x, y), (x + 28.0, y), &stroke(self.colour, dash, 2.5)),
            Mark::DotsAndLine(shape) => {
                line(out, (x, y), (x + 28.0, y), &stroke(self.colour, Dash::Solid, 2.0));
                dot(out, shape, (x + 14.0, y), hex);
            }
            Mark::Dots(shape) => {
                line(
                    out,
                    (x + 14.0, y - 8.0),
                    (x + 14.0, y + 8.0),
                    &stroke(self.colour, Dash::Solid, 1.5),
                );
                dot(out, shape, (x + 14.0, y), hex);
            }
        }
    }

    fn draw(&self, out: &mut String, frame: &Frame) {
        match self.mark {
            Mark::Line(dash) => self.path(out, frame, dash),
            Mark::Dots(shape) => self.dots(out, frame, shape),
            Mark::DotsAndLine(shape) => {
                self.path(out, frame, Dash::Solid);
                self.dots(out, frame, shape);
            }
            Mark::Columns(number, of) => {
                for point in self.points.iter().filter(|point| point.y.is_finite()) {
                    self.column(out, frame, point, frame.column(point.x, number, of));
                }
            }
            Mark::Ticks(number, of) => {
                for point in self.points.iter().filter(|point| point.y.is_finite()) {
                    let (x, half) = frame.column(point.x, number, of);
                    let y = frame.y(point.y);
                    let halo = "stroke=\"#ffffff\" stroke-width=\"6\"";
                    line(out, (x - half, y), (x + half, y), halo);
                    line(out, (x - half, y), (x + half, y), &stroke(self.colour, Dash::Solid, 3.0));
                }
            }
            Mark::Span => {
                for point in &self.points {
                    let (from, to) = (frame.x(point.x), frame.x(point.y));
                    let hex = self.colour.hex();
                    put(
                        out,
                        format_args!(
                            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                             fill=\"{hex}\" fill-opacity=\"0.15\"/>\n",
                            frame.top,
                            to - from,
                            frame.height
                        ),
                    );
                }
            }
        }
    }

    fn column(&self, out: &mut String, frame: &Frame, point: &Point, (x, half): (f64, f64)) {
        let (y, hex) = (frame.y(point.y), self.colour.hex());
        // Nothing is to be seen as nothing, and not as a value that is missing.
        let height = (frame.bottom() - y).max(1.5);
        put(
            out,
            format_args!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{hex}\"/>\n",
                x - half,
                frame.bottom() - height,
                2.0 * half
            ),
        );
        error_bar(out, frame, point, x, Colour::Black);
    }

    fn dots(&self, out: &mut String, frame: &Frame, shape: Dot) {
        for point in self.points.iter().filter(|point| point.y.is_finite()) {
            error_bar(out, frame, point, frame.x(point.x), self.colour);
            dot(out, shape, (frame.x(point.x), frame.y(point.y)), self.colour.hex());
        }
    }

    fn path(&self, out: &mut String, frame: &Frame, dash: Dash) {
        let (mut path, mut open) = (String::new(), false);
        for point in &self.points {
            if point.y.is_finite() {
                let letter = if open { 'L' } else { 'M' };
                let (x, y) = (frame.x(point.x), frame.y(point.y));
                write!(path, "{letter}{x:.1} {y:.1}").expect("writing into memory does not fail");
            }
            open = point.y.is_finite();
        }
        let stroke = stroke(self.colour, dash, 2.4);
        // A picture in the picture cuts off what leaves the area, but not half of a line on its edge.
        let (left, top) = (frame.left - 2.0, frame.top - 3.0);
        let (width, height) = (frame.width + 4.0, frame.height + 6.0);
        put(
            out,
            format_args!(
                "<svg x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
                 viewBox=\"{left:.1} {top:.1} {width:.1} {height:.1}\">\n<path d=\"{path}\" \
                 fill=\"none\" {stroke}/>\n</svg>\n"
            ),
        );
    }
}

fn stroke(colour: Colour, dash: Dash, width: f64) -> String {
    let dashes = match dash {
        Dash::Solid => "",
        Dash::Dashed => " stroke-dasharray=\"8 4\"",
        Dash::Dotted => " stroke-dasharray=\"2 4\"",
    };
    format!(
        "stroke=\"{}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dashes}",
        colour.hex()
    )
}

fn error_bar(out: &mut String, frame: &Frame, point: &Point, x: f64, colour: Colour) {
    let Some((low, high)) = point.range else { return };
    let (low, high) = (frame.y(low), frame.y(high));
    let stroke = stroke(colour, Dash::Solid, 1.6);
    line(out, (x, low), (x, high), &stroke);
    for y in [low, high] {
        line(out, (x - 4.0, y), (x + 4.0, y), &stroke);
    }
}

fn dot(out: &mut String, shape: Dot, (x, y): (f64, f64), hex: &str) {
    let corners: &[(f64, f64)] = match shape {
        Dot::Circle => {
            put(
                out,
                format_args!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.8\" fill=\"{hex}\" stroke=\"#ffffff\"/>\n"
                ),
            );
            return;
        }
        Dot::Square => &[(-4.4, -4.4), (4.4, -4.4), (4.4, 4.4), (-4.4, 4.4)],
        Dot::Triangle => &[(0.0, -5.8), (5.4, 4.2), (-5.4, 4.2)],
        Dot::Diamond => &[(0.0, -6.0), (6.0, 0.0), (0.0, 6.0), (-6.0, 0.0)],
    };
    let corners: Vec<String> =
        corners.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx, y + dy)).collect();
    let corners = corners.join(" ");
    put(out, format_args!("<polygon points=\"{corners}\" fill=\"{hex}\" stroke=\"#ffffff\"/>\n"));
}

fn line(out: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), style: &str) {
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
    use crate::plot::png;

    fn figure(layers: Vec<Layer>) -> Figure {
        let plot = Plot::new("p < q", Axis::log("x (s)"), Axis::linear("y (%)"), layers);
        Figure::new("t & u".into(), "what was done".into(), vec![plot.note(1.0, 1.0, "here")])
    }

    #[test]
    fn every_mark_can_be_drawn() {
        let point = Point { x: 2.0, y: 3.0, range: Some((2.0, 4.0)) };
        let marks = [
            Mark::Dots(Dot::Circle),
            Mark::DotsAndLine(Dot::Diamond),
            Mark::Line(Dash::Dotted),
            Mark::Columns(0, 2),
            Mark::Ticks(1, 2),
            Mark::Span,
        ];
        let layers = marks.map(|mark| Layer::new("n", Colour::Blue, mark, [point])).to_vec();
        let svg = figure(layers).svg();
        assert!(svg.contains("t &amp; u") && svg.contains("p &lt; q") && !svg.contains("NaN"));
        assert_eq!(svg.matches(">n</text>").count(), 1, "one entry in the legend");
        assert!(png(&svg).is_ok());
    }

    #[test]
    fn gaps_interrupt_a_line() {
        let points = [(1.0, 1.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 1.0)];
        let layer = Layer::new("", Colour::Blue, Mark::Line(Dash::Solid), points);
        let svg = figure(vec![layer]).svg();
        let path = svg.lines().find(|line| line.starts_with("<path")).unwrap();
        assert_eq!(path.matches('M').count(), 2, "{path}");
    }

    #[test]
    fn long_words_are_wrapped() {
        assert_eq!(wrapped("one two three", 10.0, 40.0), ["one two", "three"]);
    }
}
