//! The checks as a crate, for the fuzz targets.

#[path = "mod.rs"]
mod checks;

/// Runs the check called `name`; the targets' only line.
pub fn check(name: &str, input: &[u8]) {
    let (_, check) = checks::ALL
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a known check");
    check(input);
}
