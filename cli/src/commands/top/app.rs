//! What is shown, and what keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::data::{Clean, Detail, Event, Group, Listener, Session, Status};
use super::history::History;
use super::listing::Listing;
use super::poll::{Action, Body, Polled, Query, Update, View};
use super::view::Theme;
use crate::args::{DashboardUrl, FILTER_MAX, SortKey};

/// Events that are kept: as many as a server keeps.
const EVENTS_MAX: usize = 512;

/// The most rows that the server is asked for.
const PAGE_MAX: usize = 500;

pub(super) const VIEWS: [(View, &str); 5] = [
    (View::Overview, "Overview"),
    (View::Sessions, "Sessions"),
    (View::Groups, "Groups"),
    (View::Listeners, "Listeners"),
    (View::Events, "Events"),
];

/// What has the keys.
#[derive(Debug)]
pub(super) enum Mode {
    Browse,
    /// A filter is being typed.
    Filter(String),
    /// A session is to be disconnected, if the user means it.
    Confirm(u64, Clean),
    Details(Details),
    Help,
}

/// Everything about one session.
#[derive(Debug)]
pub(super) struct Details {
    pub(super) id: u64,
    pub(super) client: Clean,
    /// `None` until it has come.
    pub(super) rows: Option<Detail>,
    pub(super) is_gone: bool,
    pub(super) scroll: usize,
}

/// What a key asks of the program.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Go,
    Quit,
    Interrupt,
    Act(Action),
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct App {
    pub(super) url: Clean,
    has_token: bool,
    pub(super) theme: Theme,
    pub(super) view: View,
    pub(super) mode: Mode,
    pub(super) status: Option<Status>,
    pub(super) history: History,
    pub(super) sessions: Listing<Session>,
    /// Without the filter.
    pub(super) sessions_total: usize,
    pub(super) groups: Listing<Group>,
    pub(super) listeners: Listing<Listener>,
    pub(super) events: Listing<Event>,
    pub(super) sort: SortKey,
    pub(super) descending: bool,
    pub(super) session_filter: String,
    pub(super) group_filter: String,
    pub(super) paused: bool,
    /// Why there is nothing new.
    pub(super) trouble: Option<String>,
    /// What came of the last thing that was asked for.
    pub(super) note: Option<String>,
    /// Rows of a table that have room, as it was drawn last.
    pub(super) page: usize,
}

impl App {
    pub(super) fn new(url: &DashboardUrl, has_token: bool, query: &Query, theme: Theme) -> Self {
        App {
            url: Clean::new(&url.to_string()),
            has_token,
            theme,
            view: View::Overview,
            mode: Mode::Browse,
            status: None,
            history: History::default(),
            sessions: Listing::default(),
            sessions_total: 0,
            groups: Listing::default(),
            listeners: Listing::default(),
            events: Listing::default(),
            sort: query.sort,
            descending: query.descending,
            session_filter: query.filter.clone(),
            group_filter: String::new(),
            paused: false,
            trouble: None,
            note: None,
            page: 20,
        }
    }

    /// What has to be asked for.
    pub(super) fn query(&mut self) -> Query {
        let page = self.page;
        let (filter, offset) = match self.view {
            View::Sessions => (self.session_filter.clone(), self.sessions.top(page)),
            View::Groups => (self.group_filter.clone(), self.groups.top(page)),
            _ => (String::new(), 0),
        };
        Query {
            view: self.view,
            sort: self.sort,
            descending: self.descending,
            filter,
            offset,
            limit: page.clamp(1, PAGE_MAX),
            detail: match &self.mode {
                Mode::Details(details) => Some(details.id),
                _ => None,
            },
            paused: self.paused,
        }
    }

    pub(super) fn update(&mut self, update: Update) {
        match update {
            Update::Polled(polled) => self.polled(*polled),
            Update::Failed(error) => self.trouble = Some(error.to_string()),
            Update::Acted(text) => self.note = Some(text),
        }
    }

    fn polled(&mut self, polled: Polled) {
        self.trouble = None;
        if self
            .status
            .as_ref()
            .is_some_and(|before| polled.status.is_newer_than(before))
        {
            self.history.clear();
            self.events = Listing::default();
            self.note = Some("the server was started anew".to_owned());
        }
        self.status = Some(polled.status);
        self.history.extend(&polled.history);
        match polled.body {
            Body::Overview => {}
            Body::Sessions(page) => {
                self.sessions_total = page.total;
                self.sessions.set(page.sessions, page.offset, page.matched);
            }
            Body::Groups(page) => self.groups.set(page.groups, page.offset, page.matched),
            Body::Listeners(all) => self.listeners.set_all(all.listeners),
            Body::Events(events) => {
                self.events
                    .prepend(events.events.into_iter().rev(), EVENTS_MAX);
            }
        }
        if let (Mode::Details(details), Some((id, rows))) = (&mut self.mode, polled.detail)
            && details.id == id
        {
            // What was known of one that is gone stays to be read.
            details.is_gone = rows.is_none();
            if let Some(rows) = rows {
                details.rows = Some(rows);
            }
        }
    }

    pub(super) fn on_key(&mut self, key: KeyEvent) -> Outcome {
        if key.kind == KeyEventKind::Release {
            return Outcome::Go;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Outcome::Interrupt,
                _ => Outcome::Go,
            };
        }
        self.note = None;
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Browse => self.browse(key.code),
            Mode::Filter(text) => self.type_filter(text, key.code),
            Mode::Confirm(id, client) => match key.code {
                KeyCode::Char('y' | 'Y') => Outcome::Act(Action::Disconnect(id)),
                KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc | KeyCode::Enter => Outcome::Go,
                _ => {
                    self.mode = Mode::Confirm(id, client);
                    Outcome::Go
                }
            },
            Mode::Details(details) => self.look_closer(details, key.code),
            Mode::Help => Outcome::Go,
        }
    }

    fn browse(&mut self, code: KeyCode) -> Outcome {
        match code {
            KeyCode::Char('q') => return Outcome::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char(digit @ '1'..='5') => {
                self.view = VIEWS[digit as usize - '1' as usize].0;
            }
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(VIEWS.len() - 1),
            KeyCode::Char('/') => match self.view {
                View::Groups => self.mode = Mode::Filter(self.group_filter.clone()),
                _ => {
                    self.view = View::Sessions;
                    self.mode = Mode::Filter(self.session_filter.clone());
                }
            },
            KeyCode::Esc => self.set_filter(String::new()),
            _ if self.view == View::Sessions => self.browse_sessions(code),
            code => self.travel(code),
        }
        Outcome::Go
    }

    fn browse_sessions(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.descending = self.sort.is_descending();
                self.sessions.first();
            }
            KeyCode::Char('S') => {
                self.descending = !self.descending;
                self.sessions.first();
            }
            KeyCode::Enter => {
                if let Some((id, client)) = self.selected() {
                    self.mode = Mode::Details(Details {
                        id,
                        client,
                        rows: None,
                        is_gone: false,
                        scroll: 0,
                    });
                }
            }
            KeyCode::Char('d') => {
                if let Some((id, client)) = self.selected() {
                    self.ask_to_disconnect(id, client);
                }
            }
            code => self.travel(code),
        }
    }

    fn look_closer(&mut self, mut details: Details, code: KeyCode) -> Outcome {
        let rows = details.rows.as_ref().map_or(0, |rows| rows.0.len());
        match code {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace | KeyCode::Char('q') => {
                return Outcome::Go;
            }
            KeyCode::Char('d') => {
                self.ask_to_disconnect(details.id, details.client);
                return Outcome::Go;
            }
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Down | KeyCode::Char('j') => details.scroll += 1,
            KeyCode::Up | KeyCode::Char('k') => details.scroll = details.scroll.saturating_sub(1),
            KeyCode::PageDown => details.scroll = details.scroll.saturating_add(self.page),
            KeyCode::PageUp => details.scroll = details.scroll.saturating_sub(self.page),
            KeyCode::Home => details.scroll = 0,
            KeyCode::End => details.scroll = rows,
            _ => {}
        }
        details.scroll = details.scroll.min(rows.saturating_sub(1));
        self.mode = Mode::Details(details);
        Outcome::Go
    }

    fn type_filter(&mut self, mut text: String, code: KeyCode) -> Outcome {
        match code {
            KeyCode::Esc => return Outcome::Go,
            KeyCode::Enter => {
                self.set_filter(text);
                return Outcome::Go;
            }
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Char(c) if text.len() + c.len_utf8() <= FILTER_MAX => text.push(c),
            _ => {}
        }
        self.mode = Mode::Filter(text);
        Outcome::Go
    }

    fn set_filter(&mut self, text: String) {
        match self.view {
            View::Sessions => {
                self.session_filter = text;
                self.sessions.first();
            }
            View::Groups => {
                self.group_filter = text;
                self.groups.first();
            }
            _ => {}
        }
    }

    /// Who cannot is told before, and not after being asked.
    fn ask_to_disconnect(&mut self, id: u64, client: Clean) {
        let why_not = match &self.status {
            Some(status) if status.read_only => {
                Some("this server only shows: it has no --dashboard-token")
            }
            Some(status) if !status.admin || !self.has_token => {
                Some("that needs the token of the dashboard: netsys top --token")
            }
            _ => None,
        };
        match why_not {
            Some(text) => self.note = Some(text.to_owned()),
            None => self.mode = Mode::Confirm(id, client),
        }
    }

    fn selected(&self) -> Option<(u64, Clean)> {
        let session = self.sessions.selected()?;
        Some((session.id, session.client_id.clone().unwrap_or_default()))
    }

    fn turn(&mut self, by: usize) {
        let at = VIEWS.iter().position(|(view, _)| *view == self.view);
        self.view = VIEWS[(at.unwrap_or_default() + by) % VIEWS.len()].0;
    }

    fn travel(&mut self, code: KeyCode) {
        match self.view {
            View::Overview => {}
            View::Sessions => travel(&mut self.sessions, code, self.page),
            View::Groups => travel(&mut self.groups, code, self.page),
            View::Listeners => travel(&mut self.listeners, code, self.page),
            View::Events => travel(&mut self.events, code, self.page),
        }
    }
}

fn travel<T>(listing: &mut Listing<T>, code: KeyCode, page: usize) {
    match code {
        KeyCode::Down | KeyCode::Char('j') => listing.down(1),
        KeyCode::Up | KeyCode::Char('k') => listing.up(1),
        KeyCode::PageDown => listing.down(page),
        KeyCode::PageUp => listing.up(page),
        KeyCode::Home | KeyCode::Char('g') => listing.first(),
        KeyCode::End | KeyCode::Char('G') => listing.last(),
        _ => {}
    }
}
