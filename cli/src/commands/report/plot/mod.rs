//! Drawings in SVG: they need no script, print, and take the colours of the page.

mod scale;

use std::fmt::Write;

use self::scale::nines;
pub(super) use self::scale::{Scale, Unit};
use super::text::Escaped;

/// Colours that the page has; behind them they are used again with other dashes.
const COLOURS: usize = 8;
const DASHES: usize = 4;

/// Where the axes are, in a drawing of 720 by 300.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 688.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 252.0;

/// Up to so many points are marked, because few of them make no line.
const MARKED: usize = 40;

/// Up to so many parts have a text that shows when one points at them.
const POINTED: usize = 600;

pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) style: Style,
    /// With a gap where there is none.
    pub(super) points: Vec<Option<(f64, f64)>>,
}

/// Colour and dashes, so that nobody needs to see the colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    colour: usize,
    dash: usize,
}

impl Style {
    /// Of the series with this number.
    pub(super) fn of(number: usize) -> Self {
        Style {
            colour: number % COLOURS,
            dash: (number % COLOURS + number / COLOURS) % DASHES,
        }
    }

    fn class(self) -> String {
        format!("c{} d{}", self.colour, self.dash)
    }
}

/// A part of the x axis with a text that shows when one points at it.
pub(super) struct Hint {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) text: String,
}

pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) lines: Vec<Line<'a>>,
    pub(super) hints: Vec<Hint>,
}

impl Plot<'_> {
    /// The drawing with its title and legend, as HTML.
    pub(super) fn to_html(&self) -> String {
        let mut html = String::new();
        let title = Escaped(self.title);
        let _ = write!(
            html,
            "<figure><figcaption>{title}</figcaption><ul class=\"legend\">"
        );
        for line in &self.lines {
            let _ = write!(
                html,
                "<li><svg class=\"key\" viewBox=\"0 0 28 8\" aria-hidden=\"true\">\
                 <path class=\"{}\" d=\"M0 4H28\"/></svg>{}</li>",
                line.style.class(),
                Escaped(line.name)
            );
        }
        let _ = write!(
            html,
            "</ul><svg class=\"plot\" viewBox=\"0 0 720 300\" role=\"img\" aria-label=\"{title}\">"
        );
        self.axes(&mut html);
        for line in &self.lines {
            self.line(&mut html, line);
        }
        if self.hints.len() <= POINTED {
            for hint in &self.hints {
                let (from, to) = (self.x(hint.from), self.x(hint.to));
                let _ = write!(
                    html,
                    "<rect class=\"hint\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" \
                     height=\"{:.1}\"><title>{}</title></rect>",
                    (to - from).max(0.0),
                    BOTTOM - TOP,
                    Escaped(&hint.text)
                );
            }
        }
        html.push_str("</svg></figure>\n");
        html
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - self.y.place(value) * (BOTTOM - TOP)
    }

    fn axes(&self, html: &mut String) {
        for tick in self.y.ticks() {
            let y = BOTTOM - tick.at * (BOTTOM - TOP);
            let _ = write!(
                html,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>\
                 <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                y + 4.5,
                tick.text
            );
        }
        for tick in self.x.ticks() {
            let x = LEFT + tick.at * (RIGHT - LEFT);
            let _ = write!(
                html,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/>\
                 <text class=\"tick middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                BOTTOM + 20.0,
                tick.text
            );
        }
        let _ = write!(
            html,
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>\
             <text class=\"name middle\" x=\"{:.1}\" y=\"292\">{}</text>",
            (LEFT + RIGHT) / 2.0,
            match self.x {
                Scale::Nines { .. } => "percentile",
                _ => "time from the beginning",
            }
        );
    }

    fn line(&self, html: &mut String, line: &Line<'_>) {
        let mut path = String::new();
        let mut marks = String::new();
        let mut is_drawing = false;
        let is_marked = line.points.len() <= MARKED;
        for (index, point) in line.points.iter().enumerate() {
            let Some((x, y)) = *point else {
                is_drawing = false;
                continue;
            };
            let (x, y) = (self.x(x), self.y(y));
            let command = if is_drawing { 'L' } else { 'M' };
            let _ = write!(path, "{command}{x:.1} {y:.1}");
            // One between two gaps would not be seen.
            let is_alone = !is_drawing && line.points.get(index + 1).is_none_or(Option::is_none);
            if is_marked || is_alone {
                let _ = write!(marks, "M{x:.1} {y:.1}h0");
            }
            is_drawing = true;
        }
        let class = line.style.class();
        let _ = write!(html, "<path class=\"line {class}\" d=\"{path}\"/>");
        if !marks.is_empty() {
            let colour = line.style.colour;
            let _ = write!(html, "<path class=\"mark c{colour}\" d=\"{marks}\"/>");
        }
    }
}

/// A bar of this share of the width, from 0 to 1.
pub(super) fn bar(share: f64, number: usize) -> String {
    let share = 100.0 * share.clamp(0.0, 1.0);
    let Style { colour, .. } = Style::of(number);
    format!(
        "<svg class=\"bar\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"b{colour}\" width=\"{share:.2}\" height=\"10\"/></svg>"
    )
}

/// So many nines has the slowest of `count` messages: 99.9 % for one of a thousand.
fn nines_of(count: u64) -> f64 {
    (count.max(1) as f64).log10()
}

/// How many nines a scale of percentiles needs for so many messages; the last one is at its end.
pub(super) fn nines_scale(count: u64) -> Scale {
    Scale::Nines {
        max: nines_of(count).clamp(2.0, 7.0),
    }
}

/// Not farther to the right than the slowest of all messages can be.
pub(super) fn percentile_of(percentile: f64, count: u64) -> f64 {
    let most = nines_of(count);
    match nines(percentile) > most {
        true => 100.0 - 100.0 / 10_f64.powf(most),
        false => percentile,
    }
}
