//! `netsys report`: results of `netsys bench` as one page that needs nothing else, no script either.
//!
//! - [`series`]: which results belong together, and what they are called.
//! - [`page`]: the page with its tables; [`text`]: how texts of others get into it.
//! - [`plot`]: drawings in SVG.

mod page;
mod plot;
mod series;
mod text;

use std::path::Path;

use self::series::Group;
use crate::args::ReportArgs;
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;
use crate::results::read;

/// The most results on a page: each may have three drawings.
const RESULTS_MAX: usize = 1_000;

pub(crate) fn run(args: &ReportArgs, output: Output) -> Result<ExitStatus, Failure> {
    let mut files = Vec::new();
    let mut count = 0;
    for path in &args.files {
        let results =
            read::file(path).map_err(|text| failed(format_args!("{}: {text}", path.display())))?;
        count += results.len();
        if count > RESULTS_MAX {
            return Err(failed(format_args!(
                "{}: more than {RESULTS_MAX} results for one page",
                path.display()
            )));
        }
        files.push((path.as_path(), results));
    }
    let groups = Group::all(files);
    let title = args.title.as_deref().unwrap_or("Benchmark results");
    let page = page::page(title, &groups, args.tolerance.into());
    match &args.output {
        Some(path) => write(path, &page)?,
        None => output.bytes(page.as_bytes())?,
    }
    Ok(ExitStatus::Done)
}

fn write(path: &Path, page: &str) -> Result<(), Failure> {
    std::fs::write(path, page)
        .map_err(|error| failed(format_args!("cannot write {}: {error}", path.display())))
}

fn failed(text: std::fmt::Arguments<'_>) -> Failure {
    Failure::new(ExitStatus::Failed, text)
}
