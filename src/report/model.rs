//! What a page is made of: sections with charts and tables, before anything is drawn.
//!
//! Data only. `run` makes it from the results of a run; `html` draws it; whoever has something else to show (several
//! runs side by side) puts sections together from the same parts. Texts are plain: escaping is `html`'s. The charts go
//! into the page as compact JSON, of which a `null` is a gap.

use serde::Serialize;

use super::number::Number;
use super::table::Table;

/// How something is to be taken. Never shown by colour alone: each has a sign and a word of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// As it should be.
    Good,
    /// To be noticed.
    Warn,
    /// Wrong.
    Bad,
    /// Neither.
    #[default]
    Plain,
}

/// The first thing to read.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// One plain sentence.
    pub headline: String,
    /// How it is to be taken.
    pub tone: Tone,
    /// The line that the run itself ended with; empty when it had none.
    pub line: String,
    /// What supports it or narrows it, one sentence each.
    pub remarks: Vec<String>,
}

/// One figure with its name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Card {
    /// What it is.
    pub label: String,
    /// The figure.
    pub value: String,
    /// Its unit, or a word beside it.
    pub unit: String,
    /// How it is to be taken, in a word: `confirmed`, `valid`; empty for nothing.
    pub status: String,
    /// The same.
    pub tone: Tone,
    /// More figures, smaller.
    pub details: Vec<String>,
}

/// How much of something is used: a bar.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gauge {
    /// Of what, and whose.
    pub label: String,
    /// 0 to 1; above 1 the bar is full.
    pub ratio: f64,
    /// The figures: `1.94 of 2 cores`.
    pub text: String,
    /// Whether this is what gives out first.
    pub limiting: bool,
}

/// A stretch of time with a name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// Such as `ramp`.
    pub name: String,
    /// In seconds since the start.
    pub from: f64,
    /// The same.
    pub to: f64,
}

/// A moment with a name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mark {
    /// Such as `capacity`.
    pub name: String,
    /// In seconds since the start.
    pub at: f64,
}

/// The time axis that the charts of one run share.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Timeline {
    /// Where it ends, in seconds.
    pub end: f64,
    /// Shaded.
    pub phases: Vec<Phase>,
    /// Marked by a line.
    pub marks: Vec<Mark>,
    /// The times of the series, which name them by their place in this list.
    pub axes: Vec<Vec<f64>>,
}

impl Timeline {
    /// Adds the times of some series, unless they are known; returns their place.
    pub fn axis(&mut self, times: Vec<f64>) -> usize {
        if let Some(place) = self.axes.iter().position(|known| *known == times) {
            return place;
        }
        self.axes.push(times);
        self.axes.len() - 1
    }
}

/// How a line is drawn. Colours and strokes go by the place of the series in its chart unless this says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// A line.
    #[default]
    Line,
    /// A line that keeps its value until the next one, the area below it tinted.
    Steps,
    /// A thin bar from zero for each value.
    Bars,
    /// A line for what gives out first: in the colour that stands for it.
    Culprit,
    /// A limit: grey and dashed.
    Limit,
    /// Measured points with their intervals.
    Points,
    /// One point that matters.
    Star,
    /// A fitted curve, dashed.
    Curve,
}

/// One series of a chart.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// How it is drawn.
    pub look: Look,
    /// The unit of its values; empty for a plain number.
    pub unit: String,
    /// The place of its times in [`Timeline::axes`]; `None` when it has an `x` of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axis: Option<usize>,
    /// Its own places on the horizontal axis.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub x: Vec<Number>,
    /// Its values.
    pub y: Vec<Number>,
    /// Lower ends of their intervals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub low: Vec<Number>,
    /// Upper ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub high: Vec<Number>,
    /// Words for each of the values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Whether it belongs to the axis on the right.
    #[serde(skip_serializing_if = "is_false")]
    pub right: bool,
    /// Whether it is hidden until asked for.
    #[serde(skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// Whether it is what the chart is about.
    #[serde(skip_serializing_if = "is_false")]
    pub strong: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_false(value: &bool) -> bool {
    !value
}

impl Line {
    /// Whether it has any value.
    pub fn is_empty(&self) -> bool {
        self.y.iter().all(|value| value.0.is_nan())
    }
}

/// A vertical axis.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Axis {
    /// What it shows.
    pub title: String,
    /// In which unit.
    pub unit: String,
    /// Whether it is logarithmic.
    #[serde(skip_serializing_if = "is_false")]
    pub log: bool,
    /// What the axis reaches to at least; it begins at zero unless it is logarithmic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
}

impl Axis {
    /// A linear one from zero.
    pub fn new(title: &str, unit: &str) -> Self {
        Self {
            title: title.to_owned(),
            unit: unit.to_owned(),
            ..Self::default()
        }
    }

    /// The same, logarithmic.
    #[must_use]
    pub fn log(self) -> Self {
        Self { log: true, ..self }
    }

    /// The same, reaching to that at least.
    #[must_use]
    pub fn at_least(self, value: f64) -> Self {
        Self {
            at_least: Some(value),
            ..self
        }
    }
}

/// What the horizontal axis of a chart is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Across {
    /// The time of the run: zoomed together with all others of the run.
    #[default]
    Time,
    /// Workers, or runs started per second.
    Level,
    /// Percentiles; the place is −log10(1 − share).
    Share,
}

/// Counts in cells of time and service time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heat {
    /// Width of a column, in seconds.
    pub seconds: f64,
    /// Rows to the tenfold.
    pub per_decade: u32,
    /// The first row, as the power of ten of its lower end in seconds, times `per_decade`.
    pub first: i64,
    /// How many rows there are.
    pub rows: usize,
    /// Of each column the first row that counts, and the counts from there on.
    pub columns: Vec<Vec<u64>>,
}

/// A chart, with its table as the other way to read it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Chart {
    /// Unique on its page.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// What to look for.
    pub note: String,
    /// Its horizontal axis.
    pub across: Across,
    /// What that axis shows; only needed when it is no time.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub across_title: String,
    /// The axis on the left.
    pub left: Axis,
    /// The axis on the right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right: Option<Axis>,
    /// What is drawn.
    pub lines: Vec<Line>,
    /// Drawn instead of lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heat: Option<Heat>,
    /// Whether half the width of the page is enough.
    #[serde(skip_serializing_if = "is_false")]
    pub half: bool,
}

impl Chart {
    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.heat.is_none() && self.lines.iter().all(Line::is_empty)
    }
}

/// An error with its example.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// What was raised.
    pub kind: String,
    /// Where; empty when that is not known.
    pub place: String,
    /// How often, and from when to when.
    pub count: String,
    /// What the first one said.
    pub message: String,
    /// Its traceback.
    pub example: String,
}

/// A part of a section.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Bars, with what they are measured against.
    Gauges(String, Vec<Gauge>),
    /// A chart.
    Chart(Box<Chart>),
    /// A table.
    Table(Table),
    /// Errors.
    Faults(Vec<Fault>),
    /// Names and what they stand for.
    Facts(Vec<(String, String)>),
    /// Text to be copied as it is.
    Code(String),
}

/// A part of a page, with a heading.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Section {
    /// Unique on its page.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// What is in it.
    pub blocks: Vec<Block>,
}

impl Section {
    /// An empty one.
    pub fn new(id: &str, title: &str) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            blocks: Vec::new(),
        }
    }

    /// Adds a chart, unless there is nothing to draw.
    pub fn chart(&mut self, mut chart: Chart) {
        chart.lines.retain(|line| !line.is_empty());
        if !chart.is_empty() {
            self.blocks.push(Block::Chart(Box::new(chart)));
        }
    }

    /// Adds a table, unless it has no rows.
    pub fn table(&mut self, table: Table) {
        if !table.rows.is_empty() {
            self.blocks.push(Block::Table(table));
        }
    }
}

/// One run as a page shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Run {
    /// What was tested.
    pub title: String,
    /// When, where, how long.
    pub subtitle: String,
    /// The first thing to read.
    pub verdict: Verdict,
    /// The figures that matter most.
    pub cards: Vec<Card>,
    /// The time axis of its charts.
    pub timeline: Timeline,
    /// All the rest.
    pub sections: Vec<Section>,
}
