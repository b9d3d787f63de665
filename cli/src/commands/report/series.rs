//! Which results are of the same case, and how each of them is called there.

use std::path::Path;

use crate::results::Measurement;
use crate::results::case::Case;
use crate::results::figures::{Figures, middle};

/// All results of a case. The first series is what the others are compared with.
pub(super) struct Group {
    pub(super) case: Case,
    pub(super) series: Vec<Series>,
}

/// Results of a case with the same label in the same file: runs of the same.
pub(super) struct Series {
    /// Unique in its group.
    pub(super) name: String,
    pub(super) file: String,
    label: Option<String>,
    /// Of all runs.
    pub(super) figures: Vec<Figures>,
    results: Vec<Measurement>,
}

impl Series {
    /// The result in the middle, which is drawn.
    pub(super) fn shown(&self) -> &Measurement {
        let figures: Vec<_> = self.results.iter().map(Figures::of_one).collect();
        let is_open_loop = self.results[0].rate.is_some();
        &self.results[middle(&figures, is_open_loop)]
    }
}

impl Group {
    /// Those of all files, in the order of their first results.
    pub(super) fn all(files: Vec<(&Path, Vec<Measurement>)>) -> Vec<Group> {
        let paths: Vec<_> = files.iter().map(|(path, _)| *path).collect();
        let names = names(&paths);
        let mut groups: Vec<Group> = Vec::new();
        for (name, (_, results)) in names.into_iter().zip(files) {
            for result in results {
                put(&mut groups, &name, result);
            }
        }
        for group in &mut groups {
            group.name();
        }
        groups
    }

    /// Calls each series by its label, or by its file, or by both.
    fn name(&mut self) {
        let series = &self.series;
        let labels: Option<Vec<_>> = series.iter().map(|it| it.label.clone()).collect();
        let files: Vec<_> = series.iter().map(|it| it.file.clone()).collect();
        let both = series.iter().map(|it| match &it.label {
            Some(label) => format!("{}: {label}", it.file),
            None => it.file.clone(),
        });
        let names = match labels {
            Some(labels) if are_unique(&labels) => labels,
            _ if are_unique(&files) => files,
            _ => both.collect(),
        };
        for (series, name) in self.series.iter_mut().zip(names) {
            series.name = name;
        }
    }
}

fn put(groups: &mut Vec<Group>, file: &str, result: Measurement) {
    let case = Case::of(&result);
    let at = groups.iter().position(|group| group.case == case);
    let at = at.unwrap_or_else(|| {
        let series = Vec::new();
        groups.push(Group { case, series });
        groups.len() - 1
    });
    let all = &mut groups[at].series;
    let mut known = all.iter_mut();
    let figures = Figures::of(&result);
    match known.find(|it| it.file == file && it.label == result.label) {
        Some(series) => {
            series.figures.extend(figures);
            series.results.push(result);
        }
        None => all.push(Series {
            name: String::new(),
            file: file.to_owned(),
            label: result.label.clone(),
            figures,
            results: vec![result],
        }),
    }
}

/// Names of files without folders and extensions, as long as that makes them different.
fn names(paths: &[&Path]) -> Vec<String> {
    let stem = |path: &&Path| match path.as_os_str() == "-" {
        true => "stdin".to_owned(),
        false => path.file_stem().unwrap_or_default().display().to_string(),
    };
    let stems: Vec<_> = paths.iter().map(stem).collect();
    if are_unique(&stems) {
        return stems;
    }
    let full: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    if are_unique(&full) {
        return full;
    }
    let numbered = full.into_iter().enumerate();
    numbered
        .map(|(index, path)| format!("{path} ({})", index + 1))
        .collect()
}

fn are_unique(texts: &[String]) -> bool {
    let mut sorted: Vec<_> = texts.iter().collect();
    sorted.sort();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_short_names_that_are_different() {
        let names = |paths: &[&str]| {
            let paths: Vec<_> = paths.iter().map(Path::new).collect();
            super::names(&paths)
        };
        assert_eq!(names(&["a/old.json", "b/new.json"]), ["old", "new"]);
        assert_eq!(names(&["a/x.json", "b/x.json"]), ["a/x.json", "b/x.json"]);
        assert_eq!(names(&["x.json", "x.json"]), ["x.json (1)", "x.json (2)"]);
        assert_eq!(names(&["-"]), ["stdin"]);
    }

    #[test]
    fn series_are_called_by_what_tells_them_apart() {
        let result = |label: Option<&str>, connections: u64| -> Measurement {
            serde_json::from_value(serde_json::json!({
                "url": "tcp://a:1", "mode": "echo", "connections": connections, "threads": 1,
                "duration_seconds": 1.0, "connected": 1, "messages": 1,
                "messages_per_second": 1.0, "errors": 0, "label": label,
            }))
            .unwrap_or_else(|error| panic!("{error}"))
        };
        let all = |files: Vec<(&str, Vec<Measurement>)>| -> Vec<Vec<String>> {
            let files = files.into_iter().map(|(path, it)| (Path::new(path), it));
            let groups = Group::all(files.collect());
            let names = |group: Group| group.series.into_iter().map(|it| it.name).collect();
            groups.into_iter().map(names).collect()
        };
        let (a, b) = (Some("a"), Some("b"));
        assert_eq!(
            all(vec![(
                "x.json",
                vec![result(a, 1), result(b, 1), result(a, 1)]
            )]),
            [["a", "b"]]
        );
        assert_eq!(
            all(vec![
                ("x.json", vec![result(a, 1), result(None, 2)]),
                ("y.json", vec![result(a, 1), result(a, 2)]),
            ]),
            [["x", "y"], ["x", "y"]]
        );
        assert_eq!(
            all(vec![
                ("x.json", vec![result(a, 1), result(None, 1)]),
                ("y.json", vec![result(a, 1)]),
            ]),
            [["x: a", "x", "y: a"]]
        );
    }
}
