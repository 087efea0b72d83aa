//! The collector's file as rows with named cells.
//!
//! Owns the cutting into cells and the clock line; knows no meaning of any column. Columns are found by name, so that
//! a file of another version has gaps rather than wrong numbers. Called by the reading of remote histories.

use std::rc::Rc;

use rustc_hash::FxHashMap;

/// The file.
#[derive(Debug)]
pub(super) struct Table<'a> {
    lines: std::str::Lines<'a>,
    columns: Rc<FxHashMap<&'a str, usize>>,
    /// Seconds since 1970 at an uptime of zero.
    boot: f64,
    /// Rows that were left out.
    pub(super) cut: usize,
}

/// One row.
#[derive(Debug)]
pub(super) struct Row<'a> {
    cells: Vec<&'a str>,
    positions: Rc<FxHashMap<&'a str, usize>>,
    /// Seconds since the machine started.
    pub(super) uptime: f64,
    /// Seconds since 1970, by the machine's clock.
    pub(super) unix_seconds: f64,
}

impl<'a> Table<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            lines: text.lines(),
            columns: Rc::default(),
            boot: 0.0,
            cut: 0,
        }
    }

    /// `#clock,EPOCH,UPTIME`
    fn set_clock(&mut self, line: &str) {
        let mut cells = line.split(',').skip(1).map(str::parse::<f64>);
        if let (Some(Ok(epoch)), Some(Ok(uptime))) = (cells.next(), cells.next()) {
            self.boot = epoch - uptime;
        }
    }
}

impl<'a> Iterator for Table<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        loop {
            let line = self.lines.next()?;
            if line.starts_with("#clock") {
                self.set_clock(line);
                continue;
            }
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            if cells.first() == Some(&"t") {
                let names = cells.iter().enumerate();
                self.columns = Rc::new(names.map(|(at, name)| (*name, at)).collect());
                continue;
            }
            let uptime = cells.first().and_then(|cell| cell.parse::<f64>().ok());
            match uptime.filter(|uptime| uptime.is_finite() && (0.0..1e12).contains(uptime)) {
                Some(uptime) if cells.len() == self.columns.len() => {
                    return Some(Row {
                        cells,
                        positions: Rc::clone(&self.columns),
                        uptime,
                        unix_seconds: self.boot + uptime,
                    });
                }
                _ if line.trim().is_empty() => {}
                _ => self.cut += 1,
            }
        }
    }
}

impl Row<'_> {
    fn cell(&self, name: &str) -> Option<&str> {
        self.cells.get(*self.positions.get(name)?).copied()
    }

    /// A counter; `None` where it could not be read there.
    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.cell(name)?.parse().ok()
    }

    /// Counters of several devices, in the order of the machine.
    pub(super) fn list(&self, name: &str) -> Vec<u64> {
        let Some(cell) = self.cell(name) else {
            return Vec::new();
        };
        cell.split(';')
            .filter_map(|part| part.parse().ok())
            .collect()
    }
}
