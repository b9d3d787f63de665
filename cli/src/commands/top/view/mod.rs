//! Draws what is known, in whatever room there is.

mod overview;
mod tables;
#[cfg(test)]
mod tests;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Details, Mode, VIEWS};
use super::format::{count, span};
use super::history::Series;
use super::poll::View;

const HELP: &[(&str, &str)] = &[
    ("Tab, 1 to 5", "views; also arrows left and right"),
    ("arrows, PgUp, PgDn, Home, End", "move"),
    ("Enter", "details of a session, and back"),
    (
        "s, S",
        "sort sessions by the next column; the other way round",
    ),
    (
        "/",
        "filter sessions or groups; Enter takes it, Esc removes it",
    ),
    ("d", "disconnect a session; asks first, and needs --token"),
    ("p", "pause, and go on"),
    ("?", "this; any key goes back"),
    ("q, Ctrl-C", "quit"),
];

/// How things look: with colors, or with what every terminal has.
#[derive(Clone, Copy, Debug)]
pub(in crate::commands::top) struct Theme {
    is_colored: bool,
}

impl Theme {
    pub(in crate::commands::top) fn new(is_colored: bool) -> Self {
        Theme { is_colored }
    }

    pub(in crate::commands::top) fn is_colored(self) -> bool {
        self.is_colored
    }

    fn colored(self, color: Color, plain: Modifier) -> Style {
        match self.is_colored {
            true => Style::new().fg(color),
            false => Style::new().add_modifier(plain),
        }
    }

    fn head(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn plot(self) -> Style {
        self.colored(Color::Cyan, Modifier::empty())
    }

    fn quiet(self) -> Style {
        self.colored(Color::DarkGray, Modifier::DIM)
    }

    fn warning(self) -> Style {
        self.colored(Color::Yellow, Modifier::BOLD)
    }

    fn trouble(self) -> Style {
        self.colored(Color::Red, Modifier::BOLD)
    }
}

/// Draws everything. Where there is little room, the view itself stays longest.
pub(in crate::commands::top) fn draw(app: &mut App, frame: &mut Frame<'_>) {
    let area = frame.area();
    let mut body = area;
    if area.height >= 3 {
        frame.render_widget(header(app), cut_top(&mut body));
    }
    if area.height >= 6 {
        frame.render_widget(tabs(app), cut_top(&mut body));
    }
    // A question is never hidden.
    let has_footer =
        area.height >= 2 || !matches!(app.mode, Mode::Browse | Mode::Details(_) | Mode::Help);
    let bottom = has_footer.then(|| cut_bottom(&mut body));
    match &mut app.mode {
        Mode::Help => help(app.theme, frame, body),
        Mode::Details(details) => {
            app.page = usize::from(body.height);
            draw_details(details, app.theme, frame, body);
        }
        _ => match app.view {
            View::Overview => overview::draw(app, frame, body),
            _ => tables::draw(app, frame, body),
        },
    }
    // It says which rows are seen, so that they are counted before.
    if let Some(bottom) = bottom {
        frame.render_widget(footer(app), bottom);
    }
}

fn cut_top(area: &mut Rect) -> Rect {
    let height = area.height.min(1);
    let line = Rect { height, ..*area };
    area.y += height;
    area.height -= height;
    line
}

fn cut_bottom(area: &mut Rect) -> Rect {
    let height = area.height.min(1);
    area.height -= height;
    Rect {
        y: area.y + area.height,
        height,
        ..*area
    }
}

fn header(app: &App) -> Line<'static> {
    let theme = app.theme;
    let Some(status) = &app.status else {
        return Line::raw(app.url.to_string());
    };
    let state = match status.state.as_str() {
        "running" => Style::new(),
        _ => theme.warning(),
    };
    let connections = app.history.now(Series::Connections).unwrap_or_default();
    let mut parts = vec![
        Span::styled(format!("{} {}", status.name, status.version), theme.head()),
        Span::raw("  "),
        Span::styled(status.state.to_string(), state),
    ];
    if app.paused {
        parts.push(Span::styled("  PAUSED", theme.warning()));
    }
    parts.push(Span::raw(format!(
        "  up {}  {} session{}  ",
        status.uptime_seconds.map_or_else(|| "-".to_owned(), span),
        count(connections),
        if connections == 1.0 { "" } else { "s" }
    )));
    parts.push(Span::styled(app.url.to_string(), theme.quiet()));
    Line::from(parts)
}

fn tabs(app: &App) -> Line<'static> {
    let mut parts = Vec::new();
    for (index, (view, name)) in VIEWS.iter().enumerate() {
        let style = match *view == app.view {
            true => app.theme.selected(),
            false => Style::new(),
        };
        parts.push(Span::styled(format!(" {} {name} ", index + 1), style));
        parts.push(Span::raw(" "));
    }
    Line::from(parts)
}

fn footer(app: &mut App) -> Line<'static> {
    let theme = app.theme;
    match &app.mode {
        // What is typed is seen from its end.
        Mode::Filter(text) => return Line::raw(format!("filter: {text}_")),
        Mode::Confirm(id, client) => {
            let text = format!("disconnect session {id} ({client})? y/n");
            return Line::styled(text, theme.warning());
        }
        _ => {}
    }
    if let Some(text) = &app.note {
        return Line::styled(text.clone(), theme.warning());
    }
    if let Some(text) = &app.trouble {
        return Line::styled(format!("trying again: {text}"), theme.trouble());
    }
    let keys = "? help  q quit";
    let text = match (&app.mode, app.view) {
        (Mode::Help, _) => "any key goes back".to_owned(),
        (Mode::Details(_), _) => "Esc back  d disconnect".to_owned(),
        (_, View::Overview) => format!("Tab views  p pause  {keys}"),
        (_, View::Sessions) => {
            let place = place(app.sessions.top(app.page), app.page, app.sessions.len());
            let filter = filtered(&app.session_filter);
            let all = match app.session_filter.is_empty() {
                true => String::new(),
                false => format!(", {} in all", count(app.sessions_total as f64)),
            };
            format!("{place}{all}{filter}  s sort  / filter  Enter details  d disconnect  {keys}")
        }
        (_, View::Groups) => {
            let place = place(app.groups.top(app.page), app.page, app.groups.len());
            format!("{place}{}  / filter  {keys}", filtered(&app.group_filter))
        }
        (_, View::Listeners) => {
            format!(
                "{}  {keys}",
                place(app.listeners.top(app.page), app.page, app.listeners.len())
            )
        }
        (_, View::Events) => {
            format!(
                "{}  {keys}",
                place(app.events.top(app.page), app.page, app.events.len())
            )
        }
    };
    Line::styled(text, theme.quiet())
}

fn filtered(filter: &str) -> String {
    match filter {
        "" => String::new(),
        text => format!("  filter \"{text}\""),
    }
}

fn place(top: usize, page: usize, len: usize) -> String {
    match len {
        0 => "none".to_owned(),
        _ => format!(
            "{}-{} of {}",
            top + 1,
            (top + page.max(1)).min(len),
            count(len as f64)
        ),
    }
}

fn help(theme: Theme, frame: &mut Frame<'_>, area: Rect) {
    let lines: Vec<_> = HELP
        .iter()
        .map(|(keys, text)| {
            Line::from(vec![
                Span::styled(format!("{keys:<31}"), theme.head()),
                Span::raw(*text),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_details(details: &Details, theme: Theme, frame: &mut Frame<'_>, area: Rect) {
    let gone = if details.is_gone {
        ", which is gone"
    } else {
        ""
    };
    let title = format!("session {} ({}){gone}", details.id, details.client);
    let mut lines = vec![Line::styled(title, theme.head())];
    match &details.rows {
        None if details.is_gone => {}
        None => lines.push(Line::raw("…")),
        Some(rows) => {
            let width = rows
                .0
                .iter()
                .map(|(name, _)| super::table::cells(name.as_str()));
            let width = width.max().unwrap_or_default().min(32);
            lines.extend(rows.0.iter().skip(details.scroll).map(|(name, value)| {
                let mut text = String::new();
                super::table::pad(&mut text, name.as_str(), width, false);
                Line::raw(format!("{text}  {value}"))
            }));
        }
    }
    frame.render_widget(Paragraph::new(lines), area);
}
