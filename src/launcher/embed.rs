//! Python's C interface for starting and stopping an embedded interpreter: the launcher's only `unsafe`.
//!
//! Called by `python.rs` at the beginning and the end of the process, from its only thread.
#![expect(unsafe_code, reason = "pyo3 has no safe interface to PyConfig")]

#[cfg(feature = "abi3")]
compile_error!("the binary embeds one version of Python: build it without the abi3 feature");

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::MaybeUninit;

use pyo3::ffi;

// Pulls the crate in, whose extension module is reached by its C name only.
use molotov as _;

unsafe extern "C" {
    /// The entry point of the extension module, exported by the crate's `python` module.
    fn PyInit__core() -> *mut ffi::PyObject;
}

extern "C" fn initialize_core() -> *mut ffi::PyObject {
    // SAFETY: Python calls this like any module's entry point, with the interpreter running.
    unsafe { PyInit__core() }
}

/// Starts Python with `molotov._core` among its builtin modules. After an error nothing of Python may be used.
pub(crate) fn start(home: Vec<u8>, executable: Vec<u8>) -> Result<(), String> {
    let home = CString::new(home).map_err(|error| error.to_string())?;
    let executable = CString::new(executable).map_err(|error| error.to_string())?;
    // SAFETY: Python does not run yet, as the function demands; the name is static.
    if unsafe { ffi::PyImport_AppendInittab(c"molotov._core".as_ptr(), Some(initialize_core)) } != 0
    {
        return Err("out of memory".to_owned());
    }
    let mut config = MaybeUninit::<ffi::PyConfig>::uninit();
    // SAFETY: the configuration is initialised before anything reads it, the strings outlive the calls that
    // copy them, and it is cleared exactly once, after its last use. One thread, Python not running yet.
    unsafe {
        ffi::PyConfig_InitPythonConfig(config.as_mut_ptr());
        let config = config.assume_init_mut();
        // The arguments are the command's, none of them the interpreter's.
        config.parse_argv = 0;
        let status = configure(config, &home, &executable);
        ffi::PyConfig_Clear(config);
        status
    }
}

/// # Safety
/// `config` is initialised and Python not running.
unsafe fn configure(
    config: &mut ffi::PyConfig,
    home: &CStr,
    executable: &CStr,
) -> Result<(), String> {
    let raw: *mut ffi::PyConfig = config;
    // SAFETY: the fields are strings of this very configuration, as PyConfig_SetBytesString demands.
    unsafe {
        check(ffi::PyConfig_SetBytesString(
            raw,
            &raw mut (*raw).home,
            home.as_ptr(),
        ))?;
        check(ffi::PyConfig_SetBytesString(
            raw,
            &raw mut (*raw).executable,
            executable.as_ptr(),
        ))?;
        check(ffi::Py_InitializeFromConfig(raw))?;
        // pyo3 attaches by itself: leave this thread detached, as it expects.
        ffi::PyEval_SaveThread();
    }
    Ok(())
}

fn check(status: ffi::PyStatus) -> Result<(), String> {
    // SAFETY: a plain reading of the status that was passed by value.
    if unsafe { ffi::PyStatus_Exception(status) } == 0 {
        return Ok(());
    }
    Err(text(status.err_msg).unwrap_or_else(|| format!("exit code {}", status.exitcode)))
}

fn text(message: *const c_char) -> Option<String> {
    if message.is_null() {
        return None;
    }
    // SAFETY: a message of PyStatus that is not null is a static C string.
    let message = unsafe { CStr::from_ptr(message) };
    Some(message.to_string_lossy().into_owned())
}

/// Ends Python as its own executable does: exit handlers, threads, flushing. Returns the exit code.
pub(crate) fn stop(code: u8) -> u8 {
    /// Python's own exit code for output that could not be written.
    const FLUSH_FAILED: u8 = 120;
    // SAFETY: asking is allowed at any time; the thread is attached for Py_FinalizeEx and not used after it.
    let failed: c_int = unsafe {
        if ffi::Py_IsInitialized() == 0 {
            return code;
        }
        ffi::PyGILState_Ensure();
        ffi::Py_FinalizeEx()
    };
    if failed == 0 { code } else { FLUSH_FAILED }
}
