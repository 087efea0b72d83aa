//! Drawing one panel into its rectangle.
//!
//! Owns margins, grid, axes, lines with their dashes, intervals, bands and the legend. Called by `layout`.

use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::style::{RGBAColor, ShapeStyle};
use plotters_backend::DrawingBackend;

use super::PictureError;
use super::layout::{Pen, Place, Weight};
use super::scale::{Scale, Unit};
use super::scene::{Axis, Ink, Line, Panel, Stroke};

const TITLE_SIZE: f32 = 15.0;
const LABEL_SIZE: f32 = 12.0;
const HEADER_HEIGHT: f64 = 26.0;
const LEGEND_HEIGHT: f64 = 18.0;
const LEFT_MARGIN: f64 = 58.0;
const RIGHT_MARGIN: f64 = 14.0;
const RIGHT_AXIS_MARGIN: f64 = 52.0;
const BOTTOM_MARGIN: f64 = 24.0;
const TICKS: u32 = 4;

/// Where the values of a panel are.
struct Frame {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    x: Scale,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        self.left + self.x.place(value) * (self.right - self.left)
    }

    fn y(&self, scale: &Scale, value: f64) -> f64 {
        self.bottom - scale.place(value) * (self.bottom - self.top)
    }
}

/// Draws a panel.
pub(super) fn draw<B: DrawingBackend>(
    pen: &Pen<B>,
    panel: &Panel,
    place: Place,
) -> Result<(), PictureError> {
    let x = match panel.x {
        Unit::Elapsed => Scale::time(panel.x_range.0, panel.x_range.1, 6),
        unit => Scale::from_zero(panel.x_range.1, unit, 6),
    };
    let frame = Frame {
        left: place.left + LEFT_MARGIN,
        top: place.top + HEADER_HEIGHT + LEGEND_HEIGHT,
        right: place.right
            - if panel.right.is_some() {
                RIGHT_AXIS_MARGIN
            } else {
                RIGHT_MARGIN
            },
        bottom: place.bottom - BOTTOM_MARGIN,
        x,
    };
    pen.text(
        &panel.title,
        (place.left, place.top + 9.0),
        TITLE_SIZE,
        Weight::Bold,
        Pen::<B>::TEXT,
    )?;
    let is_empty = panel.dots.is_empty()
        && panel
            .lines
            .iter()
            .all(|line| line.points.iter().all(|point| point.1.is_none()));
    if is_empty {
        pen.rectangle(
            frame.left,
            frame.top,
            frame.right,
            frame.bottom,
            (246, 247, 249),
            1.0,
        )?;
        let middle = (
            f64::midpoint(frame.left, frame.right),
            f64::midpoint(frame.top, frame.bottom),
        );
        return pen.centred(&panel.nothing, middle, 13.0, Pen::<B>::SOFT);
    }
    legend(pen, panel, place)?;
    bands(pen, panel, &frame)?;
    let left = scale_of(panel, &panel.left, false);
    let right = panel.right.as_ref().map(|axis| scale_of(panel, axis, true));
    axes(pen, panel, &frame, &left, right.as_ref())?;
    for line in &panel.lines {
        let scale = if line.right {
            right.as_ref().unwrap_or(&left)
        } else {
            &left
        };
        draw_line(pen, line, &frame, scale)?;
    }
    draw_dots(pen, panel, &frame, &left)
}

fn scale_of(panel: &Panel, axis: &Axis, right: bool) -> Scale {
    let lines = panel.lines.iter().filter(|line| line.right == right);
    let values = lines.flat_map(|line| line.points.iter().filter_map(|point| point.1));
    if axis.logarithmic {
        return Scale::logarithmic(values, axis.unit);
    }
    Scale::from_zero(values.fold(axis.at_least, f64::max), axis.unit, TICKS)
}

fn legend<B: DrawingBackend>(
    pen: &Pen<B>,
    panel: &Panel,
    place: Place,
) -> Result<(), PictureError> {
    const SAMPLE: f64 = 26.0;
    let y = place.top + HEADER_HEIGHT + 2.0;
    let mut x = place.left;
    let room = (place.right - place.left) / panel.lines.len().max(1) as f64;
    for line in &panel.lines {
        let sample = [(x, y), (x + SAMPLE, y)];
        stroke(pen, &sample, line.stroke, line.ink)?;
        #[expect(clippy::cast_possible_truncation, reason = "pixels")]
        let label = pen.cut(
            &line.label,
            LABEL_SIZE,
            (room - SAMPLE - 20.0).max(40.0) as f32,
        );
        pen.text(
            &label,
            (x + SAMPLE + 6.0, y),
            LABEL_SIZE,
            Weight::Normal,
            Pen::<B>::TEXT,
        )?;
        x += SAMPLE + 6.0 + pen.width(&label, LABEL_SIZE) + 18.0;
    }
    if !panel.dots.is_empty() {
        let items = [(true, "held"), (false, "could not be held")];
        for (good, label) in items {
            dot(pen, (x + 6.0, y), good)?;
            pen.text(
                label,
                (x + 17.0, y),
                LABEL_SIZE,
                Weight::Normal,
                Pen::<B>::TEXT,
            )?;
            x += 17.0 + pen.width(label, LABEL_SIZE) + 18.0;
        }
    }
    if !panel.note.is_empty() {
        #[expect(clippy::cast_possible_truncation, reason = "pixels")]
        let note = pen.cut(
            &panel.note,
            LABEL_SIZE,
            (place.right - place.left) as f32 * 0.7,
        );
        let left = place.right - pen.width(&note, LABEL_SIZE);
        pen.text(
            &note,
            (left, place.top + 9.0),
            LABEL_SIZE,
            Weight::Normal,
            Pen::<B>::SOFT,
        )?;
    }
    Ok(())
}

fn bands<B: DrawingBackend>(
    pen: &Pen<B>,
    panel: &Panel,
    frame: &Frame,
) -> Result<(), PictureError> {
    let mut named_until = f64::NEG_INFINITY;
    for (number, (from, to, name)) in panel.bands.iter().enumerate() {
        let (left, right) = (frame.x(*from), frame.x(*to));
        let shade = if number % 2 == 0 {
            (244, 246, 249)
        } else {
            (233, 237, 243)
        };
        pen.rectangle(left, frame.top, right, frame.bottom, shade, 1.0)?;
        let width = pen.width(name, 11.0);
        if right - left > width + 6.0 && left > named_until {
            pen.text(
                name,
                (left + 4.0, frame.top + 8.0),
                11.0,
                Weight::Normal,
                Pen::<B>::SOFT,
            )?;
            named_until = left + width;
        }
    }
    Ok(())
}

fn axes<B: DrawingBackend>(
    pen: &Pen<B>,
    panel: &Panel,
    frame: &Frame,
    left: &Scale,
    right: Option<&Scale>,
) -> Result<(), PictureError> {
    for (value, label) in left.ticks() {
        let y = frame.y(left, value);
        pen.line(
            &[(frame.left, y), (frame.right, y)],
            1.0,
            (222, 226, 231),
            1.0,
        )?;
        pen.right_aligned(&label, (frame.left - 7.0, y), LABEL_SIZE, Pen::<B>::SOFT)?;
    }
    for (value, label) in right.map(Scale::ticks).unwrap_or_default() {
        let y = frame.y(right.unwrap_or(left), value);
        pen.text(
            &label,
            (frame.right + 7.0, y),
            LABEL_SIZE,
            Weight::Normal,
            Pen::<B>::SOFT,
        )?;
    }
    let bottom = frame.bottom;
    pen.line(
        &[(frame.left, bottom), (frame.right, bottom)],
        1.2,
        (150, 156, 164),
        1.0,
    )?;
    for (value, label) in frame.x.ticks() {
        let x = frame.x(value);
        pen.line(&[(x, bottom), (x, bottom + 4.0)], 1.2, (150, 156, 164), 1.0)?;
        let half = pen.width(&label, LABEL_SIZE) / 2.0;
        let most = frame.right
            + if panel.right.is_some() {
                RIGHT_AXIS_MARGIN
            } else {
                RIGHT_MARGIN
            };
        let centre = x.min(most - half);
        pen.centred(&label, (centre, bottom + 14.0), LABEL_SIZE, Pen::<B>::SOFT)?;
    }
    if let Some((value, name)) = &panel.mark {
        let x = frame.x(*value);
        let ink = Ink::Green.rgb();
        dashes(pen, &[(x, frame.top), (x, bottom)], (6.0, 4.0), 1.6, ink)?;
        let width = pen.width(name, LABEL_SIZE);
        let left = if x + 6.0 + width > frame.right {
            x - 6.0 - width
        } else {
            x + 6.0
        };
        pen.text(name, (left, bottom - 11.0), LABEL_SIZE, Weight::Bold, ink)?;
    }
    Ok(())
}

/// The parts of a line between its gaps, in pixels.
fn parts(line: &Line, frame: &Frame, scale: &Scale) -> Vec<Vec<(f64, f64)>> {
    let mut parts = vec![Vec::new()];
    let mut last: Option<(f64, f64)> = None;
    for (x, value) in &line.points {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            last = None;
            parts.push(Vec::new());
            continue;
        };
        let at = (frame.x(*x), frame.y(scale, value));
        if let Some(part) = parts.last_mut() {
            if let (true, Some(before)) = (line.steps, last) {
                part.push((at.0, before.1));
            }
            part.push(at);
        }
        last = Some(at);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn draw_line<B: DrawingBackend>(
    pen: &Pen<B>,
    line: &Line,
    frame: &Frame,
    scale: &Scale,
) -> Result<(), PictureError> {
    for part in parts(line, frame, scale) {
        if let [only] = part.as_slice() {
            // A value between gaps has no length.
            pen.circle(*only, 2.6, line.ink.rgb())?;
            continue;
        }
        if line.filled {
            let mut area = part.clone();
            let (first, last) = (
                part.first().map_or(0.0, |at| at.0),
                part.last().map_or(0.0, |at| at.0),
            );
            area.push((last, frame.bottom));
            area.push((first, frame.bottom));
            pen.polygon(&area, line.ink.rgb(), 0.12)?;
        }
        stroke(pen, &part, line.stroke, line.ink)?;
    }
    Ok(())
}

fn stroke<B: DrawingBackend>(
    pen: &Pen<B>,
    points: &[(f64, f64)],
    stroke: Stroke,
    ink: Ink,
) -> Result<(), PictureError> {
    match stroke {
        Stroke::Solid => pen.line(points, 1.6, ink.rgb(), 1.0),
        Stroke::Bold => pen.line(points, 2.4, ink.rgb(), 1.0),
        Stroke::Dashed => dashes(pen, points, (7.0, 4.0), 1.8, ink.rgb()),
        Stroke::Dotted => dashes(pen, points, (2.0, 2.4), 1.6, ink.rgb()),
    }
}

fn dashes<B: DrawingBackend>(
    pen: &Pen<B>,
    points: &[(f64, f64)],
    (on, off): (f64, f64),
    width: f64,
    ink: (u8, u8, u8),
) -> Result<(), PictureError> {
    let mut drawing = true;
    let mut left = on;
    let mut dash: Vec<(f64, f64)> = points.first().copied().into_iter().collect();
    for (from, to) in points.iter().zip(points.iter().skip(1)) {
        let mut from = *from;
        loop {
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if length <= left {
                left -= length;
                if drawing {
                    dash.push(*to);
                }
                break;
            }
            let share = left / length;
            from = (
                from.0 + (to.0 - from.0) * share,
                from.1 + (to.1 - from.1) * share,
            );
            if drawing {
                dash.push(from);
                pen.line(&dash, width, ink, 1.0)?;
                dash.clear();
            } else {
                dash = vec![from];
            }
            drawing = !drawing;
            left = if drawing { on } else { off };
        }
    }
    if dash.len() > 1 {
        pen.line(&dash, width, ink, 1.0)?;
    }
    Ok(())
}

fn draw_dots<B: DrawingBackend>(
    pen: &Pen<B>,
    panel: &Panel,
    frame: &Frame,
    scale: &Scale,
) -> Result<(), PictureError> {
    for one in &panel.dots {
        let x = frame.x(one.x);
        let (low, high) = (frame.y(scale, one.low), frame.y(scale, one.high));
        let ink = if one.good { Ink::Blue } else { Ink::Vermillion };
        pen.line(&[(x, low), (x, high)], 1.2, ink.rgb(), 0.55)?;
        for y in [low, high] {
            pen.line(&[(x - 3.0, y), (x + 3.0, y)], 1.2, ink.rgb(), 0.55)?;
        }
    }
    for one in &panel.dots {
        dot(pen, (frame.x(one.x), frame.y(scale, one.value)), one.good)?;
    }
    Ok(())
}

/// A disc for a level that could be held, a cross for one that could not.
fn dot<B: DrawingBackend>(
    pen: &Pen<B>,
    (x, y): (f64, f64),
    good: bool,
) -> Result<(), PictureError> {
    if good {
        return pen.circle((x, y), 4.2, Ink::Blue.rgb());
    }
    for side in [-1.0, 1.0] {
        let cross = [(x - 3.6, y - 3.6 * side), (x + 3.6, y + 3.6 * side)];
        pen.line(&cross, 2.2, Ink::Vermillion.rgb(), 1.0)?;
    }
    Ok(())
}

/// plotters' elements in pixels.
impl<B: DrawingBackend> Pen<'_, B> {
    pub(super) fn line(
        &self,
        points: &[(f64, f64)],
        width: f64,
        ink: (u8, u8, u8),
        alpha: f64,
    ) -> Result<(), PictureError> {
        let path: Vec<(i32, i32)> = points.iter().map(|at| Self::steps(*at)).collect();
        self.shape(&PathElement::new(
            path,
            style(ink, alpha, false, Self::length(width)),
        ))
    }

    pub(super) fn polygon(
        &self,
        points: &[(f64, f64)],
        ink: (u8, u8, u8),
        alpha: f64,
    ) -> Result<(), PictureError> {
        let path: Vec<(i32, i32)> = points.iter().map(|at| Self::steps(*at)).collect();
        self.shape(&Polygon::new(path, style(ink, alpha, true, 0)))
    }

    pub(super) fn rectangle(
        &self,
        left: f64,
        top: f64,
        right: f64,
        bottom: f64,
        ink: (u8, u8, u8),
        alpha: f64,
    ) -> Result<(), PictureError> {
        let corners = [Self::steps((left, top)), Self::steps((right, bottom))];
        self.shape(&Rectangle::new(corners, style(ink, alpha, true, 0)))
    }

    pub(super) fn circle(
        &self,
        centre: (f64, f64),
        radius: f64,
        ink: (u8, u8, u8),
    ) -> Result<(), PictureError> {
        self.shape(&Circle::new(
            Self::steps(centre),
            Self::length(radius),
            style(ink, 1.0, true, 0),
        ))
    }

    fn shape<'e, E>(&self, element: &'e E) -> Result<(), PictureError>
    where
        E: plotters::element::Drawable<B>,
        &'e E: plotters::element::PointCollection<'e, (i32, i32)>,
    {
        let area: &DrawingArea<B, Shift> = self.area();
        area.draw(element)
            .map_err(|error| PictureError::Draw(error.to_string()))
    }
}

fn style(
    (red, green, blue): (u8, u8, u8),
    alpha: f64,
    filled: bool,
    stroke_width: u32,
) -> ShapeStyle {
    ShapeStyle {
        color: RGBAColor(red, green, blue, alpha),
        filled,
        stroke_width,
    }
}
