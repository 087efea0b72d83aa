//! The native cookie jar as the Python half of the session sees it.

use super::ffi::GilCell;
use crate::http::{codec, cookie};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::time::SystemTime;

/// A session's own cookies: RFC 6265 with the rules of `aiohttp.CookieJar()`.
#[pyclass(frozen, module = "molotov._core")]
pub(crate) struct CookieJar(GilCell<cookie::CookieJar>);

impl CookieJar {
    /// The `Cookie` header for a request, if any.
    pub(crate) fn header(
        &self,
        py: Python<'_>,
        host: &str,
        path: &str,
        secure: bool,
    ) -> Option<String> {
        let mut jar = self.0.borrow_mut(py);
        if jar.is_empty() {
            return None;
        }
        jar.header_for(host, path, secure, SystemTime::now())
    }

    pub(crate) fn is_empty(&self, py: Python<'_>) -> bool {
        self.0.borrow(py).is_empty()
    }

    /// Takes the cookies of one response with that head.
    pub(crate) fn take(&self, py: Python<'_>, host: &str, path: &str, head: &[u8]) {
        let values = codec::header_values(head, "set-cookie");
        let mut jar = self.0.borrow_mut(py);
        jar.update_from(host, path, values, SystemTime::now());
    }
}

#[pymethods]
impl CookieJar {
    #[new]
    fn new() -> Self {
        Self(GilCell::new(cookie::CookieJar::new(false)))
    }

    /// Adds a cookie that every request carries.
    fn insert(&self, py: Python<'_>, name: &str, value: &str) {
        self.0.borrow_mut(py).insert(name, value);
    }

    /// Takes a `Set-Cookie` header of a response.
    fn update(&self, py: Python<'_>, host: &str, path: &str, header: &str) {
        let mut jar = self.0.borrow_mut(py);
        jar.update(host, path, header, SystemTime::now());
    }

    /// The `Cookie` header for a request, or `None`.
    fn header_for(&self, py: Python<'_>, host: &str, path: &str, secure: bool) -> Option<String> {
        self.header(py, host, path, secure)
    }

    /// Forgets everything.
    fn clear(&self, py: Python<'_>) {
        self.0.borrow_mut(py).clear();
    }

    /// Every cookie: name, value as sent, attributes by their lower-case names.
    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for cookie in self.0.borrow(py).iter() {
            let attributes = PyDict::new(py);
            attributes.set_item("domain", &cookie.domain)?;
            attributes.set_item("path", &cookie.path)?;
            attributes.set_item("secure", cookie.secure)?;
            // What the jar made of the domain and the path counts, not how the server wrote them.
            let others = cookie
                .attributes
                .iter()
                .filter(|(name, _)| !matches!(*name, "domain" | "path" | "secure"));
            for (name, value) in others {
                attributes.set_item(*name, value)?;
            }
            list.append((&cookie.name, &cookie.coded_value, attributes))?;
        }
        Ok(list)
    }
}
