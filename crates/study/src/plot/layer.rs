//! Draws the points of a diagram.

use std::fmt::Write as _;

use super::draw::Frame;
use super::svg::{line, put};
use super::{Colour, Dash, Dot, Layer, Mark, Point};

/// What is filled is a background, through which lines are seen.
const PALE: f64 = 0.15;

impl Layer {
    /// For the legend.
    pub(super) fn sample(&self, out: &mut String, x: f64, y: f64) {
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
            Mark::Span | Mark::Area => put(
                out,
                format_args!(
                    "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"28\" height=\"13\" fill=\"{hex}\" \
                     fill-opacity=\"{PALE}\"/>\n",
                    y - 7.0
                ),
            ),
            Mark::Ticks(..) => {
                line(out, (x + 6.0, y), (x + 28.0, y), &stroke(self.colour, Dash::Solid, 3.0))
            }
            Mark::Line(dash) | Mark::Steps(dash) => {
                line(out, (x, y), (x + 28.0, y), &stroke(self.colour, dash, 2.5))
            }
            Mark::DotsAndLine(shape) => {
                line(out, (x, y), (x + 28.0, y), &stroke(self.colour, Dash::Solid, 2.0));
                dot(out, shape, (x + 14.0, y), hex);
            }
            Mark::Dots(shape) => {
                // As they look: with a bar only if they have any.
                if self.points.iter().any(|point| point.range.is_some()) {
                    line(
                        out,
                        (x + 14.0, y - 8.0),
                        (x + 14.0, y + 8.0),
                        &stroke(self.colour, Dash::Solid, 1.5),
                    );
                }
                dot(out, shape, (x + 14.0, y), hex);
            }
        }
    }

    pub(super) fn draw(&self, out: &mut String, frame: &Frame) {
        match self.mark {
            Mark::Line(dash) | Mark::Steps(dash) => self.path(out, frame, dash),
            Mark::Area => self.path(out, frame, Dash::Solid),
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
                             fill=\"{hex}\" fill-opacity=\"{PALE}\"/>\n",
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

    /// What is no number is a gap.
    fn path(&self, out: &mut String, frame: &Frame, dash: Dash) {
        let (mut lines, mut areas) = (String::new(), String::new());
        for run in self.points.split(|point| !point.y.is_finite()) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let trail = self.trail(run, frame);
            if self.mark == Mark::Area {
                let (begin, end, bottom) = (frame.x(first.x), frame.x(last.x), frame.bottom());
                write!(areas, "{trail}L{end:.1} {bottom:.1}L{begin:.1} {bottom:.1}Z")
                    .expect("writing into memory does not fail");
            }
            lines.push_str(&trail);
        }
        // A picture in the picture cuts off what leaves the area, but not half of a line on its
        // edge.
        let (left, top) = (frame.left - 2.0, frame.top - 3.0);
        let (width, height) = (frame.width + 4.0, frame.height + 6.0);
        put(
            out,
            format_args!(
                "<svg x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
                 viewBox=\"{left:.1} {top:.1} {width:.1} {height:.1}\">\n"
            ),
        );
        if !areas.is_empty() {
            let hex = self.colour.hex();
            put(
                out,
                format_args!("<path d=\"{areas}\" fill=\"{hex}\" fill-opacity=\"{PALE}\"/>\n"),
            );
        }
        let stroke = stroke(self.colour, dash, 2.4);
        put(out, format_args!("<path d=\"{lines}\" fill=\"none\" {stroke}/>\n</svg>\n"));
    }

    /// Through points without a gap.
    fn trail(&self, run: &[Point], frame: &Frame) -> String {
        let mut trail = String::new();
        for (index, point) in run.iter().enumerate() {
            let (x, y) = (frame.x(point.x), frame.y(point.y));
            let written = match self.mark {
                _ if index == 0 => write!(trail, "M{x:.1} {y:.1}"),
                Mark::Steps(_) => write!(trail, "H{x:.1}V{y:.1}"),
                _ => write!(trail, "L{x:.1} {y:.1}"),
            };
            written.expect("writing into memory does not fail");
        }
        trail
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

#[cfg(test)]
mod tests {
    use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot, Point};

    /// The lines, without what is below them.
    fn path(mark: Mark) -> String {
        let points = [(1.0, 1.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 2.0)];
        let layer = Layer::new("", Colour::Blue, mark, points);
        let plot = Plot::new("", Axis::linear("x"), Axis::linear("y"), vec![layer]);
        let svg = Figure::new(String::new(), String::new(), vec![plot]).svg();
        assert!(!svg.contains("NaN"));
        let path = svg.lines().find(|line| line.starts_with("<path") && line.contains("none"));
        path.unwrap().to_owned()
    }

    #[test]
    fn a_legend_shows_bars_only_where_there_are_some() {
        let bars = |range| {
            let point = Point { x: 1.0, y: 1.0, range };
            let layer = Layer::new("n", Colour::Blue, Mark::Dots(Dot::Circle), [point]);
            let plot = Plot::new("", Axis::linear("x"), Axis::linear("y"), vec![layer]);
            let svg = Figure::new(String::new(), String::new(), vec![plot]).svg();
            svg.lines().filter(|line| line.contains("stroke=\"#0072B2\"")).count()
        };
        // In the legend one; in the diagram one with two ends.
        assert_eq!((bars(None), bars(Some((0.5, 1.5)))), (0, 1 + 3));
    }

    #[test]
    fn gaps_interrupt_a_line() {
        for mark in [Mark::Line(Dash::Solid), Mark::Steps(Dash::Dashed), Mark::Area] {
            let path = path(mark);
            assert_eq!(path.matches('M').count(), 2, "{path}");
        }
    }

    #[test]
    fn steps_hold_a_value_until_the_next() {
        let count = |mark, letter: char| path(mark).matches(letter).count();
        assert_eq!(count(Mark::Steps(Dash::Solid), 'H'), 1);
        assert_eq!(count(Mark::Steps(Dash::Solid), 'L'), 0);
        assert_eq!(count(Mark::Line(Dash::Solid), 'L'), 1);
    }
}
