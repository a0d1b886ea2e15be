//! Charts: what depends on what, with error bars, logarithms and theories, in diagrams beside and below each
//! other; and what happened over time, in diagrams stacked over one axis.
//!
//! Colours are Okabe and Ito's, which people who do not see all colours can tell apart, and every layer differs
//! in its dots or dashes, too. Here is what a picture consists of; `axis` places values, `draw` writes the
//! diagrams and `layer` their points as SVG, `png` makes pixels of it.

mod axis;
mod draw;
mod layer;
mod png;
mod svg;

use std::path::Path;

use anyhow::Context as _;

pub(crate) use axis::{Axis, number};
use png::png;

/// A whole picture.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What a person should see.
    pub(crate) title: String,
    /// What was done.
    pub(crate) subtitle: String,
    pub(crate) plots: Vec<Plot>,
    /// How many plots are beside each other.
    pub(crate) columns: usize,
    /// Of each plot's area, unless it has one of its own.
    pub(crate) height: f64,
    /// Over all plots, which have the same x axis then.
    pub(crate) events: Vec<Event>,
    /// The x axis is the same in all, and is written below the last row alone.
    stacked: bool,
}

/// One diagram.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) layers: Vec<Layer>,
    pub(crate) notes: Vec<Note>,
    pub(crate) rule: Option<Rule>,
    /// Of the area, if not the figure's.
    pub(crate) height: Option<f64>,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// In the legend; empty for none. Layers of one name look the same.
    pub(crate) name: String,
    pub(crate) colour: Colour,
    pub(crate) mark: Mark,
    pub(crate) points: Vec<Point>,
}

/// A value, and between which values it may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) range: Option<(f64, f64)>,
}

impl From<(f64, f64)> for Point {
    fn from((x, y): (f64, f64)) -> Self {
        Self { x, y, range: None }
    }
}

impl Point {
    /// What an axis must have room for.
    pub(crate) fn extent(&self) -> [f64; 3] {
        let (low, high) = self.range.unwrap_or((self.y, self.y));
        [low, self.y, high]
    }
}

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mark {
    /// What was measured at single values.
    Dots(Dot),
    /// The same, joined.
    DotsAndLine(Dot),
    /// What holds in between: theories and distributions.
    Line(Dash),
    /// A value holds until the next.
    Steps(Dash),
    /// A line with what is below it filled.
    Area,
    /// Columns from the axis up. Several layers of them stand beside each other: this one is the first
    /// number of the second.
    Columns(usize, usize),
    /// A short line across a column: what it should have been. Numbers as for columns.
    Ticks(usize, usize),
    /// A coloured background from each point's x to the end of its range.
    Span,
}

/// Told apart without colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dot {
    Circle,
    Square,
    Triangle,
    Diamond,
}

/// The same for lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dash {
    Solid,
    Dashed,
    Dotted,
}

/// Okabe and Ito's, without the yellow that white paper swallows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Black,
    Grey,
    Blue,
    Sky,
    Green,
    Orange,
    Vermilion,
    Purple,
}

impl Colour {
    fn hex(self) -> &'static str {
        match self {
            Self::Black => "#222222",
            Self::Grey => "#888888",
            Self::Blue => "#0072B2",
            Self::Sky => "#56B4E9",
            Self::Green => "#009E73",
            Self::Orange => "#E69F00",
            Self::Vermilion => "#D55E00",
            Self::Purple => "#CC79A7",
        }
    }
}

/// Words inside a diagram.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) text: String,
}

/// A horizontal line that says where something should be.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) at: f64,
    pub(crate) label: String,
}

/// Something that happened: a vertical line through all plots, with words above the first row.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) at: f64,
    pub(crate) label: String,
}

impl Layer {
    pub(crate) fn new(
        name: &str,
        colour: Colour,
        mark: Mark,
        points: impl IntoIterator<Item = impl Into<Point>>,
    ) -> Self {
        let points = points.into_iter().map(Into::into).collect();
        Self { name: name.to_owned(), colour, mark, points }
    }
}

impl Plot {
    pub(crate) fn new(title: &str, x: Axis, y: Axis, layers: Vec<Layer>) -> Self {
        let (notes, rule, height) = (Vec::new(), None, None);
        Self { title: title.to_owned(), x, y, layers, notes, rule, height }
    }

    /// One of a stack, which gives it the x axis. Its title names the unit.
    pub(crate) fn over_time(title: &str, height: f64, layers: Vec<Layer>) -> Self {
        let plot = Self::new(title, Axis::linear(""), Axis::linear(""), layers);
        Self { height: Some(height), ..plot }
    }

    pub(crate) fn rule(mut self, at: f64, label: String) -> Self {
        self.rule = Some(Rule { at, label });
        self
    }

    pub(crate) fn note(mut self, x: f64, y: f64, text: &str) -> Self {
        self.notes.push(Note { x, y, text: text.to_owned() });
        self
    }
}

impl Figure {
    pub(crate) fn new(title: String, subtitle: String, plots: Vec<Plot>) -> Self {
        let (columns, events) = (plots.len().clamp(1, 2), Vec::new());
        Self { title, subtitle, columns, plots, height: 300.0, events, stacked: false }
    }

    /// Plots below each other, over one x axis.
    pub(crate) fn stack(title: String, subtitle: String, x: &Axis, mut plots: Vec<Plot>) -> Self {
        let points = plots.iter().flat_map(|plot| &plot.layers).flat_map(|layer| &layer.points);
        let x = x.fit(points.map(|point| point.x), false);
        for plot in &mut plots {
            plot.x = x.clone();
        }
        Self { columns: 1, stacked: true, ..Self::new(title, subtitle, plots) }
    }

    pub(crate) fn events(mut self, events: Vec<Event>) -> Self {
        self.events = events;
        self
    }

    pub(crate) fn columns(mut self, columns: usize) -> Self {
        self.columns = columns;
        self
    }

    pub(crate) fn height(mut self, height: f64) -> Self {
        self.height = height;
        self
    }

    /// Writes the picture as `<name>.svg` and `<name>.png`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn save(&self, dir: &Path, name: &str) -> anyhow::Result<()> {
        let svg = self.svg();
        let pixels = png(&svg)?;
        for (kind, bytes) in [("svg", svg.as_bytes()), ("png", pixels.as_slice())] {
            let path = dir.join(format!("{name}.{kind}"));
            std::fs::write(&path, bytes)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
