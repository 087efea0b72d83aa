//! The response's rarely used attributes: made by `molotov._response` when somebody asks.
//!
//! Each is a descriptor without `__set__`, so that an instance's own `__dict__` wins: what is kept there, and
//! what a script sets. A `__getattr__` would do the same, but its mere presence slows every other attribute
//! down, because the interpreter then cannot call methods without binding them first.

use pyo3::prelude::*;
use pyo3::types::PyType;

/// The attributes that `molotov._response.ATTRIBUTES` makes.
const ATTRIBUTES: [&str; 16] = [
    "cookies",
    "links",
    "content",
    "content_disposition",
    "content_length",
    "get_encoding",
    "wait_for_close",
    "connection",
    "request",
    "url_obj",
    "start",
    "_raw_cookie_headers",
    "_request_info",
    "_headers",
    "_raw_headers",
    "_cache",
];

/// One of them.
#[pyclass(frozen, module = "molotov._core")]
struct ColdAttribute(&'static str);

#[pymethods]
impl ColdAttribute {
    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: Option<&Bound<'py, PyAny>>,
        owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = owner;
        match instance {
            None => Ok(slf.clone().into_any()),
            Some(instance) => slf
                .py()
                .import("molotov._response")?
                .call_method1("attribute", (instance, slf.get().0)),
        }
    }
}

/// Gives the response's type its cold attributes, and the name that its error messages have in aiohttp.
pub(crate) fn install(response: &Bound<'_, PyType>) -> PyResult<()> {
    for name in ATTRIBUTES {
        response.setattr(name, Bound::new(response.py(), ColdAttribute(name))?)?;
    }
    // An unqualified name in "'ClientResponse' object has no attribute ...": set again, it loses its module.
    response.setattr("__name__", response.name()?)
}
