//! Plots of the last minutes.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Sparkline, SparklineBar};

use super::super::app::App;
use super::super::format::{bytes, count, micros};
use super::super::history::{History, Series};
use super::super::snapshot::facts;

/// A plot is worth having in so many cells.
const WIDTH_MIN: u16 = 34;

/// Plots beside each other.
const COLUMNS_MAX: u16 = 3;

/// A series that is plotted, and what is written above it.
struct Panel {
    series: Series,
    /// In so many characters, where something can be left out.
    title: fn(&History, usize) -> String,
}

const PANELS: [Panel; 12] = [
    Panel {
        series: Series::MessagesReceived,
        title: |history, _| {
            format!(
                "messages in  {}/s",
                number(history, Series::MessagesReceived)
            )
        },
    },
    Panel {
        series: Series::MessagesSent,
        title: |history, _| format!("messages out  {}/s", number(history, Series::MessagesSent)),
    },
    Panel {
        series: Series::BytesReceived,
        title: |history, _| format!("bytes in  {}/s", size(history, Series::BytesReceived)),
    },
    Panel {
        series: Series::BytesSent,
        title: |history, _| format!("bytes out  {}/s", size(history, Series::BytesSent)),
    },
    Panel {
        series: Series::HandlerP99,
        title: |history, room| {
            let [p50, p95, p99] = [Series::HandlerP50, Series::HandlerP95, Series::HandlerP99]
                .map(|series| micros(history.lately(series)));
            let all = format!("handler p50 {p50}  p95 {p95}  p99 {p99}");
            match all.chars().count() <= room {
                true => all,
                // What is plotted is p99.
                false => format!("handler p50 {p50}  p99 {p99}"),
            }
        },
    },
    Panel {
        series: Series::PingP99,
        title: |history, _| {
            format!(
                "ping p50 {}  p99 {}",
                micros(history.lately(Series::PingP50)),
                micros(history.lately(Series::PingP99))
            )
        },
    },
    Panel {
        series: Series::Connections,
        title: |history, _| {
            format!(
                "connections {}  +{} -{} /s",
                number(history, Series::Connections),
                number(history, Series::Opened),
                number(history, Series::Closed)
            )
        },
    },
    Panel {
        series: Series::QueuedBytes,
        title: |history, _| {
            format!(
                "queued {}  buffers {}",
                size(history, Series::QueuedBytes),
                size(history, Series::BufferBytes)
            )
        },
    },
    Panel {
        series: Series::Dropped,
        title: |history, _| {
            format!(
                "dropped {}/s  lost {}/s",
                number(history, Series::Dropped),
                number(history, Series::Lost)
            )
        },
    },
    Panel {
        series: Series::Errors,
        title: |history, _| format!("errors {}/s", number(history, Series::Errors)),
    },
    Panel {
        series: Series::Suspended,
        title: |history, _| {
            format!(
                "suspended {}  +{} -{} /s",
                number(history, Series::Suspended),
                number(history, Series::Resumed),
                number(history, Series::Expired)
            )
        },
    },
    Panel {
        series: Series::RateLimited,
        title: |history, _| {
            format!(
                "rate limited {}/s  waits {}/s",
                number(history, Series::RateLimited),
                number(history, Series::Throttled)
            )
        },
    },
];

fn number(history: &History, series: Series) -> String {
    history.now(series).map_or_else(|| "-".to_owned(), count)
}

fn size(history: &History, series: Series) -> String {
    history.now(series).map_or_else(|| "-".to_owned(), bytes)
}

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let columns = (area.width / WIDTH_MIN).clamp(1, COLUMNS_MAX);
    let rows = (PANELS.len() as u16).div_ceil(columns);
    if area.height < 2 * rows {
        // Numbers say more than plots that are cut off.
        let lines: Vec<_> = facts(&app.history)
            .into_iter()
            .map(|(name, text)| Line::raw(format!("{name:<12} {text}")))
            .collect();
        frame.render_widget(Paragraph::new(lines), area);
        return;
    }
    for (index, panel) in PANELS.iter().enumerate() {
        let (row, column) = (index as u16 / columns, index as u16 % columns);
        // What is left over goes to the rows from the top, and to the columns from the left.
        let (y, next_y) = (area.height * row / rows, area.height * (row + 1) / rows);
        let (x, next_x) = (
            area.width * column / columns,
            area.width * (column + 1) / columns,
        );
        let place = Rect {
            x: area.x + x,
            y: area.y + y,
            // A gap to the next one.
            width: (next_x - x).saturating_sub(1),
            height: next_y - y,
        };
        draw_panel(app, panel, frame, place);
    }
}

fn draw_panel(app: &App, panel: &Panel, frame: &mut Frame<'_>, area: Rect) {
    let mut plot = area;
    let title = super::cut_top(&mut plot);
    let text = (panel.title)(&app.history, usize::from(title.width));
    frame.render_widget(Line::styled(text, app.theme.head()), title);
    let samples: Vec<_> = app
        .history
        .last(panel.series, usize::from(plot.width))
        .collect();
    // The newest stand at the right edge.
    let missing = usize::from(plot.width).saturating_sub(samples.len());
    let bars = std::iter::repeat_n(None, missing).chain(samples);
    // Bars are whole numbers, and some values are small.
    let bars = bars.map(|value| SparklineBar::from(value.map(|value| (value * 100.0) as u64)));
    let bars: Vec<_> = bars.collect();
    frame.render_widget(
        Sparkline::default().data(bars).style(app.theme.plot()),
        plot,
    );
}
