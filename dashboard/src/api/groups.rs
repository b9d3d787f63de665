//! Groups and who is in them.

use std::cmp::Reverse;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use network_system::{GroupName, GroupStats};
use serde::Serialize;

use super::{Page, compute};
use crate::answer::{self, Refusal, quoted};
use crate::query::Parameters;
use crate::site::{Shared, Text};

#[derive(Serialize)]
struct Groups<'a> {
    total: usize,
    matched: usize,
    offset: usize,
    groups: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    members: usize,
    messages: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Members<'a> {
    name: &'a str,
    total: usize,
    offset: usize,
    members: Vec<u64>,
}

/// The largest first.
pub(crate) async fn list(
    State(site): Shared,
    mut parameters: Parameters,
) -> Result<Response, Refusal> {
    let page = Page::of(&mut parameters)?;
    let filter = parameters.text("filter").map(|text| text.to_lowercase());
    parameters.finish()?;
    compute(&site.inner, move |inner| {
        let mut groups = inner.server.group_stats();
        let total = groups.len();
        if let Some(filter) = filter {
            groups.retain(|group| group.name.as_str().to_lowercase().contains(&filter));
        }
        let matched = groups.len();
        let order = |group: &GroupStats| Reverse(group.members);
        let groups = page.cut(groups, |a, b| {
            order(a).cmp(&order(b)).then_with(|| a.name.cmp(&b.name))
        });
        let rows = groups.iter().map(|group| Row {
            name: group.name.as_str(),
            members: group.members,
            messages: group.messages,
            bytes: group.bytes,
        });
        let answer = Groups {
            total,
            matched,
            offset: page.offset,
            groups: rows.collect(),
        };
        Ok(answer::json(StatusCode::OK, &answer))
    })
    .await
}

/// In the order of their ids.
pub(crate) async fn members(
    State(site): Shared,
    Text(name): Text,
    mut parameters: Parameters,
) -> Result<Response, Refusal> {
    let page = Page::of(&mut parameters)?;
    parameters.finish()?;
    compute(&site.inner, move |inner| {
        let members = GroupName::new(name.as_str()).map(|group| inner.server.members(&group));
        let members = members.unwrap_or_default();
        if members.is_empty() {
            let name = quoted(&name);
            return Err(Refusal::not_found(format!("nobody is in a group {name:?}")));
        }
        let total = members.len();
        let members = page.cut(members, |a, b| a.cmp(b));
        let answer = Members {
            name: &name,
            total,
            offset: page.offset,
            members: members.iter().map(|id| id.as_u64()).collect(),
        };
        Ok(answer::json(StatusCode::OK, &answer))
    })
    .await
}
