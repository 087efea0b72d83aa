//! Pixels that plotters can draw on.
//!
//! Owns the rasterising: every line, polygon and glyph is an outline that is filled with exact coverage, which is sharper
//! than plotters' own bitmap, whose steps are whole pixels. Coordinates are [`STEPS`] to a pixel. Called by `mod` for PNG.

use std::convert::Infallible;

use ab_glyph::{Font as _, point};
use ab_glyph_rasterizer::{Point, Rasterizer};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontStyle,
};

use super::STEPS;
use super::font::Face;

/// plotters' sizes are line heights, this many to an em (as its SVG backend has it).
pub(super) const LINE_PER_EM: f64 = 1.24;

/// Corners of the polygon that makes a joint of two thick segments round.
const JOINT_CORNERS: u16 = 10;

/// Thinner lines need no round joints, in pixels.
const THIN: f32 = 1.2;

/// A picture in memory, white at first.
pub(super) struct Canvas {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl Canvas {
    /// A white one.
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            pixels: vec![255; width as usize * height as usize * 3],
        }
    }

    /// Red, green and blue of every pixel, row by row.
    pub(super) fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    fn blend(&mut self, x: i64, y: i64, coverage: f32, color: BackendColor) {
        if x < 0 || y < 0 || x >= i64::from(self.width) || y >= i64::from(self.height) {
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "0 to 1")]
        let alpha = coverage.min(1.0) * color.alpha as f32;
        let start = usize::try_from((y * i64::from(self.width) + x) * 3).unwrap_or(usize::MAX);
        let (red, green, blue) = color.rgb;
        if let Some(pixel) = self.pixels.get_mut(start..start + 3) {
            for (old, new) in pixel.iter_mut().zip([red, green, blue]) {
                let mixed = f32::from(*old) + (f32::from(new) - f32::from(*old)) * alpha;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "between two bytes"
                )]
                {
                    *old = mixed.round() as u8;
                }
            }
        }
    }

    /// Fills outlines, in pixels. Outlines of the same direction may overlap.
    fn fill(&mut self, outlines: &[Vec<Point>], color: BackendColor) {
        if color.alpha <= 0.0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few thousand pixels")]
        let (most_x, most_y) = (self.width as f32, self.height as f32);
        let inside = |at: &Point| point(at.x.clamp(0.0, most_x), at.y.clamp(0.0, most_y));
        let all = || outlines.iter().flatten().map(inside);
        let low = all().fold(point(most_x, most_y), |low, at| {
            point(low.x.min(at.x), low.y.min(at.y))
        });
        let high = all().fold(point(0.0, 0.0), |high, at| {
            point(high.x.max(at.x), high.y.max(at.y))
        });
        if low.x > high.x || low.y > high.y {
            return;
        }
        let (left, top) = (low.x.floor(), low.y.floor());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the picture"
        )]
        let mut rasterizer = Rasterizer::new(
            (high.x - left).ceil() as usize + 1,
            (high.y - top).ceil() as usize + 1,
        );
        for outline in outlines {
            let next = outline.iter().cycle().skip(1);
            for (from, to) in outline.iter().zip(next) {
                let (from, to) = (inside(from), inside(to));
                rasterizer.draw_line(
                    point(from.x - left, from.y - top),
                    point(to.x - left, to.y - top),
                );
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "clamped to the picture")]
        let (left, top) = (left as i64, top as i64);
        rasterizer.for_each_pixel_2d(|x, y, coverage| {
            if coverage > 0.0 {
                self.blend(left + i64::from(x), top + i64::from(y), coverage, color);
            }
        });
    }

    fn stroke(&mut self, points: &[Point], width: f32, color: BackendColor) {
        let half = width / 2.0;
        let mut outlines = Vec::with_capacity(points.len() * 2);
        for (from, to) in points.iter().zip(points.iter().skip(1)) {
            let (dx, dy) = (to.x - from.x, to.y - from.y);
            let length = dx.hypot(dy);
            if length <= 0.0 {
                continue;
            }
            let (nx, ny) = (-dy / length * half, dx / length * half);
            outlines.push(vec![
                point(from.x + nx, from.y + ny),
                point(from.x - nx, from.y - ny),
                point(to.x - nx, to.y - ny),
                point(to.x + nx, to.y + ny),
            ]);
        }
        if width > THIN {
            let turns = points.windows(3).filter_map(|three| match three {
                [before, at, after] if turns(*before, *at, *after) => Some(*at),
                _ => None,
            });
            outlines.extend(turns.map(|at| disc(at, half)));
        }
        self.fill(&outlines, color);
    }
}

/// Whether a path turns so sharply there that two segments leave a gap.
fn turns(before: Point, at: Point, after: Point) -> bool {
    const SHARP: f32 = 0.35;
    let (ax, ay) = (at.x - before.x, at.y - before.y);
    let (bx, by) = (after.x - at.x, after.y - at.y);
    (ax * by - ay * bx).atan2(ax * bx + ay * by).abs() > SHARP
}

/// A round outline in the direction of the segments above.
fn disc(centre: Point, radius: f32) -> Vec<Point> {
    let corners = (0..JOINT_CORNERS).map(|corner| {
        let angle = -f32::from(corner) / f32::from(JOINT_CORNERS) * std::f32::consts::TAU;
        point(
            centre.x + radius * angle.cos(),
            centre.y - radius * angle.sin(),
        )
    });
    corners.collect()
}

/// plotters' coordinates in pixels.
fn pixel((x, y): BackendCoord) -> Point {
    #[expect(clippy::cast_precision_loss, reason = "below 2^24")]
    point(x as f32 / STEPS as f32, y as f32 / STEPS as f32)
}

#[expect(clippy::cast_precision_loss, reason = "below 2^24")]
fn width_of<S: BackendStyle>(style: &S) -> f32 {
    style.stroke_width() as f32 / STEPS as f32
}

impl DrawingBackend for &mut Canvas {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.width * STEPS, self.height * STEPS)
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, at: BackendCoord, color: BackendColor) -> Drawn {
        let side = i32::try_from(STEPS).unwrap_or(1);
        self.draw_rect(at, (at.0 + side, at.1 + side), &color, true)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Drawn {
        self.stroke(&[pixel(from), pixel(to)], width_of(style), style.color());
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let (low, high) = (pixel(from), pixel(to));
        let corners = vec![low, point(high.x, low.y), high, point(low.x, high.y)];
        if fill {
            self.fill(&[corners], style.color());
        } else {
            let mut closed = corners;
            closed.push(low);
            self.stroke(&closed, width_of(style), style.color());
        }
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let points: Vec<Point> = path.into_iter().map(pixel).collect();
        self.stroke(&points, width_of(style), style.color());
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        centre: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        #[expect(clippy::cast_precision_loss, reason = "below 2^24")]
        let mut outline = disc(pixel(centre), radius as f32 / STEPS as f32);
        if fill {
            self.fill(&[outline], style.color());
        } else {
            outline.extend(outline.first().copied());
            self.stroke(&outline, width_of(style), style.color());
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        corners: I,
        style: &S,
    ) -> Drawn {
        let outline = corners.into_iter().map(pixel).collect();
        self.fill(&[outline], style.color());
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Drawn {
        #[expect(clippy::cast_possible_truncation, reason = "a size of letters")]
        let size = (style.size() / LINE_PER_EM / f64::from(STEPS)) as f32;
        let Some(face) = Face::new(size, matches!(style.style(), FontStyle::Bold)) else {
            return Ok(());
        };
        let at = pixel(at);
        let left = match style.anchor().h_pos {
            HPos::Left => at.x,
            HPos::Right => at.x - face.width(text),
            HPos::Center => at.x - face.width(text) / 2.0,
        };
        // The same shifts to the base line as in plotters' SVG.
        let base = match style.anchor().v_pos {
            VPos::Top => at.y + 0.76 * size,
            VPos::Center => at.y + 0.27 * size,
            VPos::Bottom => at.y - 0.27 * size,
        };
        for mut glyph in face.glyphs(text) {
            glyph.position.x += left;
            glyph.position.y += base;
            let Some(outline) = face.font().outline_glyph(glyph) else {
                continue;
            };
            let corner = outline.px_bounds().min;
            #[expect(clippy::cast_possible_truncation, reason = "whole pixels")]
            let (x0, y0) = (corner.x as i64, corner.y as i64);
            outline.draw(|x, y, coverage| {
                self.blend(
                    x0 + i64::from(x),
                    y0 + i64::from(y),
                    coverage,
                    style.color(),
                );
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: BackendColor = BackendColor {
        alpha: 1.0,
        rgb: (0, 0, 0),
    };

    fn dark(canvas: &Canvas) -> f64 {
        let dark = canvas.pixels().iter().map(|byte| f64::from(255 - byte));
        dark.sum::<f64>() / 255.0 / 3.0
    }

    fn steps(pixels: i32) -> i32 {
        pixels * i32::try_from(STEPS).unwrap()
    }

    #[test]
    fn areas_are_exact() {
        let mut canvas = Canvas::new(20, 20);
        let half = steps(1) / 2;
        (&mut canvas)
            .draw_rect(
                (steps(2) + half, steps(3)),
                (steps(7), steps(6)),
                &BLACK,
                true,
            )
            .unwrap();
        assert!((dark(&canvas) - 13.5).abs() < 0.1, "{}", dark(&canvas));
    }

    #[test]
    fn joints_leave_no_gap_and_no_hole() {
        let mut canvas = Canvas::new(40, 40);
        let path = [(5, 5), (30, 5), (30, 30), (5, 30), (5, 5)];
        let style = plotters::style::ShapeStyle {
            color: plotters::style::RGBAColor(0, 0, 0, 1.0),
            filled: false,
            stroke_width: 4 * STEPS,
        };
        (&mut canvas)
            .draw_path(path.map(|(x, y)| (steps(x), steps(y))), &style)
            .unwrap();
        // A square ring of 25 by 25, four wide; its outer corners are round but for the first.
        assert!((dark(&canvas) - 400.0).abs() < 8.0, "{}", dark(&canvas));
    }

    #[test]
    fn what_is_outside_is_left_out() {
        let mut canvas = Canvas::new(10, 10);
        (&mut canvas)
            .draw_line((-9000, -50), (9000, -50), &BLACK)
            .unwrap();
        (&mut canvas).draw_pixel((i32::MAX / 2, 4), BLACK).unwrap();
        assert!(dark(&canvas) < 1.0, "{}", dark(&canvas));
    }
}
