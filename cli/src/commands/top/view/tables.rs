//! The views that are tables.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::app::App;
use super::super::data::{Event, Session};
use super::super::listing::Listing;
use super::super::poll::View;
use super::super::table::{Column, EVENTS, Fitted, GROUPS, LISTENERS, SESSIONS, cells};
use super::Theme;
use crate::args::SortKey;

pub(super) fn draw(app: &mut App, frame: &mut Frame<'_>, area: Rect) {
    // One line for the names of the columns, if there is more than one.
    app.page = usize::from(area.height.saturating_sub(1)).max(1);
    let theme = app.theme;
    match app.view {
        View::Overview => {}
        View::Sessions => {
            let sorted = Some((app.sort, app.descending));
            let style = |session: &Session| match session.state.as_str() {
                "suspended" => theme.warning(),
                _ => Style::new(),
            };
            table(
                SESSIONS,
                &mut app.sessions,
                sorted,
                style,
                theme,
                frame,
                area,
            );
        }
        View::Groups => table(
            GROUPS,
            &mut app.groups,
            None,
            |_| Style::new(),
            theme,
            frame,
            area,
        ),
        View::Listeners => {
            table(
                LISTENERS,
                &mut app.listeners,
                None,
                |_| Style::new(),
                theme,
                frame,
                area,
            );
        }
        View::Events => {
            let style = |event: &Event| match event.level.as_str() {
                "error" => theme.trouble(),
                "warn" => theme.warning(),
                _ => Style::new(),
            };
            table(EVENTS, &mut app.events, None, style, theme, frame, area);
        }
    }
}

fn table<T>(
    columns: &'static [Column<T>],
    listing: &mut Listing<T>,
    sorted: Option<(SortKey, bool)>,
    style: impl Fn(&T) -> Style,
    theme: Theme,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let width = usize::from(area.width);
    let fitted = Fitted::new(columns, width);
    let mut lines = Vec::new();
    let mut page = usize::from(area.height);
    if page > 1 {
        lines.push(Line::styled(fitted.head(sorted), theme.head()));
        page -= 1;
    }
    let top = listing.top(page);
    for place in top..(top + page).min(listing.len()) {
        let Some(row) = listing.row(place) else {
            // It is on its way.
            lines.push(Line::raw("…"));
            continue;
        };
        let mut text = fitted.row(row);
        let mut style = style(row);
        if place == listing.cursor() {
            // The whole line is marked.
            let blank = width.saturating_sub(cells(&text));
            text.extend(std::iter::repeat_n(' ', blank));
            style = style.patch(theme.selected());
        }
        lines.push(Line::styled(text, style));
    }
    frame.render_widget(Paragraph::new(lines), area);
}
