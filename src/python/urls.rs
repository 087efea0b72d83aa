//! URLs as scripts write them, parsed once each.
//!
//! A URL that needs no normalisation is parsed here; for any other yarl decides, so that what goes out
//! is what aiohttp would send. What even the native path cannot express (user info, fragments) is
//! answered with `None`: the Python half of the session takes it.

use super::event_loop::Engine;
use super::ffi::GilCell;
use crate::http::head_cache::HeadCache;
use crate::http::target::{self, Target};
use crate::metrics::{Id, Recorder};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A load test may make up a URL for every request: the cache starts anew when it is full.
const CACHED_URLS: usize = 4096;

/// One distinct URL.
pub(crate) struct UrlEntry {
    pub(crate) target: Target,
    pub(crate) text: Box<str>,
    /// Number of the origin (scheme, host, port), the same for all its URLs on one engine.
    pub(crate) origin: u32,
    names: GilCell<Vec<(Box<str>, Id)>>,
    /// The head of the last response.
    pub(crate) heads: GilCell<HeadCache>,
}

impl UrlEntry {
    /// Under which name the recorder counts a request for it.
    #[inline]
    pub(crate) fn name(&self, py: Python<'_>, method: &str, recorder: &mut Recorder) -> Id {
        let mut names = self.names.borrow_mut(py);
        if let Some((_, id)) = names.iter().find(|(known, _)| **known == *method) {
            return *id;
        }
        let path = format!("{}{}", self.target.authority, self.target.path_and_query);
        let id = recorder.request_id(method, &path);
        names.push((method.into(), id));
        id
    }
}

/// The URLs and origins of one engine.
#[derive(Default)]
pub(crate) struct UrlCache {
    entries: FxHashMap<Box<str>, Arc<UrlEntry>>,
    origins: FxHashMap<(bool, String, u16), u32>,
}

impl UrlCache {
    fn insert(&mut self, key: &str, text: &str, target: Target) -> Arc<UrlEntry> {
        let count = u32::try_from(self.origins.len()).unwrap_or(u32::MAX);
        let origin = *self
            .origins
            .entry((target.tls, target.host.clone(), target.port))
            .or_insert(count);
        let entry = Arc::new(UrlEntry {
            target,
            text: text.into(),
            origin,
            names: GilCell::default(),
            heads: GilCell::default(),
        });
        if self.entries.len() >= CACHED_URLS {
            self.entries.clear();
        }
        self.entries.insert(key.into(), Arc::clone(&entry));
        entry
    }
}

/// The entry of a URL that is encoded already.
pub(crate) fn encoded(
    py: Python<'_>,
    engine: &Engine,
    text: &str,
) -> Result<Arc<UrlEntry>, crate::http::error::Error> {
    if let Some(entry) = engine.urls.borrow(py).entries.get(text) {
        return Ok(Arc::clone(entry));
    }
    let target = match target::parse_simple(text) {
        Some(target) => target,
        None => target::parse_encoded(text)?,
    };
    Ok(engine.urls.borrow_mut(py).insert(text, text, target))
}

/// The entry of the URL that a script passed, a string or a `yarl.URL`.
#[inline]
pub(crate) fn lookup(engine: &Engine, url: &Bound<'_, PyAny>) -> PyResult<Option<Arc<UrlEntry>>> {
    let py = url.py();
    let Ok(text) = url.cast_exact::<PyString>() else {
        return lookup_object(engine, url);
    };
    let Ok(text) = text.to_str() else {
        return Ok(None);
    };
    if let Some(entry) = engine.urls.borrow(py).entries.get(text) {
        return Ok(Some(Arc::clone(entry)));
    }
    if let Some(target) = target::parse_simple(text) {
        return Ok(Some(engine.urls.borrow_mut(py).insert(text, text, target)));
    }
    // A URL that yarl refuses is the slow path's to report.
    let Ok(url) = py.import("yarl")?.getattr("URL")?.call1((text,)) else {
        return Ok(None);
    };
    let Some(encoded) = plain_text(&url)? else {
        return Ok(None);
    };
    let Ok(target) = target::parse_encoded(&encoded) else {
        return Ok(None);
    };
    Ok(Some(
        engine.urls.borrow_mut(py).insert(text, &encoded, target),
    ))
}

/// The entry of a URL and the `params=` that go with it; yarl puts them together.
#[inline]
pub(crate) fn lookup_with(
    engine: &Engine,
    url: &Bound<'_, PyAny>,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<Option<Arc<UrlEntry>>> {
    let py = url.py();
    let params = match keywords {
        None => None,
        Some(keywords) => keywords.get_item(intern!(py, "params"))?,
    };
    match params {
        Some(params) if params.is_truthy()? => {
            // What yarl refuses, or is too old to do, is the slow path's to report.
            let extended = py
                .import("yarl")
                .and_then(|yarl| yarl.getattr("URL")?.call1((url,)))
                .and_then(|url| url.call_method1(intern!(py, "extend_query"), (params,)));
            extended.map_or(Ok(None), |url| lookup_object(engine, &url))
        }
        _ => lookup(engine, url),
    }
}

fn lookup_object(engine: &Engine, url: &Bound<'_, PyAny>) -> PyResult<Option<Arc<UrlEntry>>> {
    if url.get_type().name()? != "URL" {
        return Ok(None);
    }
    let Some(text) = plain_text(url)? else {
        return Ok(None);
    };
    Ok(encoded(url.py(), engine, &text).ok())
}

/// The text of an absolute `yarl.URL` without user info and fragment.
fn plain_text(url: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let py = url.py();
    let none = |name| -> PyResult<bool> { Ok(url.getattr(name)?.is_none()) };
    let plain = none(intern!(py, "raw_user"))?
        && none(intern!(py, "raw_password"))?
        && url
            .getattr(intern!(py, "raw_fragment"))?
            .is_truthy()
            .map(|any| !any)?;
    if plain {
        url.str().map(|text| Some(text.to_string()))
    } else {
        Ok(None)
    }
}
