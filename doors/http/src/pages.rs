//! The demo page and the pages of the operator.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use sapwood_net::http::Body;

use crate::door::Site;
use crate::respond;

/// A page that the door has itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    Metrics,
    Health,
    Ready,
    Asset(&'static Asset),
}

/// A file of the demo page, in the binary.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asset {
    name: &'static str,
    media_type: &'static str,
    body: &'static [u8],
}

macro_rules! assets {
    ($($name:literal $media_type:literal;)*) => {
        const ASSETS: &[Asset] = &[$(Asset { name: $name, media_type: $media_type, body: include_bytes!(concat!("../web/", $name)) }),*];
    };
}

assets! {
    "demo.html" "text/html; charset=utf-8";
    "demo.css" "text/css; charset=utf-8";
    "demo.js" "text/javascript; charset=utf-8";
    "demo-live.js" "text/javascript; charset=utf-8";
    "demo-path.js" "text/javascript; charset=utf-8";
    "demo-read.js" "text/javascript; charset=utf-8";
    "demo-rows.js" "text/javascript; charset=utf-8";
    "demo-scan.js" "text/javascript; charset=utf-8";
    "demo-tree.js" "text/javascript; charset=utf-8";
}

/// What the demo page may do: load its own files, and speak with this server.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// The page at a URL's path.
pub(crate) fn find(path: &str, bare_names: bool) -> Option<Page> {
    let name = match path.strip_prefix("/.sapwood/") {
        Some(name) => name,
        None if bare_names => match path {
            "/metrics" | "/healthz" | "/readyz" => path.strip_prefix('/')?,
            _ => return None,
        },
        None => return None,
    };
    match name {
        "metrics" => Some(Page::Metrics),
        "healthz" => Some(Page::Health),
        "readyz" => Some(Page::Ready),
        "demo" => ASSETS.first().map(Page::Asset),
        name => ASSETS
            .iter()
            .find(|asset| asset.name == name)
            .map(Page::Asset),
    }
}

/// The demo page at `/`.
pub(crate) fn demo() -> Response<Body> {
    let mut response = match ASSETS.first() {
        Some(asset) => asset.answer(),
        None => respond::empty(StatusCode::NOT_FOUND),
    };
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

impl Page {
    pub(crate) fn answer(self, site: &Site) -> Response<Body> {
        match self {
            Self::Metrics => fresh(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                (site.metrics_text)().into_bytes(),
            ),
            Self::Health => fresh(
                StatusCode::OK,
                "text/plain; charset=utf-8",
                b"ok\n".to_vec(),
            ),
            Self::Ready if site.core.is_ready() => fresh(
                StatusCode::OK,
                "text/plain; charset=utf-8",
                b"ready\n".to_vec(),
            ),
            Self::Ready => fresh(
                StatusCode::SERVICE_UNAVAILABLE,
                "text/plain; charset=utf-8",
                b"the store takes no writes\n".to_vec(),
            ),
            Self::Asset(asset) => asset.answer(),
        }
    }
}

fn fresh(status: StatusCode, media_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = respond::answer(status, media_type, body);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Asset {
    fn answer(&self) -> Response<Body> {
        let mut response = respond::answer(
            StatusCode::OK,
            self.media_type,
            Bytes::from_static(self.body),
        );
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, POLICY);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_names_can_be_freed() {
        assert_eq!(find("/metrics", true), Some(Page::Metrics));
        assert_eq!(find("/metrics", false), None);
        assert_eq!(find("/.sapwood/metrics", false), Some(Page::Metrics));
        assert_eq!(find("/.sapwood/nothing", true), None);
        assert_eq!(find("/demo", true), None);
    }

    #[test]
    fn every_file_of_the_demo_page_is_there() {
        for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/web")).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let is_page = name.starts_with("demo") && !name.contains(".test.");
            assert!(
                !is_page || find(&format!("/.sapwood/{name}"), true).is_some(),
                "{name}"
            );
        }
    }
}
