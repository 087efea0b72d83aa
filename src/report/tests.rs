//! Pages of small, hostile and empty results.

use super::html::page;
use super::model::Run;
use crate::results::{Meta, Results};

#[test]
fn nothing_is_a_page_too() {
    let results = Results::new(Meta::default());
    let run = Run::of(&results);
    assert_eq!(
        run.verdict.headline,
        "No run ended: there is nothing to tell."
    );
    assert!(page(&results).ends_with("</html>\n"));
}
