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
//! | `thin`, `number` | fewer points; rounding and units |
//! | `html` | markup, escaping, what is embedded |
//! | `bundle` | plotly.js as it is embedded |
//! | `assets/` | the page's own style and script, and its frame |

mod bundle;
mod closing;
mod failures;
pub mod html;
mod levels;
mod load;
pub mod model;
mod number;
mod opening;
mod resources;
mod run;
pub mod table;
#[cfg(test)]
mod tests;
mod thin;
mod times;

pub use number::Number;
