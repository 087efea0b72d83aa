//! The report: one page that shows what gave out first, and why.
//!
//! Reads results and nothing else. A page is made in two steps, so that each can be tested alone: `Run::of` turns the
//! results of a run into a model (texts, figures, thinned series), `html` draws models as one file that needs nothing
//! from outside. Several runs on one page are several models. Called by `python`.
//!
//! | file | owns |
//! |---|---|
//! | `model`, `table` | what a page is made of |
//! | `run` | which sections there are, and in which order |
//! | `opening`, `load`, `levels`, `resources`, `times`, `failures`, `closing` | those sections |
//! | `recording` | what was monitored without a run, as a page shows it |
//! | `thin`, `number` | fewer points; rounding and units |
//! | `html` | markup, escaping, what is embedded |
//! | `bundle` | plotly.js as it is embedded |
//! | `compare` | runs against each other |
//! | `matrix` | sizings of one service side by side |
//! | `picture` | the one-picture summary as PNG and SVG |
//! | `assets/` | the page's own style and script, and its frame |

mod bundle;
mod closing;
pub mod compare;
mod failures;
pub mod html;
mod levels;
mod load;
pub mod matrix;
pub mod model;
mod number;
mod opening;
pub mod picture;
mod recording;
mod resources;
mod run;
pub mod table;
#[cfg(test)]
mod tests;
mod thin;
mod times;

pub use number::Number;
