//! One picture of a run, 1200 by 800: for a chat, a CI comment, a slide.
//!
//! Owns the way from a document to the bytes of a PNG or the text of an SVG. plotters draws on either; the fonts are
//! embedded, so that no font of the system is needed and every machine draws the same. Called by `python`.
//!
//! | file | owns |
//! |---|---|
//! | `scene` | what is shown: texts, facts, panels as data |
//! | `panels` | which panels a run has, and their lines |
//! | `layout` | where everything is, and drawing the texts |
//! | `plot` | drawing one panel |
//! | `scale` | ticks and their labels |
//! | `canvas` | plotters' backend for PNG: filled outlines |
//! | `font` | the embedded fonts: widths, wrapping |

mod canvas;
mod font;
mod layout;
mod panels;
mod plot;
mod scale;
mod scene;
#[cfg(test)]
mod tests;

use plotters::drawing::IntoDrawingArea;
use plotters::prelude::SVGBackend;

use crate::results::Results;
use canvas::Canvas;
use scene::Scene;

/// Width of a picture in pixels.
pub const WIDTH: u32 = 1200;

/// Its height.
pub const HEIGHT: u32 = 800;

/// Steps of plotters' whole-numbered coordinates in a pixel.
const STEPS: u32 = 8;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// Drawing failed.
    #[error("can't draw the picture: {0}")]
    Draw(String),
    /// The pixels could not be packed.
    #[error("can't write the picture: {0}")]
    Encode(#[from] png::EncodingError),
}

/// The picture as a PNG file.
pub fn png(results: &Results) -> Result<Vec<u8>, PictureError> {
    let scene = Scene::of(results);
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    layout::draw(&scene, &(&mut canvas).into_drawing_area())?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(canvas.pixels())?;
    writer.finish()?;
    Ok(bytes)
}

/// The picture as an SVG document. Its texts stay texts, in Noto Sans or what the viewer has instead.
pub fn svg(results: &Results) -> Result<String, PictureError> {
    let scene = Scene::of(results);
    let (wide, high) = (WIDTH * STEPS, HEIGHT * STEPS);
    let mut text = String::new();
    layout::draw(
        &scene,
        &SVGBackend::with_string(&mut text, (wide, high)).into_drawing_area(),
    )?;
    // plotters gives the size in its own steps; the view box keeps them.
    let steps = format!("width=\"{wide}\" height=\"{high}\"");
    let pixels = format!("width=\"{WIDTH}\" height=\"{HEIGHT}\"");
    Ok(text.replacen(&steps, &pixels, 1))
}
