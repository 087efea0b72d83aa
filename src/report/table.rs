//! Tables that can be sorted.
//!
//! Owns the cells: what is shown, and by what they are sorted. Made by the files here; drawn by `html`.

use serde::{Serialize, Serializer};

use super::number::{self, Number};

/// A column's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// What it shows, with the unit.
    pub title: String,
    /// Whether it holds numbers: they stand to the right.
    pub number: bool,
}

/// What a cell shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A text, sorted by itself.
    Text(String),
    /// A text, sorted by the number that it stands for.
    Number(f64, String),
}

impl Serialize for Cell {
    /// A text as it is, a number as a pair: ten thousand rows have to fit.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(value, text) => (Number(*value), text).serialize(serializer),
        }
    }
}

impl Cell {
    /// A text of any length; of a long one the beginning.
    pub fn text(text: &str) -> Self {
        Self::Text(cut(text, 400))
    }

    /// A count.
    pub fn count(value: u64) -> Self {
        Self::Number(value as f64, number::count(value))
    }

    /// A time in seconds, shown in milliseconds: one unit per table.
    pub fn milliseconds(seconds: f64) -> Self {
        let value = seconds * 1000.0;
        let decimals = if value < 10.0 {
            2
        } else {
            usize::from(value < 100.0)
        };
        Self::Number(seconds, format!("{value:.decimals$}"))
    }

    /// Something else, with its words.
    pub fn number(value: f64, text: impl Into<String>) -> Self {
        Self::Number(value, text.into())
    }

    /// What it shows.
    pub fn shown(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(_, text) => text,
        }
    }
}

/// A table with a caption.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Table {
    /// Unique on its page.
    pub id: String,
    /// What it shows.
    pub caption: String,
    /// The heads of its columns.
    pub columns: Vec<Column>,
    /// As many cells as columns each. The first names the row.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty one. A title that begins with `#` is that of numbers.
    pub fn new(id: &str, caption: &str, titles: &[&str]) -> Self {
        let columns = titles.iter().map(|title| Column {
            title: title.trim_start_matches('#').to_owned(),
            number: title.starts_with('#'),
        });
        Self {
            id: id.to_owned(),
            caption: caption.to_owned(),
            columns: columns.collect(),
            rows: Vec::new(),
        }
    }
}

/// The beginning of a text that is longer than that many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
