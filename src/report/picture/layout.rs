//! Where everything is.
//!
//! Owns the places of title, verdict, facts and panels, and the pen: texts and lengths in pixels on any of plotters'
//! backends. Called by `mod`.

use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontFamily, FontStyle, RGBColor, TextStyle};
use plotters_backend::DrawingBackend;

use super::canvas::LINE_PER_EM;
use super::font::{FAMILY, Face};
use super::scene::{Ink, Scene, Tone};
use super::{HEIGHT, PictureError, STEPS, WIDTH, plot};

const MARGIN: f64 = 32.0;
const FACTS_TOP: f64 = 146.0;
const FACT_HEIGHT: f64 = 70.0;
const PANELS_TOP: f64 = 236.0;
const PANELS_BOTTOM: f64 = 772.0;
const GAP: f64 = 36.0;
const ROW_GAP: f64 = 22.0;

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

/// How thick letters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Normal,
    Bold,
}

/// plotters' drawing area, in pixels.
pub(super) struct Pen<'a, B: DrawingBackend> {
    area: &'a DrawingArea<B, Shift>,
}

impl<B: DrawingBackend> Pen<'_, B> {
    pub(super) const TEXT: (u8, u8, u8) = (32, 36, 42);
    pub(super) const SOFT: (u8, u8, u8) = (92, 99, 108);

    pub(super) fn area(&self) -> &DrawingArea<B, Shift> {
        self.area
    }

    #[expect(clippy::cast_possible_truncation, reason = "some thousand steps")]
    pub(super) fn steps((x, y): (f64, f64)) -> (i32, i32) {
        let scale = f64::from(STEPS);
        ((x * scale).round() as i32, (y * scale).round() as i32)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some pixels, not below 0"
    )]
    pub(super) fn length(pixels: f64) -> u32 {
        (pixels * f64::from(STEPS)).round() as u32
    }

    fn face(size: f32, weight: Weight) -> Result<Face, PictureError> {
        Face::new(size, weight == Weight::Bold)
            .ok_or_else(|| PictureError::Draw("the embedded font cannot be read".to_owned()))
    }

    /// How wide a text is; 0 when the font cannot be read, which drawing it reports.
    pub(super) fn width(&self, text: &str, size: f32) -> f64 {
        Self::face(size, Weight::Normal).map_or(0.0, |face| f64::from(face.width(text)))
    }

    pub(super) fn cut(&self, text: &str, size: f32, width: f32) -> String {
        Self::face(size, Weight::Normal)
            .map_or_else(|_| String::new(), |face| face.cut(text, width))
    }

    fn put(
        &self,
        text: &str,
        at: (f64, f64),
        size: f32,
        weight: Weight,
        (red, green, blue): (u8, u8, u8),
        h_pos: HPos,
    ) -> Result<(), PictureError> {
        let style = match weight {
            Weight::Normal => FontStyle::Normal,
            Weight::Bold => FontStyle::Bold,
        };
        let lines = f64::from(size) * LINE_PER_EM * f64::from(STEPS);
        let font = plotters::style::FontDesc::new(FontFamily::Name(FAMILY), lines, style);
        let color = RGBColor(red, green, blue);
        let style = TextStyle::from(font)
            .color(&color)
            .pos(Pos::new(h_pos, VPos::Center));
        self.area
            .draw_text(text, &style, Self::steps(at))
            .map_err(|error| PictureError::Draw(error.to_string()))
    }

    /// A text that begins there, its middle at that height.
    pub(super) fn text(
        &self,
        text: &str,
        at: (f64, f64),
        size: f32,
        weight: Weight,
        ink: (u8, u8, u8),
    ) -> Result<(), PictureError> {
        self.put(text, at, size, weight, ink, HPos::Left)
    }

    pub(super) fn centred(
        &self,
        text: &str,
        at: (f64, f64),
        size: f32,
        ink: (u8, u8, u8),
    ) -> Result<(), PictureError> {
        self.put(text, at, size, Weight::Normal, ink, HPos::Center)
    }

    pub(super) fn right_aligned(
        &self,
        text: &str,
        at: (f64, f64),
        size: f32,
        ink: (u8, u8, u8),
    ) -> Result<(), PictureError> {
        self.put(text, at, size, Weight::Normal, ink, HPos::Right)
    }
}

/// Draws the whole picture.
pub(super) fn draw<B: DrawingBackend>(
    scene: &Scene,
    area: &DrawingArea<B, Shift>,
) -> Result<(), PictureError> {
    let pen = Pen { area };
    let (width, height) = (f64::from(WIDTH), f64::from(HEIGHT));
    pen.rectangle(0.0, 0.0, width, height, (255, 255, 255), 1.0)?;
    head(&pen, scene)?;
    facts(&pen, scene)?;
    let middle = width / 2.0;
    let row = f64::midpoint(PANELS_TOP, PANELS_BOTTOM);
    for (number, panel) in scene.panels.iter().take(4).enumerate() {
        let (left, right) = if number % 2 == 0 {
            (MARGIN, middle - GAP / 2.0)
        } else {
            (middle + GAP / 2.0, width - MARGIN)
        };
        let (top, bottom) = if number < 2 {
            (PANELS_TOP, row - ROW_GAP / 2.0)
        } else {
            (row + ROW_GAP / 2.0, PANELS_BOTTOM)
        };
        plot::draw(
            &pen,
            panel,
            Place {
                left,
                top,
                right,
                bottom,
            },
        )?;
    }
    #[expect(clippy::cast_possible_truncation, reason = "pixels")]
    let footer = pen.cut(&scene.footer, 10.5, (width - 2.0 * MARGIN) as f32);
    pen.text(
        &footer,
        (MARGIN, 786.0),
        10.5,
        Weight::Normal,
        Pen::<B>::SOFT,
    )?;
    area.present()
        .map_err(|error| PictureError::Draw(error.to_string()))
}

fn head<B: DrawingBackend>(pen: &Pen<B>, scene: &Scene) -> Result<(), PictureError> {
    let width = f64::from(WIDTH);
    let when = pen.cut(&scene.when, 13.0, 480.0);
    let room = width - 2.0 * MARGIN - pen.width(&when, 13.0) - 24.0;
    #[expect(clippy::cast_possible_truncation, reason = "pixels")]
    let title = pen.cut(&scene.title, 14.0, room as f32);
    pen.text(&title, (MARGIN, 28.0), 14.0, Weight::Normal, Pen::<B>::SOFT)?;
    pen.right_aligned(&when, (width - MARGIN, 28.0), 13.0, Pen::<B>::SOFT)?;

    let (tone, label) = &scene.badge;
    let ink = match tone {
        Tone::Good => Ink::Green.rgb(),
        Tone::Bad => (179, 52, 20),
        Tone::Doubtful => (150, 96, 0),
        Tone::Neutral => (84, 92, 104),
    };
    let bold = Pen::<B>::face(14.0, Weight::Bold)?;
    let badge = f64::from(bold.width(label)) + 22.0;
    pen.rectangle(MARGIN, 49.0, MARGIN + badge, 77.0, ink, 1.0)?;
    pen.text(
        label,
        (MARGIN + 11.0, 63.0),
        14.0,
        Weight::Bold,
        (255, 255, 255),
    )?;

    // The verdict as large as it fits on one line; on two when it has to be small.
    let left = MARGIN + badge + 16.0;
    #[expect(clippy::cast_possible_truncation, reason = "pixels")]
    let room = (width - MARGIN - left) as f32;
    let sizes = [24.0, 22.0, 20.0, 18.0, 17.0_f32];
    let mut size = 17.0;
    for one in sizes {
        size = one;
        if Pen::<B>::face(one, Weight::Bold)?.width(&scene.verdict) <= room {
            break;
        }
    }
    let face = Pen::<B>::face(size, Weight::Bold)?;
    let lines = face.wrap(&scene.verdict, room, 2);
    let mut y = 63.0;
    for line in &lines {
        pen.text(line, (left, y), size, Weight::Bold, Pen::<B>::TEXT)?;
        y += 23.0;
    }
    let details = Pen::<B>::face(13.0, Weight::Normal)?;
    let (x, most) = if lines.len() > 1 {
        (left, 2)
    } else {
        (MARGIN, 3)
    };
    #[expect(clippy::cast_possible_truncation, reason = "pixels")]
    let room = (width - MARGIN - x) as f32;
    let mut y = if lines.len() > 1 { 109.0 } else { 96.0 };
    for line in details.wrap(&scene.details, room, most) {
        pen.text(&line, (x, y), 13.0, Weight::Normal, Pen::<B>::TEXT)?;
        y += 17.0;
    }
    Ok(())
}

fn facts<B: DrawingBackend>(pen: &Pen<B>, scene: &Scene) -> Result<(), PictureError> {
    const BETWEEN: f64 = 14.0;
    let count = scene.facts.len();
    if count == 0 {
        return Ok(());
    }
    let all = f64::from(WIDTH) - 2.0 * MARGIN;
    let width = (all - BETWEEN * (count - 1) as f64) / count as f64;
    let width = width.min(all / 4.0);
    for (number, fact) in scene.facts.iter().enumerate() {
        let left = MARGIN + (width + BETWEEN) * number as f64;
        pen.rectangle(
            left,
            FACTS_TOP,
            left + width,
            FACTS_TOP + FACT_HEIGHT,
            (244, 246, 249),
            1.0,
        )?;
        #[expect(clippy::cast_possible_truncation, reason = "pixels")]
        let room = (width - 24.0) as f32;
        let x = left + 12.0;
        let label = pen.cut(&fact.label, 12.0, room);
        pen.text(
            &label,
            (x, FACTS_TOP + 14.0),
            12.0,
            Weight::Normal,
            Pen::<B>::SOFT,
        )?;
        let value = Pen::<B>::face(20.0, Weight::Bold)?.cut(&fact.value, room);
        pen.text(
            &value,
            (x, FACTS_TOP + 36.0),
            20.0,
            Weight::Bold,
            Pen::<B>::TEXT,
        )?;
        let note = pen.cut(&fact.note, 12.0, room);
        pen.text(
            &note,
            (x, FACTS_TOP + 56.0),
            12.0,
            Weight::Normal,
            Pen::<B>::SOFT,
        )?;
    }
    Ok(())
}
