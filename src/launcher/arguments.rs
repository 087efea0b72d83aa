//! Takes `--python PATH` out of the command line: the one option that is not Molotov's own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::Error;

/// Splits the arguments into the path of `--python` (the last one wins) and everything else, in order.
pub(crate) fn take_python(
    arguments: impl Iterator<Item = OsString>,
) -> Result<(Option<OsString>, Vec<OsString>), Error> {
    let mut python = None;
    let mut rest = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            rest.push(argument);
            rest.extend(arguments);
            break;
        } else if argument == "--python" {
            python = Some(arguments.next().ok_or(Error::NoPath)?);
        } else if let Some(path) = argument.as_bytes().strip_prefix(b"--python=") {
            python = Some(OsStr::from_bytes(path).to_owned());
        } else {
            rest.push(argument);
        }
    }
    if python.as_ref().is_some_and(|path| path.is_empty()) {
        return Err(Error::NoPath);
    }
    Ok((python, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(line: &str) -> Option<(Option<String>, String)> {
        let (python, rest) = take_python(line.split(' ').map(OsString::from)).ok()?;
        let rest: Vec<_> = rest.iter().map(|part| part.to_str().unwrap()).collect();
        Some((
            python.map(|path| path.into_string().unwrap()),
            rest.join(" "),
        ))
    }

    #[test]
    fn both_spellings_are_taken_out() {
        let expected = Some((Some("/venv".to_owned()), "-c loadtest.py".to_owned()));
        assert_eq!(taken("--python /venv -c loadtest.py"), expected);
        assert_eq!(taken("-c --python=/venv loadtest.py"), expected);
    }

    #[test]
    fn other_arguments_stay() {
        assert_eq!(
            taken("-c -- --python x"),
            Some((None, "-c -- --python x".to_owned()))
        );
        assert_eq!(taken("--pythonic"), Some((None, "--pythonic".to_owned())));
    }

    #[test]
    fn a_path_is_needed() {
        assert_eq!(taken("-c --python"), None);
        assert_eq!(taken("--python="), None);
    }
}
