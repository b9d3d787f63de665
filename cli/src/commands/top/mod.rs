//! `netsys top`: what a running server does, seen through the API of its dashboard.
//!
//! - [`http`]: the client of the API; [`data`]: its answers, in which no text can harm a terminal.
//! - [`poll`]: asks again and again, beside the display; [`history`]: samples that were collected.
//! - [`app`]: what is shown and what keys do, without a terminal, [`listing`]: long lists; [`view`] draws it; [`terminal`] has the terminal.
//! - [`snapshot`]: what is printed without one. [`table`] and [`format`](mod@format): for both.

mod app;
mod data;
mod format;
mod history;
mod http;
mod listing;
mod poll;
mod snapshot;
mod table;
mod terminal;
mod view;

use std::io::IsTerminal;
use std::time::Duration;

use self::app::App;
use self::history::History;
use self::http::Api;
use self::poll::{Query, View};
use self::snapshot::{ROWS, Snapshot};
use self::view::Theme;
use super::signals::Signals;
use crate::args::{ColorChoice, DashboardUrl, TopArgs};
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;
use crate::settings::read_token;

pub(crate) fn run(args: TopArgs, output: Output) -> Result<ExitStatus, Failure> {
    let token = read_token(args.token, args.token_file.as_deref())?;
    let api = Api::new(args.url.clone(), token.as_ref())?;
    let query = Query {
        view: View::Sessions,
        sort: args.sort,
        descending: args.sort.is_descending() != args.reverse,
        filter: args.filter,
        offset: 0,
        limit: ROWS,
        detail: None,
        paused: false,
    };
    let interval = args.interval.0;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let is_once = args.once || !(args.json || std::io::stdout().is_terminal());
    if args.json || is_once {
        let every = (!is_once).then_some(interval);
        return runtime.block_on(print(api, args.url, query, every, output));
    }
    let app = App::new(&args.url, token.is_some(), &query, theme(args.color));
    let ended = runtime.block_on(terminal::show(app, api, args.url, interval));
    // A name that is being resolved holds nothing up.
    runtime.shutdown_background();
    ended
}

fn theme(choice: ColorChoice) -> Theme {
    let is_colored = match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
            !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    };
    Theme::new(is_colored)
}

/// Prints once, or at every interval until a signal comes.
async fn print(
    mut api: Api,
    url: DashboardUrl,
    query: Query,
    every: Option<Duration>,
    output: Output,
) -> Result<ExitStatus, Failure> {
    let mut signals = Signals::new()?;
    let mut history = History::default();
    let mut before = None;
    let mut ticks = tokio::time::interval(every.unwrap_or(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let take = async {
            ticks.tick().await;
            Snapshot::take(&mut api, &query, &mut history, &mut before).await
        };
        let taken = tokio::select! {
            taken = take => taken,
            () = signals.next() => return Ok(ExitStatus::Interrupted),
        };
        let snapshot = taken.map_err(|error| error.failure(&url))?;
        if output.json {
            output.line(snapshot.to_json(&url, &history).to_string())?;
        } else {
            output.line(snapshot.to_text(&url, &query, &history))?;
        }
        if every.is_none() {
            return Ok(ExitStatus::Done);
        }
    }
}
