//! The files of the page, embedded: it needs no network and no folder beside the binary.

use axum::http::header;
use axum::response::{IntoResponse, Response};

macro_rules! embedded {
    ($($name:literal),* $(,)?) => { &[$(($name, include_bytes!(concat!("assets/", $name)))),*] };
}

/// Every file below `assets/` by its name.
const FILES: &[(&str, &[u8])] = embedded![
    "base.css",
    "chart.js",
    "charts.js",
    "dom.js",
    "format.js",
    "graph.js",
    "icon.svg",
    "index.html",
    "language.js",
    "layout.js",
    "live.js",
    "main.js",
    "pipeline.css",
    "pipeline.js",
    "settings.js",
    "shop.css",
    "shop.js",
    "sql.js",
    "texts.js",
    "theme.js",
    "uPlot.LICENSE",
    "uPlot.iife.min.js",
    "uPlot.min.css",
];

/// The file of that name, as the answer to a request.
pub fn answer(name: &str) -> Option<Response> {
    let (_, bytes) = FILES.iter().find(|(known, _)| *known == name)?;
    // A newer binary brings newer files under the same names.
    let headers = [(header::CONTENT_TYPE, content_type(name)), (header::CACHE_CONTROL, "no-cache")];
    Some((headers, *bytes).into_response())
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page/assets");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.collect::<BTreeSet<_>>(), FILES.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn a_file_comes_with_its_type_and_others_do_not_come() {
        let page = answer("index.html").unwrap();
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(content_type("uPlot.LICENSE"), "text/plain; charset=utf-8");
        assert!(answer("../mod.rs").is_none());
    }
}
