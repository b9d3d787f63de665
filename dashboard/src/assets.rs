//! The page: files that are part of the program.

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::answer::{self, Refusal};

/// Asked for again each time, answered by 304 while it is the same: a new version of the program shows at once.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

const INDEX: &str = "index.html";

/// Name and content of each file.
const FILES: &[(&str, &[u8])] = &[
    (INDEX, include_bytes!("../assets/index.html")),
    ("access.js", include_bytes!("../assets/access.js")),
    ("api.js", include_bytes!("../assets/api.js")),
    ("app.css", include_bytes!("../assets/app.css")),
    ("app.js", include_bytes!("../assets/app.js")),
    ("details.js", include_bytes!("../assets/details.js")),
    ("dom.js", include_bytes!("../assets/dom.js")),
    ("events.js", include_bytes!("../assets/events.js")),
    ("format.js", include_bytes!("../assets/format.js")),
    ("history.js", include_bytes!("../assets/history.js")),
    ("lists.js", include_bytes!("../assets/lists.js")),
    ("loop.js", include_bytes!("../assets/loop.js")),
    ("overview.js", include_bytes!("../assets/overview.js")),
    ("plots.js", include_bytes!("../assets/plots.js")),
    ("sessions.js", include_bytes!("../assets/sessions.js")),
    ("table.js", include_bytes!("../assets/table.js")),
    ("theme.js", include_bytes!("../assets/theme.js")),
    ("uplot.css", include_bytes!("../assets/uplot.css")),
    ("uplot.js", include_bytes!("../assets/uplot.js")),
];

pub(crate) struct Assets {
    files: Vec<Asset>,
}

pub(crate) struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    tag: HeaderValue,
}

impl Assets {
    pub(crate) fn new() -> Self {
        let files = FILES.iter().map(|&(name, bytes)| Asset {
            name,
            kind: kind(name),
            bytes,
            tag: tag(bytes),
        });
        Assets {
            files: files.collect(),
        }
    }

    /// The page itself.
    pub(crate) fn index(&self) -> Option<&Asset> {
        self.files.iter().find(|file| file.name == INDEX)
    }

    /// One of the files that the page asks for.
    pub(crate) fn file(&self, name: &str) -> Option<&Asset> {
        let mut files = self.files.iter();
        files.find(|file| file.name == name && name != INDEX)
    }
}

impl Asset {
    /// The file, or only that it is still the same.
    pub(crate) fn answer(&self, request: &HeaderMap) -> Response {
        let known = request.get_all(IF_NONE_MATCH).iter();
        let is_known = known
            .filter_map(|field| field.to_str().ok())
            .flat_map(|field| field.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == "*" || tag.as_bytes() == self.tag.as_bytes());
        let mut response = Response::new(match is_known {
            true => Body::empty(),
            false => Body::from(Bytes::from_static(self.bytes)),
        });
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CACHE_CONTROL, NO_CACHE);
        headers.insert(ETAG, self.tag.clone());
        response
    }

    /// The page as it has to be where its relative URLs would miss the last segment of its path.
    pub(crate) fn answer_below(&self, segment: &str) -> Response {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
        let page = std::str::from_utf8(self.bytes).unwrap_or_default();
        if !segment.bytes().all(is_plain) {
            let text = "the path has characters that a page cannot name";
            return Refusal::not_found(text).into_response();
        }
        let mut response = answer::answer(StatusCode::OK, self.kind, below(page, segment));
        response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
        response
    }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        // Everything else is a script, which a test checks.
        _ => "text/javascript; charset=utf-8",
    }
}

/// Lets the relative URLs of a page lead below a segment.
fn below(page: &str, segment: &str) -> String {
    let mut moved = String::with_capacity(page.len() + 1024);
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("=\"") {
        moved.push_str(before);
        moved.push_str("=\"");
        let is_url = before.ends_with("href") || before.ends_with("src");
        // A fragment is of the page, and `data:` of nowhere.
        if is_url && !after.starts_with(['#', '/']) && !after.starts_with("data:") {
            moved.push_str(segment);
            moved.push('/');
        }
        rest = after;
    }
    moved.push_str(rest);
    moved
}

/// A tag that changes with the content.
fn tag(bytes: &[u8]) -> HeaderValue {
    let hash = digest(&SHA256, bytes);
    let hex: String = hash
        .as_ref()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // Quotes and hexadecimal digits are always a header's value.
    HeaderValue::from_str(&format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_file_of_the_page_is_part_of_the_program() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with("LICENSE")).collect();
        let mut known: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
        let types = ["html", "css", "js"];
        let ending = |name: &&str| name.rsplit_once('.').unwrap().1.to_owned();
        assert!(known.iter().all(|name| types.contains(&&*ending(name))));
    }

    #[test]
    fn relative_urls_of_the_page_are_moved_and_others_stay() {
        let page = concat!(
            r##"<a href="#top"><link href="data:x"><script src="assets/a.js"></script>"##,
            r##"<a href="metrics" class="src"><a href="/root">"##,
        );
        let moved = concat!(
            r##"<a href="#top"><link href="data:x"><script src="d/assets/a.js"></script>"##,
            r##"<a href="d/metrics" class="src"><a href="/root">"##,
        );
        assert_eq!(below(page, "d"), moved);
    }
}
