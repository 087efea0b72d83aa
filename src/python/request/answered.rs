//! What follows an answer: its cookies, the response made of it, or the redirect it asks for.
//!
//! Owns the rules of redirects for requests that are native from end to end; `molotov._redirect` has those of the rest.

use super::{Job, Method, Place, RequestBody};
use crate::http::codec;
use crate::python::awaitable::{Awaitable, Outcome};
use crate::python::connection::Arrived;
use crate::python::errors;
use crate::python::pool::Key;
use crate::python::response::Response;
use crate::python::urls;
use pyo3::intern;
use pyo3::prelude::*;
use std::sync::Arc;

enum Next {
    Deliver {
        response: Response,
        check_status: bool,
    },
    Follow {
        response: Response,
        location: String,
    },
}

impl Job {
    /// The head of a response is there.
    pub(crate) fn arrived(slf: &Bound<'_, Awaitable>, arrived: Arrived) {
        let py = slf.py();
        let job = slf.get().with_job(py, |job| job.conclude(py, arrived));
        match job {
            None => {}
            Some(Next::Deliver {
                response,
                check_status,
            }) => match Bound::new(py, response) {
                Ok(response) => {
                    if check_status && let Err(error) = Response::check_status(&response) {
                        response.get().leave(py);
                        return Awaitable::resolve(slf, Outcome::Error(error));
                    }
                    Awaitable::resolve_response(slf, response);
                }
                Err(error) => Awaitable::resolve(slf, Outcome::Error(error)),
            },
            Some(Next::Follow { response, location }) => match Bound::new(py, response) {
                Ok(response) => Self::follow(slf, &response, &location),
                Err(error) => Awaitable::resolve(slf, Outcome::Error(error)),
            },
        }
    }

    /// Turns what arrived into a response, and decides whether it is the last one.
    fn conclude(&mut self, py: Python<'_>, arrived: Arrived) -> Next {
        let head = arrived.head;
        let session = self.session.get();
        if head.set_cookie && !self.options.bare {
            session.take_cookies(py, &self.url.target, &arrived.raw);
        }
        let added = self.added(py);
        let redirect = self.options.follow && matches!(head.status, 301 | 302 | 303 | 307 | 308);
        let location = redirect.then(|| {
            codec::header(&arrived.raw, "location")
                .filter(|value| !value.is_empty())
                .or_else(|| codec::header(&arrived.raw, "uri"))
        });
        let location = location
            .flatten()
            .map(|value| String::from_utf8_lossy(value).into_owned());
        let response = Response::new(
            self.session.clone_ref(py),
            Arc::clone(&self.engine),
            self.method.clone(),
            Arc::clone(&self.url),
            if self.headers.is_empty() {
                Vec::new()
            } else {
                self.headers.clone()
            },
            added,
            self.fragment.clone(),
            self.history
                .iter()
                .map(|earlier| earlier.clone_ref(py))
                .collect(),
            arrived,
        );
        match location {
            Some(location) => Next::Follow { response, location },
            None => Next::Deliver {
                response,
                check_status: self.options.raise_for_status && head.status >= 400,
            },
        }
    }

    /// Follows a redirect, with aiohttp's rules for the method, the body and the credentials.
    pub(super) fn follow(
        slf: &Bound<'_, Awaitable>,
        response: &Bound<'_, Response>,
        location: &str,
    ) {
        let py = slf.py();
        let current = response.get().url_text().to_owned();
        let next = Self::redirect_target(py, &current, location);
        let followed = slf.get().with_job(py, |job| -> PyResult<()> {
            job.history.push(response.clone().unbind());
            if job.history.len() >= job.options.max_redirects {
                let history: Vec<_> = job
                    .history
                    .iter()
                    .map(|earlier| earlier.clone_ref(py))
                    .collect();
                return Err(errors::too_many_redirects(py, &history));
            }
            let (text, credentials) = next?;
            let (text, fragment) = text.split_once('#').unwrap_or((&text, ""));
            job.fragment = (!fragment.is_empty()).then(|| fragment.into());
            let url = urls::encoded(py, &job.engine, text)
                .map_err(|error| errors::of(py, error, &job.url, &job.method, None))?;
            let status = response.get().status_code();
            let becomes_get = (status == 303 && !job.method.is_head())
                || (matches!(status, 301 | 302) && job.method.as_str() == "POST");
            if becomes_get {
                job.method = Method::known("GET");
                job.body = RequestBody::None;
                job.content_type = None;
                // The script's own Content-Type stays, as with aiohttp; what frames a body must not.
                job.headers.retain(|(name, _)| {
                    !["content-length", "transfer-encoding"]
                        .iter()
                        .any(|dropped| name.eq_ignore_ascii_case(dropped))
                });
            }
            if url.origin != job.url.origin {
                let (old, new) = (&job.url.target, &url.target);
                let upgrade = old.host == new.host && !old.tls && new.tls;
                if !upgrade {
                    job.authorization = None;
                    job.headers.retain(|(name, _)| {
                        !["authorization", "cookie", "proxy-authorization"]
                            .iter()
                            .any(|secret| name.eq_ignore_ascii_case(secret))
                    });
                    job.elsewhere = true;
                }
                let secure = url.target.tls;
                job.key = Key {
                    origin: url.origin,
                    tls: if secure { job.key.tls.max(1) } else { 0 },
                    route: job.key.route,
                };
            }
            if credentials.is_some() {
                job.authorization = credentials;
            }
            job.url = url;
            job.place = Place::Unsent;
            job.resent = false;
            Ok(())
        });
        response.get().leave(py);
        match followed {
            None => {}
            Some(Err(error)) => Awaitable::resolve(slf, Outcome::Error(error)),
            Some(Ok(())) => Self::begin_again(slf),
        }
    }

    /// The URL to go to, and the value of `Authorization` when it names a user.
    fn redirect_target(
        py: Python<'_>,
        current: &str,
        location: &str,
    ) -> PyResult<(String, Option<String>)> {
        let target = py
            .import("molotov._redirect")?
            .call_method1(intern!(py, "next_url"), (current, location))?;
        target.extract()
    }
}
