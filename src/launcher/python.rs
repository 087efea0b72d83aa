//! `molotov-python`, the second stage: starts the embedded Python and runs the command in it.
//!
//! Owns the package that it carries inside itself and the exit code; `embed.rs` has the calls into Python's
//! C interface, `bootstrap.py` what happens in Python. Started by `molotov`, which passes its findings in an
//! environment variable; without that variable it starts the Python it was built for.

mod embed;

use std::env;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::ExitCode;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyModule};

/// One module of the Python package, as packed at build time.
struct Module {
    name: &'static str,
    package: bool,
    file: &'static str,
    source: &'static [u8],
    code: &'static [u8],
}

const PACKAGE: &[Module] = include!(concat!(env!("OUT_DIR"), "/package.rs"));

/// Which Python the packed bytecode is for.
const MAGIC: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/magic"));

/// The import hook and the entry points, in Python.
const BOOTSTRAP: &std::ffi::CStr = {
    const TEXT: &str = concat!(include_str!("bootstrap.py"), "\0");
    match std::ffi::CStr::from_bytes_with_nul(TEXT.as_bytes()) {
        Ok(text) => text,
        Err(_) => c"raise SystemError('the bootstrap has a NUL in it')",
    }
};

fn main() -> ExitCode {
    let launch = env::var_os("MOLOTOV_LAUNCH").map(OsStringExt::into_vec);
    let mut parts = launch
        .as_deref()
        .unwrap_or_default()
        .split(|&byte| byte == b'\n');
    let mut part = |default: &str| match parts.next() {
        Some(text) if !text.is_empty() => text.to_vec(),
        _ => default.as_bytes().to_vec(),
    };
    let home = part(env!("MOLOTOV_PYTHON_HOME"));
    let executable = part(concat!(
        env!("MOLOTOV_PYTHON_HOME"),
        "/bin/python",
        env!("MOLOTOV_PYTHON_VERSION")
    ));
    let library_folder = part("");

    let code = match embed::start(home, executable) {
        Ok(()) => Python::attach(|python| {
            run(python, &library_folder).unwrap_or_else(|error| {
                error.print(python);
                1
            })
        }),
        Err(reason) => {
            #[expect(
                clippy::print_stderr,
                reason = "Python, which prints all else, did not start"
            )]
            {
                eprintln!("molotov: Python does not start: {reason}");
            }
            1
        }
    };
    ExitCode::from(embed::stop(code))
}

/// Runs the bootstrap in a module of its own and returns the exit code.
fn run(python: Python<'_>, library_folder: &[u8]) -> PyResult<u8> {
    let modules = PyDict::new(python);
    for module in PACKAGE {
        let source = PyBytes::new(python, module.source);
        let code = PyBytes::new(python, module.code);
        modules.set_item(module.name, (module.package, module.file, source, code))?;
    }
    let arguments = env::args_os()
        .map(|argument| PyBytes::new(python, argument.as_bytes()))
        .collect::<Vec<_>>();
    PyModule::from_code(
        python,
        BOOTSTRAP,
        c"<molotov>/bootstrap.py",
        c"_molotov_bootstrap",
    )?
    .getattr("main")?
    .call1((
        modules,
        PyBytes::new(python, MAGIC),
        arguments,
        PyBytes::new(python, library_folder),
    ))?
    .extract()
}
