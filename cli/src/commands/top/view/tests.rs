//! What stands on the screen, without a terminal.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use serde_json::{Value, json};

use super::super::app::{App, Mode, Outcome};
use super::super::http::ApiError;
use super::super::poll::{Action, Body, Polled, Query, Update, View};
use super::{Theme, draw};
use crate::args::{DashboardUrl, SortKey};

const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{202e}x\u{7}\u{200b}\r\n";

fn app(has_token: bool, is_colored: bool) -> App {
    let url = DashboardUrl {
        host: "127.0.0.1".to_owned(),
        port: 7680,
        base: String::new(),
    };
    let query = Query {
        view: View::Overview,
        sort: SortKey::Id,
        descending: false,
        filter: String::new(),
        offset: 0,
        limit: 20,
        detail: None,
        paused: false,
    };
    App::new(&url, has_token, &query, Theme::new(is_colored))
}

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("what the server answers")
}

fn polled(name: &str, started_at: u64, body: Body) -> Update {
    Update::Polled(Box::new(Polled {
        status: parsed(json!({
            "name": name, "version": "0.1.0", "state": "running", "started_at": started_at,
            "uptime_seconds": 7_380.0, "admin": true, "read_only": false, "unknown": [1]
        })),
        history: parsed(json!({
            "first": 0, "next": 3, "interval_seconds": 1.0,
            "columns": {
                "messages_received": [1.0, 500.0, 12_345.0],
                "handler_p50_us": [null, 41.0, null],
                "connections": [10.0, 10.0, 1_000.0],
                "bytes_sent": [0.0, 0.0, 1_572_864.0],
            }
        })),
        body,
        detail: None,
    }))
}

fn sessions(count: usize, client: &str) -> Body {
    let rows: Vec<_> = (0..count)
        .map(|id| {
            json!({
                "id": id + 1, "client_id": format!("{client}{id}"), "identity": null, "transport": "tcp",
                "remote": "127.0.0.1:5000", "state": "connected", "messages_received": 17,
                "round_trip_us": 41.0
            })
        })
        .collect();
    Body::Sessions(parsed(
        json!({ "total": 10_000, "matched": 9_000, "offset": 0, "sessions": rows }),
    ))
}

fn others(text: &str) -> [Body; 3] {
    [
        Body::Groups(parsed(json!({
            "total": 1, "matched": 1, "offset": 0,
            "groups": [{ "name": text, "members": 12, "messages": 5, "bytes": 320 }]
        }))),
        Body::Listeners(parsed(json!({
            "listeners": [{ "url": format!("tcp://{text}"), "transport": text, "accepted": 12,
                            "refused": 0, "accepting": true }]
        }))),
        Body::Events(parsed(json!({
            "first": 5, "next": 6,
            "events": [{ "seq": 5, "at": 45_296_000, "level": "warn", "kind": "session_closed",
                         "session": 7, "code": "idle_timeout", "text": text }]
        }))),
    ]
}

fn screen(app: &mut App, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
    terminal.draw(|frame| draw(app, frame)).expect("drawn");
    terminal.backend().buffer().clone()
}

fn lines(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let buffer = screen(app, width, height);
    let cells = buffer.content().chunks(usize::from(width));
    cells
        .map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>())
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn press(app: &mut App, code: KeyCode) -> Outcome {
    app.on_key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn type_text(app: &mut App, text: &str) {
    for c in text.chars() {
        press(app, KeyCode::Char(c));
    }
}

fn shows(app: &mut App, text: &str) {
    let lines = lines(app, 100, 24);
    assert!(
        lines.iter().any(|line| line.contains(text)),
        "no {text:?} in {lines:#?}"
    );
}

#[test]
fn the_overview_has_rates_and_times() {
    let mut app = app(false, true);
    app.update(polled("echo", 1, Body::Overview));
    for text in [
        "echo 0.1.0  running  up 2h03m  1,000 sessions  http://127.0.0.1:7680",
        "1 Overview",
        "messages in  12,345/s",
        "bytes out  1.50 MiB/s",
        "handler p50 41.0 µs",
        "█",
        "q quit",
    ] {
        shows(&mut app, text);
    }
    // On little room, numbers in place of plots.
    let small = lines(&mut app, 40, 9);
    assert!(
        small.iter().any(|line| line.contains("in 12,345/s")),
        "{small:#?}"
    );
}

#[test]
fn percentiles_are_left_out_rather_than_cut_off() {
    let mut app = app(false, true);
    let mut update = polled("echo", 1, Body::Overview);
    if let Update::Polled(polled) = &mut update {
        polled.history = parsed(json!({
            "first": 0, "next": 1, "interval_seconds": 1.0,
            "columns": {
                "connections": [1.0], "handler_p50_us": [123.0], "handler_p95_us": [456.0], "handler_p99_us": [789.0]
            }
        }));
    }
    app.update(update);
    for (width, text) in [
        (80, "handler p50 123 µs  p99 789 µs"),
        (160, "handler p50 123 µs  p95 456 µs  p99 789 µs"),
        (80, "  1 session  http"),
    ] {
        let lines = lines(&mut app, width, 24);
        assert!(lines.iter().any(|line| line.contains(text)), "{lines:#?}");
    }
}

#[test]
fn the_footer_counts_the_rows_of_the_screen_as_it_is_now() {
    let mut app = app(false, true);
    press(&mut app, KeyCode::Char('2'));
    app.update(polled("echo", 1, sessions(50, "c-")));
    for (height, text) in [(4, "1-1 of 9,000"), (24, "1-20 of 9,000")] {
        let lines = lines(&mut app, 100, height);
        let footer = lines.last().map_or("", String::as_str);
        assert!(footer.starts_with(text), "{lines:#?}");
    }
}

#[test]
fn sessions_are_sorted_moved_in_and_filtered_by_keys() {
    let mut app = app(false, true);
    assert_eq!(press(&mut app, KeyCode::Char('2')), Outcome::Go);
    app.update(polled("echo", 1, sessions(50, "c-")));
    shows(&mut app, "ID▲");
    shows(&mut app, "c-0");
    shows(&mut app, "1-20 of 9,000");
    let mut presses = 0;
    while app.query().sort.name() != "messages_received" {
        press(&mut app, KeyCode::Char('s'));
        presses += 1;
        assert!(presses < 30, "one goes through all columns");
    }
    assert!(app.query().descending);
    shows(&mut app, "IN▼");
    press(&mut app, KeyCode::Char('S'));
    assert!(!app.query().descending);

    press(&mut app, KeyCode::PageDown);
    press(&mut app, KeyCode::PageDown);
    assert_eq!((app.query().offset, app.query().limit), (21, 20));
    press(&mut app, KeyCode::End);
    assert_eq!(app.query().offset, 8_980);
    // Not here yet.
    shows(&mut app, "…");

    press(&mut app, KeyCode::Char('/'));
    type_text(&mut app, "C-7q");
    press(&mut app, KeyCode::Backspace);
    shows(&mut app, "filter: C-7_");
    assert_eq!(app.query().filter, "");
    press(&mut app, KeyCode::Enter);
    assert_eq!(
        (app.query().filter.as_str(), app.query().offset),
        ("C-7", 0)
    );
    shows(&mut app, "10,000 in all  filter \"C-7\"");
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.query().filter, "");
}

#[test]
fn details_are_shown_and_stay_when_the_session_goes() {
    let mut app = app(false, true);
    press(&mut app, KeyCode::Char('2'));
    app.update(polled("echo", 1, sessions(3, "c-")));
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Enter);
    assert_eq!(app.query().detail, Some(2));
    for (detail, text) in [
        (
            Some(parsed(json!({ "local": "127.0.0.1:7600" }))),
            "127.0.0.1:7600",
        ),
        (None, "session 2 (c-1), which is gone"),
    ] {
        let mut update = polled("echo", 1, sessions(3, "c-"));
        if let Update::Polled(polled) = &mut update {
            polled.detail = Some((2, detail));
        }
        app.update(update);
        shows(&mut app, text);
        shows(&mut app, "127.0.0.1:7600");
    }
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.query().detail, None);
}

#[test]
fn nobody_is_disconnected_unasked_or_without_a_token() {
    let mut without = app(false, true);
    press(&mut without, KeyCode::Char('2'));
    without.update(polled("echo", 1, sessions(3, "c-")));
    press(&mut without, KeyCode::Char('d'));
    assert!(matches!(without.mode, Mode::Browse));
    shows(&mut without, "needs the token");

    let mut app = app(true, true);
    press(&mut app, KeyCode::Char('2'));
    app.update(polled("echo", 1, sessions(3, "c-")));
    press(&mut app, KeyCode::Char('d'));
    shows(&mut app, "disconnect session 1 (c-0)? y/n");
    // The list has changed meanwhile; the question has not.
    app.update(polled("echo", 1, sessions(1, "other")));
    assert_eq!(press(&mut app, KeyCode::Char('x')), Outcome::Go);
    assert_eq!(
        press(&mut app, KeyCode::Char('y')),
        Outcome::Act(Action::Disconnect(1))
    );
    app.update(Update::Acted("session 1 is told to go".to_owned()));
    shows(&mut app, "told to go");
    press(&mut app, KeyCode::Char('d'));
    assert_eq!(press(&mut app, KeyCode::Char('n')), Outcome::Go);
    assert_eq!(press(&mut app, KeyCode::Char('y')), Outcome::Go);
}

#[test]
fn a_server_that_goes_away_is_told_until_it_is_back() {
    let mut app = app(false, true);
    app.update(polled("echo", 1, Body::Overview));
    app.update(Update::Failed(ApiError::NotConnected(format!(
        "refused{HOSTILE}"
    ))));
    shows(&mut app, "trying again: refused\\u{1b}");
    // What was known stays.
    shows(&mut app, "messages in  12,345/s");
    app.update(polled("echo", 9_000, Body::Overview));
    shows(&mut app, "started anew");
    press(&mut app, KeyCode::Char('x'));
    shows(&mut app, "q quit");
}

#[test]
fn keys_end_it_and_pause_it() {
    let mut app = app(false, true);
    app.update(polled("echo", 1, Body::Overview));
    press(&mut app, KeyCode::Char('p'));
    assert!(app.query().paused);
    shows(&mut app, "PAUSED");
    press(&mut app, KeyCode::Char('?'));
    shows(&mut app, "disconnect a session; asks first");
    assert_eq!(press(&mut app, KeyCode::Char('q')), Outcome::Go);
    assert_eq!(press(&mut app, KeyCode::Char('q')), Outcome::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.on_key(interrupt), Outcome::Interrupt);
}

#[test]
fn nothing_that_a_terminal_obeys_reaches_the_screen() {
    let mut app = app(true, true);
    let mut bodies = vec![sessions(3, HOSTILE)];
    bodies.extend(others(HOSTILE));
    for body in bodies {
        app.view = match body {
            Body::Sessions(_) => View::Sessions,
            Body::Groups(_) => View::Groups,
            Body::Listeners(_) => View::Listeners,
            _ => View::Events,
        };
        app.update(polled(HOSTILE, 1, body));
        press(&mut app, KeyCode::Char('d'));
        let buffer = screen(&mut app, 160, 24);
        let all: String = buffer.content().iter().map(|cell| cell.symbol()).collect();
        assert!(all.contains("\\u{1b}[2J"), "{all}");
        for c in HOSTILE.chars().filter(|c| !c.is_ascii_graphic()) {
            assert!(!all.contains(c), "{c:?} in {all}");
        }
        press(&mut app, KeyCode::Esc);
    }
}

#[test]
fn every_screen_and_every_key_is_fine() {
    let codes = [
        KeyCode::Char('1'),
        KeyCode::Char('2'),
        KeyCode::Char('3'),
        KeyCode::Char('5'),
        KeyCode::Char('s'),
        KeyCode::Char('S'),
        KeyCode::Char('/'),
        KeyCode::Char('d'),
        KeyCode::Char('y'),
        KeyCode::Char('p'),
        KeyCode::Char('?'),
        KeyCode::Char('ü'),
        KeyCode::Tab,
        KeyCode::BackTab,
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Backspace,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::F(1),
    ];
    let mut app = app(true, true);
    // Numbers that look random, and are the same in each run.
    let mut state = 7_u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..4_000 {
        if round % 5 == 0 {
            let count = next(40);
            let body = match next(6) {
                0 => Body::Overview,
                1 | 2 => sessions(count, "日本語"),
                at => others(HOSTILE)
                    .into_iter()
                    .nth(at - 3)
                    .expect("one of three"),
            };
            app.update(polled("echo", round * 10, body));
        }
        press(&mut app, codes[next(codes.len())]);
        let (width, height) = (1 + next(130) as u16, 1 + next(30) as u16);
        screen(&mut app, width, height);
        let query = app.query();
        assert!((1..=500).contains(&query.limit));
        assert!(query.offset <= 9_000);
    }
    for view in [
        View::Overview,
        View::Sessions,
        View::Groups,
        View::Listeners,
        View::Events,
    ] {
        app.view = view;
        for (width, height) in [(20, 5), (1, 1), (5, 2), (300, 1), (1, 100), (300, 100)] {
            screen(&mut app, width, height);
        }
    }
}

#[test]
fn without_colors_there_are_none() {
    let mut app = app(true, false);
    for (view, body) in [
        (View::Sessions, sessions(9, "c")),
        (View::Overview, Body::Overview),
    ] {
        app.view = view;
        app.update(polled("echo", 1, body));
        app.trouble = Some("x".to_owned());
        let buffer = screen(&mut app, 100, 24);
        for cell in buffer.content() {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
        }
    }
}
