//! The embedded fonts: Noto Sans, regular and bold.
//!
//! Owns measuring, wrapping and cutting texts, and what is no text at all: control characters, which would change the
//! direction of their neighbours or break a line. Sizes are in pixels per em. Called by `layout`, `plot` and `canvas`.

use std::sync::LazyLock;

use ab_glyph::{Font as _, FontRef, Glyph, PxScale, ScaleFont as _, point};

static REGULAR: LazyLock<Option<FontRef<'static>>> =
    LazyLock::new(|| FontRef::try_from_slice(notosans::REGULAR_TTF).ok());
static BOLD: LazyLock<Option<FontRef<'static>>> =
    LazyLock::new(|| FontRef::try_from_slice(notosans::BOLD_TTF).ok());

/// The family in an SVG, with what a viewer may take instead.
pub(super) const FAMILY: &str = "Noto Sans, DejaVu Sans, Helvetica, Arial, sans-serif";

/// What stands for the rest of a text that was cut.
const ELLIPSIS: char = '…';

/// One of the two fonts at a size.
#[derive(Clone, Copy)]
pub(super) struct Face {
    font: &'static FontRef<'static>,
    scale: PxScale,
}

impl Face {
    /// The font at this size in pixels per em; `None` only when the embedded file is damaged.
    pub(super) fn new(size: f32, bold: bool) -> Option<Self> {
        let font = if bold {
            BOLD.as_ref()
        } else {
            REGULAR.as_ref()
        }?;
        // A scale of ab_glyph is from the lowest to the highest point of a font, not an em.
        let per_em = font.units_per_em()?;
        let scale = PxScale::from(size * font.height_unscaled() / per_em);
        Some(Self { font, scale })
    }

    /// The font itself, for outlines.
    pub(super) fn font(&self) -> &'static FontRef<'static> {
        self.font
    }

    /// The glyphs of a text that begins at the origin of the base line.
    pub(super) fn glyphs(&self, text: &str) -> Vec<Glyph> {
        let scaled = self.font.as_scaled(self.scale);
        let mut at = 0.0;
        let mut previous = None;
        let mut glyphs = Vec::new();
        for c in text.chars() {
            let id = scaled.glyph_id(c);
            if let Some(previous) = previous {
                at += scaled.kern(previous, id);
            }
            glyphs.push(id.with_scale_and_position(self.scale, point(at, 0.0)));
            at += scaled.h_advance(id);
            previous = Some(id);
        }
        glyphs
    }

    /// How wide a text is, in pixels.
    pub(super) fn width(&self, text: &str) -> f32 {
        let scaled = self.font.as_scaled(self.scale);
        self.glyphs(text)
            .last()
            .map_or(0.0, |last| last.position.x + scaled.h_advance(last.id))
    }

    /// The text, cut where it would be wider than that.
    pub(super) fn cut(&self, text: &str, width: f32) -> String {
        let text = plain(text);
        if self.width(&text) <= width {
            return text;
        }
        let mut kept = String::new();
        for c in text.chars() {
            kept.push(c);
            if self.width(&format!("{kept}{ELLIPSIS}")) > width {
                kept.pop();
                break;
            }
        }
        kept.truncate(kept.trim_end().len());
        kept.push(ELLIPSIS);
        kept
    }

    /// The text in lines of at most that width, of which there are at most so many; the last one is cut.
    pub(super) fn wrap(&self, text: &str, width: f32, lines: usize) -> Vec<String> {
        let text = plain(text);
        let mut words = text.split(' ').filter(|word| !word.is_empty()).peekable();
        let mut wrapped = Vec::new();
        while wrapped.len() < lines && words.peek().is_some() {
            let mut line = String::new();
            let is_last = wrapped.len() + 1 == lines;
            while let Some(word) = words.peek() {
                let longer = if line.is_empty() {
                    (*word).to_owned()
                } else {
                    format!("{line} {word}")
                };
                if !is_last && !line.is_empty() && self.width(&longer) > width {
                    break;
                }
                line = longer;
                words.next();
                if is_last && self.width(&line) > width {
                    break;
                }
            }
            wrapped.push(self.cut(&line, width));
        }
        wrapped
    }
}

/// The text as the picture can show it: on one line, no longer than anybody reads, without control characters and
/// without those that change the direction of what follows (Unicode's bidirectional formatting characters).
fn plain(text: &str) -> String {
    const LONGEST: usize = 1000;
    text.chars()
        .take(LONGEST)
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| {
            !c.is_control()
                && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face() -> Face {
        Face::new(12.0, false).unwrap()
    }

    #[test]
    fn widths_grow_with_texts_and_sizes() {
        assert!(face().width("") < f32::EPSILON);
        assert!(face().width("ab") > face().width("a"));
        let twice = Face::new(24.0, false).unwrap().width("throughput");
        assert!((twice / face().width("throughput") - 2.0).abs() < 1e-3);
        assert!(Face::new(12.0, true).unwrap().width("mmm") > face().width("mmm"));
        // All digits have the same width, so that columns of numbers line up.
        assert!((face().width("1111") - face().width("8888")).abs() < 1e-3);
    }

    #[test]
    fn what_is_too_wide_is_cut() {
        assert_eq!(face().cut("short", 500.0), "short");
        let cut = face().cut(&"long ".repeat(2000), 100.0);
        assert!(cut.ends_with('…') && face().width(&cut) <= 100.0, "{cut}");
        assert_eq!(face().cut("a\n\u{202e}b\u{7}", 500.0), "a b");
    }

    #[test]
    fn lines_are_wrapped_at_words() {
        let lines = face().wrap("one two three four five six", 60.0, 9);
        assert!(lines.len() > 2);
        assert!(
            lines.iter().all(|line| face().width(line) <= 60.0),
            "{lines:?}"
        );
        assert_eq!(lines.join(" "), "one two three four five six");
        let lines = face().wrap("one two three four five six", 60.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('…'), "{lines:?}");
        let lines = face().wrap(&"x".repeat(5000), 60.0, 2);
        assert!(
            lines.len() == 1 && face().width(&lines[0]) <= 60.0,
            "{lines:?}"
        );
        assert!(face().wrap("", 60.0, 2).is_empty());
    }
}
