//! Pages as files: markup, escaping, and what is embedded.
//!
//! Owns the promise that a page needs nothing from outside and runs nothing but its own script: every text is escaped
//! here, and the page's policy allows two scripts by their hashes and no request at all. What can be read without a
//! script (the answer, figures, tables) is markup; charts and sorting come on top. Called by `python` and by whoever
//! puts several runs on one page.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::bundle::{PLOTLY, PLOTLY_SHA256};
use super::model::{Block, Card, Chart, Fault, Gauge, Run, Section, Timeline, Tone, Verdict};
use super::table::Table;
use crate::results::Results;

const FRAME: &str = include_str!("assets/page.html");
const STYLE: &str = include_str!("assets/page.css");
/// In the order in which they build on each other.
const SCRIPTS: [&str; 4] = [
    include_str!("assets/theme.js"),
    include_str!("assets/chart.js"),
    include_str!("assets/table.js"),
    include_str!("assets/page.js"),
];

/// Rows of a table that are markup; the others come with the script.
const ROWS_IN_MARKUP: usize = 200;

/// The page of one run: one file, complete in itself.
pub fn page(results: &Results) -> String {
    let run = Run::of(results);
    let mut page = Page::new(&format!("{} · {}", run.verdict.headline, run.title));
    page.run(&run);
    page.finish()
}

/// What the script gets of a run.
#[derive(Serialize)]
struct Data {
    timeline: Timeline,
    charts: Vec<Chart>,
    tables: Vec<Table>,
}

/// A page that is being put together.
#[derive(Default)]
pub struct Page {
    title: String,
    body: String,
    data: Vec<Data>,
}

impl Page {
    /// An empty one; the title is that of its window.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a run: its answer, figures and sections. The first has the page's main heading.
    pub fn run(&mut self, run: &Run) {
        let number = self.begin(run.timeline.clone());
        opening(&mut self.body, run, number);
        contents(&mut self.body, &run.sections, number);
        for section in &run.sections {
            self.section_of(section, number);
        }
    }

    /// Adds a run that is shown when it is asked for.
    pub fn folded(&mut self, label: &str, run: &Run) {
        let _ = write!(
            self.body,
            "<details class=\"run\"><summary>{}</summary>",
            escaped(label)
        );
        self.run(run);
        self.body.push_str("</details>");
    }

    fn begin(&mut self, timeline: Timeline) -> usize {
        self.data.push(Data {
            timeline,
            charts: Vec::new(),
            tables: Vec::new(),
        });
        self.data.len() - 1
    }

    fn section_of(&mut self, section: &Section, number: usize) {
        let body = &mut self.body;
        let id = escaped(&section.id);
        let _ = write!(
            body,
            "<section class=\"part\" aria-labelledby=\"r{number}-{id}\"><h2 id=\"r{number}-{id}\">{}</h2>",
            escaped(&section.title)
        );
        let timed = section.blocks.iter().any(is_timed);
        if timed {
            let _ = write!(body, "<div class=\"zoom\" data-run=\"{number}\"></div>");
        }
        body.push_str("<div class=\"blocks\">");
        for block in &section.blocks {
            match block {
                Block::Text(text) => {
                    let _ = write!(body, "<p class=\"text\">{}</p>", escaped(text));
                }
                Block::Gauges(what, list) => gauges(body, what, list),
                Block::Facts(facts) => {
                    body.push_str("<dl>");
                    for (name, value) in facts {
                        let _ = write!(
                            body,
                            "<div><dt>{}</dt><dd><bdi>{}</bdi></dd></div>",
                            escaped(name),
                            escaped(value)
                        );
                    }
                    body.push_str("</dl>");
                }
                Block::Code(text) => {
                    let _ = write!(
                        body,
                        "<pre tabindex=\"0\"><code>{}</code></pre>",
                        escaped(text)
                    );
                }
                Block::Faults(list) => faults(body, list),
                Block::Chart(chart) => {
                    let Some(data) = self.data.get_mut(number) else {
                        continue;
                    };
                    figure(body, chart, number, data.charts.len());
                    data.charts.push(chart.as_ref().clone());
                }
                Block::Table(shown) => {
                    let Some(data) = self.data.get_mut(number) else {
                        continue;
                    };
                    table(body, shown, number, data.tables.len());
                    data.tables.push(shown.clone());
                }
            }
        }
        body.push_str("</div></section>");
    }

    /// The file.
    pub fn finish(self) -> String {
        let script = SCRIPTS.concat();
        let script = format!("(function () {{\n\"use strict\";\n{script}\n}})();");
        let hash = STANDARD.encode(Sha256::digest(&script));
        let data = serde_json::to_string(&self.data).unwrap_or_else(|_| "[]".to_owned());
        let data = in_script(&data);
        let title = escaped(&self.title);
        fill(
            FRAME,
            &[
                ("{{title}}", &title),
                ("{{script-hash}}", &hash),
                ("{{plotly-hash}}", PLOTLY_SHA256),
                ("{{style}}", STYLE),
                ("{{body}}", &self.body),
                ("{{data}}", &data),
                ("{{plotly}}", PLOTLY),
                ("{{script}}", &script),
            ],
        )
    }
}

fn is_timed(block: &Block) -> bool {
    matches!(block, Block::Chart(chart) if chart.across == super::model::Across::Time)
}

/// Puts texts in for the marks of a template, each once and in this order, without looking at what was put in.
fn fill(template: &str, texts: &[(&str, &str)]) -> String {
    let length: usize = texts.iter().map(|(_, text)| text.len()).sum();
    let mut out = String::with_capacity(template.len() + length);
    let mut rest = template;
    for (mark, text) in texts {
        if let Some((before, after)) = rest.split_once(mark) {
            out.push_str(before);
            out.push_str(text);
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// A text between tags or in a quoted attribute. What no page may hold becomes the sign for that.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// JSON inside a script element: nothing in it can end the element or begin a comment.
fn in_script(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

const fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Warn => "warn",
        Tone::Bad => "bad",
        Tone::Plain => "plain",
    }
}

/// The sign of a tone, for those who do not see its colour.
const fn sign(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "✓",
        Tone::Warn => "!",
        Tone::Bad => "✗",
        Tone::Plain => "·",
    }
}

fn opening(body: &mut String, run: &Run, number: usize) {
    let Verdict {
        headline,
        tone,
        line,
        remarks,
    } = &run.verdict;
    let heading = if number == 0 { "h1" } else { "h2" };
    let _ = write!(
        body,
        "<section class=\"verdict {}\"><p class=\"what\"><bdi>{}</bdi> <span>{}</span></p>\
         <{heading}><span class=\"sign\" aria-hidden=\"true\">{}</span> <bdi>{}</bdi></{heading}>",
        class(*tone),
        escaped(&run.title),
        escaped(&run.subtitle),
        sign(*tone),
        escaped(headline)
    );
    for remark in remarks {
        let _ = write!(
            body,
            "<p class=\"remark\"><bdi>{}</bdi></p>",
            escaped(remark)
        );
    }
    if !line.is_empty() {
        let _ = write!(body, "<p class=\"line\"><bdi>{}</bdi></p>", escaped(line));
    }
    body.push_str("</section><div class=\"cards\">");
    for card in &run.cards {
        self::card(body, card);
    }
    body.push_str("</div>");
}

fn card(body: &mut String, card: &Card) {
    let tone = class(card.tone);
    let _ = write!(
        body,
        "<div class=\"card {tone}\"><p class=\"label\">{}</p><p class=\"value\">{}",
        escaped(&card.label),
        escaped(&card.value)
    );
    if !card.unit.is_empty() {
        let _ = write!(body, " <small><bdi>{}</bdi></small>", escaped(&card.unit));
    }
    body.push_str("</p>");
    if !card.status.is_empty() {
        let _ = write!(
            body,
            "<p class=\"status\"><span class=\"sign\" aria-hidden=\"true\">{}</span> {}</p>",
            sign(card.tone),
            escaped(&card.status)
        );
    }
    body.push_str("<ul>");
    for detail in &card.details {
        let _ = write!(body, "<li><bdi>{}</bdi></li>", escaped(detail));
    }
    body.push_str("</ul></div>");
}

fn contents(body: &mut String, sections: &[Section], number: usize) {
    body.push_str("<nav aria-label=\"Sections\"><ul>");
    for section in sections {
        let _ = write!(
            body,
            "<li><a href=\"#r{number}-{}\">{}</a></li>",
            escaped(&section.id),
            escaped(&section.title)
        );
    }
    body.push_str("</ul></nav>");
}

fn gauges(body: &mut String, what: &str, gauges: &[Gauge]) {
    let _ = write!(body, "<div class=\"gauges\"><h3>{}</h3><ul>", escaped(what));
    for gauge in gauges {
        let full = gauge.ratio.clamp(0.0, 1.0) * 100.0;
        let limiting = if gauge.limiting { " limiting" } else { "" };
        let tag = if gauge.limiting {
            "<b>gives out first</b>"
        } else {
            ""
        };
        let _ = write!(
            body,
            "<li class=\"gauge{limiting}\"><span class=\"name\"><bdi>{}</bdi>{tag}</span>\
             <span class=\"bar\" aria-hidden=\"true\"><i style=\"width:{full:.1}%\"></i></span>\
             <span class=\"share\">{}</span><span class=\"of\">{}</span></li>",
            escaped(&gauge.label),
            super::number::percent(gauge.ratio),
            escaped(&gauge.text)
        );
    }
    body.push_str("</ul></div>");
}

fn figure(body: &mut String, chart: &Chart, run: usize, place: usize) {
    let width = if chart.half { " half" } else { "" };
    let tall = if chart.heat.is_some() || chart.across == super::model::Across::Share {
        " tall"
    } else {
        ""
    };
    let title = escaped(&chart.title);
    let _ = write!(
        body,
        "<figure class=\"chart{width}{tall}\" id=\"r{run}-{}\" data-run=\"{run}\" data-chart=\"{place}\">\
         <figcaption><h3>{title}</h3>",
        escaped(&chart.id)
    );
    if !chart.note.is_empty() {
        let _ = write!(body, "<p>{}</p>", escaped(&chart.note));
    }
    body.push_str(
        "</figcaption><div class=\"legend\"></div><div class=\"plot\"></div>\
         <details class=\"data\"><summary>Show as a table</summary></details></figure>",
    );
}

fn table(body: &mut String, table: &Table, run: usize, place: usize) {
    let _ = write!(
        body,
        "<div class=\"table\" id=\"r{run}-{}\" data-run=\"{run}\" data-table=\"{place}\"><table role=\"table\">\
         <caption>{}</caption><thead role=\"rowgroup\"><tr role=\"row\">",
        escaped(&table.id),
        escaped(&table.caption)
    );
    for column in &table.columns {
        let number = if column.number {
            " class=\"number\""
        } else {
            ""
        };
        let _ = write!(
            body,
            "<th role=\"columnheader\" scope=\"col\"{number}>{}</th>",
            escaped(&column.title)
        );
    }
    body.push_str("</tr></thead><tbody role=\"rowgroup\">");
    for row in table.rows.iter().take(ROWS_IN_MARKUP) {
        body.push_str("<tr role=\"row\">");
        for (place, (cell, column)) in row.iter().zip(&table.columns).enumerate() {
            let number = if column.number {
                " class=\"number\""
            } else {
                ""
            };
            let text = escaped(cell.shown());
            let title = escaped(&column.title);
            let _ = if place == 0 {
                write!(
                    body,
                    "<th role=\"rowheader\" scope=\"row\"><bdi>{text}</bdi></th>"
                )
            } else {
                write!(
                    body,
                    "<td role=\"cell\"{number} data-title=\"{title}\"><bdi>{text}</bdi></td>"
                )
            };
        }
        body.push_str("</tr>");
    }
    body.push_str("</tbody></table>");
    if table.rows.len() > ROWS_IN_MARKUP {
        let _ = write!(
            body,
            "<p class=\"more\">The first {ROWS_IN_MARKUP} of {} rows.</p>",
            table.rows.len()
        );
    }
    body.push_str("</div>");
}

fn faults(body: &mut String, faults: &[Fault]) {
    body.push_str("<div class=\"faults\">");
    for fault in faults {
        let place = if fault.place.is_empty() {
            String::new()
        } else {
            format!(
                " <span class=\"place\">at <bdi>{}</bdi></span>",
                escaped(&fault.place)
            )
        };
        let _ = write!(
            body,
            "<div class=\"fault\"><h3><bdi>{}</bdi>{place}</h3><p class=\"count\">{}</p>\
             <p class=\"message\"><bdi>{}</bdi></p>",
            escaped(&fault.kind),
            escaped(&fault.count),
            escaped(&fault.message)
        );
        if !fault.example.is_empty() {
            let _ = write!(
                body,
                "<details><summary>Traceback of the first</summary><pre tabindex=\"0\"><code>{}</code></pre></details>",
                escaped(&fault.example)
            );
        }
        body.push_str("</div>");
    }
    body.push_str("</div>");
}
