//! What stands behind the `?`: every parameter is known, stands once, and has a value that is allowed.

use std::collections::BTreeMap;
use std::fmt::Display;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use crate::answer::{Refusal, quoted};

/// The parameters of one request. Each is taken by name; [`finish`](Self::finish) refuses what is left.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    left: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

impl Parameters {
    /// A text, or nothing when it is not there or empty.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        self.left.remove(name).filter(|value| !value.is_empty())
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        default: u64,
        least: u64,
        most: u64,
    ) -> Result<u64, Refusal> {
        let Some(value) = self.text(name) else {
            return Ok(default);
        };
        match value.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(not_allowed(
                name,
                &value,
                format_args!("a whole number from {least} to {most}"),
            )),
        }
    }

    /// One of some words, by its place among them.
    pub(crate) fn choice(
        &mut self,
        name: &'static str,
        words: &[&str],
    ) -> Result<Option<usize>, Refusal> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match words.iter().position(|word| *word == value) {
            Some(at) => Ok(Some(at)),
            None => Err(not_allowed(
                name,
                &value,
                format_args!("one of {}", words.join(", ")),
            )),
        }
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        let Some(name) = self.left.keys().next() else {
            return Ok(());
        };
        let name = quoted(name);
        Err(Refusal::bad_request(match self.known.is_empty() {
            true => format!("there is no parameter {name}: nothing is asked here"),
            false => format!(
                "there is no parameter {name}; there are {}",
                self.known.join(", ")
            ),
        }))
    }
}

fn not_allowed(name: &str, value: &str, expected: impl Display) -> Refusal {
    let value = quoted(value);
    Refusal::bad_request(format!("{name} has to be {expected}, not {value:?}"))
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Refusal::bad_request("the query cannot be read"))?;
        let mut left = BTreeMap::new();
        for (name, value) in pairs {
            let text = quoted(&name);
            if left.insert(name, value).is_some() {
                return Err(Refusal::bad_request(format!(
                    "{text} stands more than once"
                )));
            }
        }
        Ok(Parameters {
            left,
            known: Vec::new(),
        })
    }
}
