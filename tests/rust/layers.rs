//! Holds every `use crate::` and `crate::` path against the direction that dependencies may point in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What each module may use besides itself. `python` and the binaries are the composition roots.
const MAY_USE: &[(&str, &[&str])] = &[
    ("http", &[]),
    ("metrics", &[]),
    ("monitor", &[]),
    ("schedule", &[]),
    ("engine", &["metrics"]),
    ("sizing", &["metrics"]),
    ("verdict", &["monitor"]),
    ("results", &["metrics", "monitor", "sizing", "verdict"]),
    (
        "autosizer",
        &["aws", "monitor", "results", "sizing", "verdict"],
    ),
    ("aws", &[]),
    (
        "report",
        &["metrics", "monitor", "results", "sizing", "verdict"],
    ),
    (
        "python",
        &[
            "autosizer",
            "engine",
            "http",
            "metrics",
            "monitor",
            "report",
            "results",
            "schedule",
            "sizing",
            "verdict",
        ],
    ),
    ("launcher", &["python"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// The modules that a line names by `crate::module`, in a braced list too.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or_default();
    code.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => list.split(',').map(first_word).collect::<Vec<_>>(),
            None => vec![first_word(rest)],
        })
}

fn first_word(text: &str) -> &str {
    text.trim()
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .unwrap_or_default()
}

#[test]
fn dependencies_point_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules: Vec<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    let mut files = Vec::new();
    sources(&root, &mut files).unwrap();
    let mut wrong = Vec::new();
    for file in &files {
        let relative = file.strip_prefix(&root).unwrap();
        let owner = relative
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        let Some((_, allowed)) = MAY_USE.iter().find(|(module, _)| *module == owner) else {
            continue;
        };
        for (number, line) in fs::read_to_string(file).unwrap().lines().enumerate() {
            for used in named(line).filter(|used| modules.contains(used)) {
                if used != owner && !allowed.contains(&used) {
                    wrong.push(format!(
                        "{}:{}: {owner} uses {used}",
                        relative.display(),
                        number + 1
                    ));
                }
            }
            let outside_python = !matches!(owner, "python" | "launcher");
            if outside_python && line.split("//").next().unwrap_or_default().contains("pyo3") {
                wrong.push(format!(
                    "{}:{}: {owner} uses pyo3",
                    relative.display(),
                    number + 1
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_is_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(root).unwrap() {
        let name = entry
            .unwrap()
            .path()
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let root_file = ["lib", "main"].contains(&name.as_str());
        assert!(
            root_file || MAY_USE.iter().any(|(module, _)| *module == name),
            "{name} is not in the table"
        );
    }
}

#[test]
fn a_braced_list_names_every_module() {
    assert_eq!(
        named("use crate::{http, metrics::Recorder};").collect::<Vec<_>>(),
        ["http", "metrics"]
    );
    assert_eq!(
        named("let x = crate::engine::shared::Slot; // crate::python").collect::<Vec<_>>(),
        ["engine"]
    );
}
