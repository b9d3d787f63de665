//! The terminal: it is taken, drawn on, and given back however the program ends.

use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::style::force_color_output;
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::{mpsc, watch};

use super::app::{App, Outcome};
use super::http::Api;
use super::poll::{Known, Poller, Update, look};
use super::view;
use crate::args::DashboardUrl;
use crate::commands::signals::Signals;
use crate::exit::{ExitStatus, Failure};

/// How often the thread that reads keys looks whether it is still needed.
const INPUT_TIME: Duration = Duration::from_millis(200);

/// Keys and updates that wait to be handled.
const QUEUE: usize = 64;

/// Shows the server until the user has seen enough. Nothing is taken from the terminal before the server has
/// answered once.
pub(super) async fn show(
    mut app: App,
    mut api: Api,
    url: DashboardUrl,
    interval: Duration,
) -> Result<ExitStatus, Failure> {
    let mut signals = Signals::new()?;
    let mut known = Known::default();
    let query = app.query();
    let polled = tokio::select! {
        polled = look(&mut api, &query, &mut known) => polled,
        () = signals.next() => return Ok(ExitStatus::Interrupted),
    };
    let polled = polled.map_err(|error| error.failure(&url))?;
    app.update(Update::Polled(Box::new(polled)));

    let (queries, asked) = watch::channel(query);
    let (actions, wanted) = mpsc::channel(1);
    let (updates, mut news) = mpsc::channel(QUEUE);
    let poller = Poller {
        api,
        interval,
        queries: asked,
        actions: wanted,
        updates,
        known,
    };
    tokio::spawn(poller.run());
    let mut screen = Screen::take(app.theme.is_colored())?;
    let mut input = read_input()?;
    loop {
        screen.draw(|frame| view::draw(&mut app, frame))?;
        // After drawing, which knows how many rows have room.
        let query = app.query();
        queries.send_if_modified(|known| {
            let is_new = *known != query;
            if is_new {
                *known = query;
            }
            is_new
        });
        tokio::select! {
            event = input.recv() => {
                let event = event.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
                if let Event::Key(key) = event {
                    match app.on_key(key) {
                        Outcome::Go => {}
                        Outcome::Quit => return Ok(ExitStatus::Done),
                        Outcome::Interrupt => return Ok(ExitStatus::Interrupted),
                        Outcome::Act(action) => if actions.try_send(action).is_err() {
                            app.note = Some("the last one is not done yet".to_owned());
                        }
                    }
                }
            }
            update = news.recv() => match update {
                Some(update) => app.update(update),
                None => return Err(Failure::new(ExitStatus::Failed, "nobody asks the server any more")),
            },
            () = signals.next() => return Ok(ExitStatus::Interrupted),
        }
    }
}

/// The terminal while it is ours.
struct Screen(DefaultTerminal);

impl Screen {
    fn take(is_colored: bool) -> io::Result<Self> {
        force_color_output(is_colored);
        match ratatui::try_init() {
            Ok(terminal) => Ok(Screen(terminal)),
            Err(error) => {
                // It may be half taken.
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }

    fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.0.show_cursor();
        // Nothing can be done when the terminal itself is gone.
        let _ = ratatui::try_restore();
    }
}

/// Reads the terminal in a thread of its own, which ends with whoever listens.
fn read_input() -> io::Result<mpsc::Receiver<io::Result<Event>>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let read = move || {
        loop {
            let event = match event::poll(INPUT_TIME) {
                Ok(true) => event::read(),
                Ok(false) if sender.is_closed() => return,
                Ok(false) => continue,
                Err(error) => Err(error),
            };
            let failed = event.is_err();
            if sender.blocking_send(event).is_err() || failed {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(read)?;
    Ok(receiver)
}
