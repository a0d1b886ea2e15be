//! Charts with error bars, logarithms and theories: diagrams beside and below each other.
//!
//! `chart` draws what happened over time; this draws what depends on what. Colours are Okabe and Ito's,
//! and every layer differs in its dots or dashes, too.

mod axis;
mod draw;
mod png;

pub(crate) use axis::{Axis, number};
pub(crate) use png::png;

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
    /// Of each plot's area.
    pub(crate) height: f64,
}

/// One diagram.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) layers: Vec<Layer>,
    pub(crate) notes: Vec<Note>,
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

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mark {
    /// What was measured at single values.
    Dots(Dot),
    /// The same, joined.
    DotsAndLine(Dot),
    /// What holds in between: theories and distributions.
    Line(Dash),
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
        Self { title: title.to_owned(), x, y, layers, notes: Vec::new() }
    }

    pub(crate) fn note(mut self, x: f64, y: f64, text: &str) -> Self {
        self.notes.push(Note { x, y, text: text.to_owned() });
        self
    }
}

impl Figure {
    pub(crate) fn new(title: String, subtitle: String, plots: Vec<Plot>) -> Self {
        Self { title, subtitle, columns: plots.len().clamp(1, 2), plots, height: 300.0 }
    }

    pub(crate) fn columns(mut self, columns: usize) -> Self {
        self.columns = columns;
        self
    }

    pub(crate) fn height(mut self, height: f64) -> Self {
        self.height = height;
        self
    }
}
