//! JSON between Python objects and bytes, in Rust where the result is the same as the standard
//! library's, through the standard library where it might differ.

use jiter::{PythonParse, StringCacheMode};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use std::io::Write;

/// As deep as this module goes by itself; deeper, and circular, structures are the library's.
const MAX_DEPTH: u32 = 64;

/// The object that `text` stands for. `None` when the standard library should decide (errors, odd
/// values): it has the exceptions that scripts know.
pub(crate) fn loads<'py>(py: Python<'py>, text: &[u8]) -> Option<Bound<'py, PyAny>> {
    let parse = PythonParse {
        cache_mode: StringCacheMode::Keys,
        ..PythonParse::default()
    };
    parse.python_parse(py, text).ok()
}

/// What `json.dumps(value).encode()` gives.
pub(crate) fn dumps(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut out = Vec::with_capacity(256);
    if write_value(value, &mut out, 0)? {
        return Ok(out);
    }
    let py = value.py();
    let text = py
        .import("json")?
        .call_method1(intern!(py, "dumps"), (value,))?;
    Ok(text.extract::<String>()?.into_bytes())
}

/// False when the value is not one of the plain types.
fn write_value(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: u32) -> PyResult<bool> {
    if depth > MAX_DEPTH {
        return Ok(false);
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        return Ok(write_string(text, out));
    }
    if let Ok(dict) = value.cast_exact::<PyDict>() {
        out.push(b'{');
        for (index, (key, item)) in dict.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            let Ok(key) = key.cast_exact::<PyString>() else {
                return Ok(false);
            };
            if !write_string(key, out) {
                return Ok(false);
            }
            out.extend_from_slice(b": ");
            if !write_value(&item, out, depth + 1)? {
                return Ok(false);
            }
        }
        out.push(b'}');
        return Ok(true);
    }
    if let Ok(list) = value.cast_exact::<PyList>() {
        return write_items(list.iter(), out, depth);
    }
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        return write_items(tuple.iter(), out, depth);
    }
    if value.is_none() {
        out.extend_from_slice(b"null");
    } else if let Ok(flag) = value.cast_exact::<PyBool>() {
        out.extend_from_slice(if flag.is_true() { b"true" } else { b"false" });
    } else if value.is_exact_instance_of::<PyInt>() {
        match value.extract::<i64>() {
            // Writing to a vector cannot fail.
            Ok(number) => drop(write!(out, "{number}")),
            Err(_) => return Ok(false),
        }
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        if !number.value().is_finite() {
            return Ok(false);
        }
        // Python's shortest representation differs from Rust's in its exponents.
        out.extend_from_slice(number.repr()?.to_str()?.as_bytes());
    } else {
        return Ok(false);
    }
    Ok(true)
}

fn write_items<'py>(
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    out: &mut Vec<u8>,
    depth: u32,
) -> PyResult<bool> {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        if !write_value(&item, out, depth + 1)? {
            return Ok(false);
        }
    }
    out.push(b']');
    Ok(true)
}

/// False for lone surrogates, which have no UTF-8 form.
fn write_string(text: &Bound<'_, PyString>, out: &mut Vec<u8>) -> bool {
    let Ok(text) = text.to_str() else {
        return false;
    };
    out.push(b'"');
    let mut plain_from = 0;
    let bytes = text.as_bytes();
    for (index, character) in text.char_indices() {
        let escape: &[u8] = match character {
            '"' => b"\\\"",
            '\\' => b"\\\\",
            '\n' => b"\\n",
            '\r' => b"\\r",
            '\t' => b"\\t",
            '\u{8}' => b"\\b",
            '\u{c}' => b"\\f",
            ' '..='~' => continue,
            _ => b"",
        };
        out.extend_from_slice(bytes.get(plain_from..index).unwrap_or_default());
        plain_from = index + character.len_utf8();
        if escape.is_empty() {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.extend_from_slice(escape);
        }
    }
    out.extend_from_slice(bytes.get(plain_from..).unwrap_or_default());
    out.push(b'"');
    true
}
