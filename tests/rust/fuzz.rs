//! Replays the corpus of the fuzz targets: docs/fuzzing.md. What coverage-guided fuzzing found worth keeping is
//! checked by every `cargo test`, at the cost of a second.

use std::{fs, panic, path::Path};

#[path = "../fuzz/checks/mod.rs"]
mod checks;

/// What a corpus may grow to, so that the tree stays small.
const MOST_FILES: usize = 80;
const MOST_BYTES: u64 = 50_000;

#[test]
fn every_input_of_the_corpus_holds() {
    for (name, check) in checks::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fuzz/corpus")
            .join(name);
        let files: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(
            (5..=MOST_FILES).contains(&files.len()),
            "{name}: {} files",
            files.len()
        );
        let size: u64 = files
            .iter()
            .map(|file| fs::metadata(file).unwrap().len())
            .sum();
        assert!(size <= MOST_BYTES, "{name}: {size} bytes");
        for file in files {
            let input = fs::read(&file).unwrap();
            let outcome = panic::catch_unwind(|| check(&input));
            assert!(outcome.is_ok(), "{} fails", file.display());
        }
    }
}

#[test]
fn hardly_anything_holds_as_well() {
    for (_, check) in checks::ALL {
        for first in 0..=255 {
            check(&[first]);
            check(&[first, 7, 200, 3, first, b'\r', b'\n']);
        }
        check(b"");
    }
}
