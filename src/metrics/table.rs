//! The end-of-run table: rows as aligned plain text.
//!
//! Owns the layout: which columns fit, the time unit, digits, shortened names. No colour and no terminal: the width comes
//! in. Called by the recorder's wrapper at the end of a run.

use std::fmt::Write as _;
use std::time::Duration;

use super::recorder::{Kind, OTHER, Row};

/// The width of a table when nobody knows the terminal's.
pub const DEFAULT_WIDTH: usize = 100;

/// Names get at least this much; columns are left out before that.
const NARROWEST_NAME: usize = 24;

/// One unit for all times of a table.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    Microseconds,
    Milliseconds,
    Seconds,
}

impl Unit {
    /// Milliseconds, unless all is far below or everything typical is above a second.
    fn of(rows: &[Row]) -> Self {
        let shortest = rows.iter().map(|row| row.p50).min().unwrap_or_default();
        let longest = rows.iter().map(|row| row.max).max().unwrap_or_default();
        if shortest >= Duration::from_secs(1) {
            Self::Seconds
        } else if shortest < Duration::from_micros(500) && longest < Duration::from_millis(10) {
            Self::Microseconds
        } else {
            Self::Milliseconds
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
        }
    }

    fn count(self, time: Duration) -> f64 {
        let seconds = time.as_secs_f64();
        match self {
            Self::Microseconds => seconds * 1e6,
            Self::Milliseconds => seconds * 1e3,
            Self::Seconds => seconds,
        }
    }
}

struct Column {
    title: &'static str,
    /// What goes first when the table is too wide: the highest number. 0 always stays.
    dispensable: u8,
    cells: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        self.cells
            .iter()
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
            .max(self.title.len())
    }
}

/// The rows as a table of at most `width` columns (at least about 60), one line each, scenarios first. `elapsed` is
/// what rates are taken over. Empty without rows; ends with a line break otherwise.
pub fn render(rows: &[Row], elapsed: Duration, width: usize) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let unit = Unit::of(rows);
    let host = common_host(rows);
    let names: Vec<String> = rows.iter().map(|row| shown_name(row, host)).collect();
    let corner = format!("service time in {}", unit.symbol());
    let longest_name = names
        .iter()
        .map(|name| name.chars().count() + 2)
        .max()
        .unwrap_or_default();
    let wanted = longest_name.max(corner.chars().count());
    let mut columns = columns(rows, elapsed, unit);
    let numbers = |columns: &[Column], gap: usize| -> usize {
        columns.iter().map(|column| column.width() + gap).sum()
    };
    let mut gap = 2;
    while width < wanted.min(NARROWEST_NAME) + numbers(&columns, gap) {
        if gap > 1 && width >= wanted.min(NARROWEST_NAME) + numbers(&columns, 1) {
            gap = 1;
            break;
        }
        let Some(last) = (0..columns.len())
            .filter(|at| {
                columns
                    .get(*at)
                    .is_some_and(|column| column.dispensable > 0)
            })
            .max_by_key(|at| columns.get(*at).map(|column| column.dispensable))
        else {
            gap = 1;
            break;
        };
        columns.remove(last);
    }
    let name_width = width
        .saturating_sub(numbers(&columns, gap))
        .clamp(corner.chars().count(), wanted.max(corner.chars().count()));

    let mut table = String::new();
    let titles = columns.iter().map(|column| column.title);
    line(&mut table, &corner, name_width, gap, &columns, titles);
    let mut previous = None;
    for (position, (row, name)) in rows.iter().zip(&names).enumerate() {
        if previous != Some(row.kind) {
            previous = Some(row.kind);
            match (row.kind, host) {
                (Kind::Scenario, _) => table.push_str("Scenarios\n"),
                (Kind::Response, _) => table.push_str("Response times, from the intended start\n"),
                (Kind::Request, Some(host)) => {
                    let _ = writeln!(table, "{}", shorten(&format!("Requests to {host}"), width));
                }
                (Kind::Request, None) => table.push_str("Requests\n"),
            }
        }
        let name = format!("  {}", shorten(name, name_width.saturating_sub(2)));
        let cells = columns
            .iter()
            .map(|column| column.cells.get(position).map_or("", String::as_str));
        line(&mut table, &name, name_width, gap, &columns, cells);
    }
    table
}

fn line<'a>(
    table: &mut String,
    name: &str,
    name_width: usize,
    gap: usize,
    columns: &[Column],
    cells: impl Iterator<Item = &'a str>,
) {
    let _ = write!(table, "{name:<name_width$}");
    for (column, cell) in columns.iter().zip(cells) {
        let width = column.width() + gap;
        let _ = write!(table, "{cell:>width$}");
    }
    table.truncate(table.trim_end().len());
    table.push('\n');
}

fn columns(rows: &[Row], elapsed: Duration, unit: Unit) -> Vec<Column> {
    let seconds = elapsed.as_secs_f64();
    let rates: Vec<f64> = rows
        .iter()
        .map(|row| {
            if seconds > 0.0 {
                row.count as f64 / seconds
            } else {
                0.0
            }
        })
        .collect();
    let time = |title, dispensable, of: fn(&Row) -> Duration| {
        let values: Vec<f64> = rows.iter().map(|row| unit.count(of(row))).collect();
        Column {
            title,
            dispensable,
            cells: numbers(&values),
        }
    };
    let counts = |title, dispensable, of: fn(&Row) -> u64| {
        let cells = rows
            .iter()
            .map(|row| grouped(&of(row).to_string()))
            .collect();
        Column {
            title,
            dispensable,
            cells,
        }
    };
    let mut columns = vec![counts("count", 0, |row| row.count)];
    if rows.iter().any(|row| row.failed > 0) {
        columns.push(counts("failed", 0, |row| row.failed));
    }
    columns.extend([
        Column {
            title: "per s",
            dispensable: 0,
            cells: numbers(&rates),
        },
        time("mean", 3, |row| row.mean),
        time("p50", 0, |row| row.p50),
        time("p90", 5, |row| row.p90),
        time("p95", 0, |row| row.p95),
        time("p99", 0, |row| row.p99),
        time("p99.9", 4, |row| row.p999),
        time("max", 1, |row| row.max),
    ]);
    if rows.iter().any(|row| row.bytes > 0) {
        let cells = rows.iter().map(amount).collect();
        columns.push(Column {
            title: "bytes",
            dispensable: 2,
            cells,
        });
    }
    columns
}

/// Numbers of one column, with as many decimals as its smallest one needs and its largest one bears.
fn numbers(values: &[f64]) -> Vec<String> {
    let smallest = values
        .iter()
        .copied()
        .filter(|value| *value > 0.0)
        .fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(0.0, f64::max);
    let needed = if smallest < 1.0 {
        2
    } else {
        usize::from(smallest < 100.0)
    };
    let borne = if largest >= 10_000.0 {
        0
    } else if largest >= 1000.0 {
        1
    } else {
        2
    };
    let decimals = needed.min(borne);
    values
        .iter()
        .map(|value| grouped(&format!("{value:.decimals$}")))
        .collect()
}

/// Thousands set apart with commas.
fn grouped(number: &str) -> String {
    let (whole, fraction) = number
        .find('.')
        .map_or((number, ""), |point| number.split_at(point));
    let mut out = String::with_capacity(number.len() + 4);
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}

fn amount(row: &Row) -> String {
    if row.kind != Kind::Request && row.bytes == 0 {
        return String::new();
    }
    let mut value = row.bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        let decimals = usize::from(unit != "B" && value < 99.95);
        if value < 999.5 {
            return format!("{value:.decimals$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.0} PB")
}

/// The host that all requests went to, if it was one.
fn common_host(rows: &[Row]) -> Option<&str> {
    let mut hosts = rows
        .iter()
        .filter(|row| row.kind == Kind::Request && row.name != OTHER)
        .map(|row| host_of(&row.name));
    let first = hosts.next()??;
    hosts.all(|host| host == Some(first)).then_some(first)
}

fn host_of(name: &str) -> Option<&str> {
    let (_, rest) = name.split_once(' ')?;
    let host = rest.split('/').next()?;
    (!host.is_empty()).then_some(host)
}

/// What stands in the table: without the host when the heading has it.
fn shown_name(row: &Row, host: Option<&str>) -> String {
    let without_host = || {
        let (method, rest) = row
            .name
            .split_once(' ')
            .filter(|_| row.kind == Kind::Request)?;
        let path = rest.strip_prefix(host?)?;
        Some(format!("{method} {path}").trim_end().to_owned())
    };
    without_host().unwrap_or_else(|| row.name.clone())
}

/// The text in at most that many characters, its middle replaced by an ellipsis.
fn shorten(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    // The end of a path says more than its middle.
    let tail = kept / 2;
    let head: String = text.chars().take(kept - tail).collect();
    let tail: String = text.chars().skip(length - tail).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Recorder;

    fn kinto() -> Recorder {
        let mut recorder = Recorder::new();
        let scenario = recorder.scenario_id("create_record");
        let get = recorder.request_id("GET", "127.0.0.1:8888/v1/");
        let records = "/buckets/default/collections/5f1c8a3b9d/records";
        let moved = recorder.request_id("POST", &format!("127.0.0.1:8888{records}"));
        let post = recorder.request_id("POST", &format!("127.0.0.1:8888/v1{records}"));
        for n in 0..1631_u64 {
            let jitter = n * 7919 % 1000 * (n % 13);
            recorder.record(
                scenario,
                Duration::from_micros(45_000 + jitter * 9),
                n % 500 != 3,
                0,
            );
            recorder.record(get, Duration::from_micros(4_000 + jitter), true, 1310);
            recorder.record(moved, Duration::from_micros(3_000 + jitter), true, 219);
            recorder.record(post, Duration::from_micros(9_000 + jitter * 5), true, 311);
        }
        recorder
    }

    const RUN: Duration = Duration::from_millis(10_830);

    #[test]
    fn a_run_reads_well() {
        let expected = "\
service time in ms                 count failed per s mean  p50   p90   p95   p99 p99.9   max  bytes
Scenarios
  create_record                    1,631      4   151 72.0 63.8 111.4 124.2 141.6 151.6 152.2
Requests to 127.0.0.1:8888
  GET /v1/                         1,631      0   151  7.0  6.1  11.4  12.8  14.7  15.8  15.9 2.1 MB
  POST /buckets/de…ns/{id}/records 1,631      0   151  6.0  5.1  10.4  11.8  13.7  14.8  14.9 357 kB
  POST /v1/buckets…ns/{id}/records 1,631      0   151 24.0 19.5  45.9  53.0  62.7  68.2  68.6 507 kB
";
        assert_eq!(render(&kinto().rows(), RUN, DEFAULT_WIDTH), expected);
    }

    #[test]
    fn every_line_fits() {
        let rows = kinto().rows();
        for width in 60..200 {
            let table = render(&rows, RUN, width);
            for line in table.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
                assert_eq!(line.trim_end(), line);
            }
            assert_eq!(table.contains("p99.9"), width >= 84, "{width}");
            assert!(
                ["count", "p50", "p95", "p99"]
                    .iter()
                    .all(|title| table.contains(title))
            );
        }
        let wide = render(&rows, RUN, 300);
        assert!(
            wide.contains("POST /v1/buckets/default/collections/{id}/records ")
                && !wide.contains('…')
        );
    }

    #[test]
    fn the_unit_suits_the_times() {
        for (time, unit, p50) in [
            (Duration::from_micros(80), "µs", "80.0"),
            (Duration::from_micros(800), "ms", "0.80"),
            (Duration::from_millis(950), "ms", "950"),
            (Duration::from_millis(1500), "s", "1.5"),
        ] {
            let mut recorder = Recorder::new();
            let id = recorder.scenario_id("one");
            recorder.record(id, time, true, 0);
            let table = render(&recorder.rows(), Duration::from_secs(1), 80);
            assert!(
                table.starts_with(&format!("service time in {unit} ")),
                "{table}"
            );
            assert!(table.contains(&format!(" {p50} ")), "{table}");
        }
    }

    #[test]
    fn hosts_stay_when_there_are_several() {
        let mut recorder = Recorder::new();
        for url in ["a:1/x", "b:2/x", "b:2"] {
            let id = recorder.request_id("GET", url);
            recorder.record(id, Duration::from_millis(1), true, 12_345_678);
        }
        let table = render(&recorder.rows(), Duration::ZERO, 80);
        assert!(
            table.contains("Requests\n  GET a:1/x ") && table.contains("  GET b:2/x "),
            "{table}"
        );
        assert!(table.contains("12.3 MB"));
        assert_eq!(render(&[], Duration::ZERO, 80), "");
    }

    #[test]
    fn texts_and_numbers_are_shortened_fairly() {
        assert_eq!(shorten("abcdefghij", 10), "abcdefghij");
        assert_eq!(shorten("abcdefghij", 7), "abc…hij");
        assert_eq!(shorten("éèàüößñçâ", 4), "éè…â");
        assert_eq!(shorten("abc", 0), "…");
        assert_eq!(
            (grouped("1234567.5"), grouped("999")),
            ("1,234,567.5".into(), "999".into())
        );
        assert_eq!(numbers(&[0.0, 0.5, 20_000.0]), ["0", "0", "20,000"]);
    }
}
