//! The last fifteen minutes, a sample a second.

use std::collections::VecDeque;

use super::data::HistoryPart;

/// Samples that are kept: as many as a server keeps.
const SAMPLES: usize = 900;

/// What is sampled, with the names of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Series {
    MessagesReceived,
    MessagesSent,
    BytesReceived,
    BytesSent,
    Connections,
    Opened,
    Closed,
    Errors,
    Dropped,
    Lost,
    RateLimited,
    Throttled,
    Shed,
    Suspended,
    Resumed,
    Expired,
    Unacknowledged,
    QueuedBytes,
    BufferBytes,
    ResidentBytes,
    HandlerP50,
    HandlerP95,
    HandlerP99,
    HandlerMax,
    PingP50,
    PingP99,
    RequestP50,
    RequestP99,
}

impl Series {
    pub(super) const ALL: [(Series, &'static str); 28] = [
        (Series::MessagesReceived, "messages_received"),
        (Series::MessagesSent, "messages_sent"),
        (Series::BytesReceived, "bytes_received"),
        (Series::BytesSent, "bytes_sent"),
        (Series::Connections, "connections"),
        (Series::Opened, "opened"),
        (Series::Closed, "closed"),
        (Series::Errors, "errors"),
        (Series::Dropped, "dropped"),
        (Series::Lost, "lost"),
        (Series::RateLimited, "rate_limited"),
        (Series::Throttled, "throttled"),
        (Series::Shed, "shed"),
        (Series::Suspended, "suspended"),
        (Series::Resumed, "resumed"),
        (Series::Expired, "expired"),
        (Series::Unacknowledged, "unacknowledged"),
        (Series::QueuedBytes, "queued_bytes"),
        (Series::BufferBytes, "buffer_bytes"),
        (Series::ResidentBytes, "resident_bytes"),
        (Series::HandlerP50, "handler_p50_us"),
        (Series::HandlerP95, "handler_p95_us"),
        (Series::HandlerP99, "handler_p99_us"),
        (Series::HandlerMax, "handler_max_us"),
        (Series::PingP50, "ping_p50_us"),
        (Series::PingP99, "ping_p99_us"),
        (Series::RequestP50, "request_p50_us"),
        (Series::RequestP99, "request_p99_us"),
    ];
}

/// Samples of every series, all equally many.
#[derive(Debug, Default)]
pub(super) struct History {
    next: u64,
    columns: [VecDeque<Option<f64>>; Series::ALL.len()],
}

impl History {
    /// The number from which samples are missing.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn clear(&mut self) {
        *self = History::default();
    }

    /// Adds what is new. A part that does not go on where the last one ended begins anew.
    pub(super) fn extend(&mut self, part: &HistoryPart) {
        if part.first > self.next || part.next < self.next {
            self.clear();
        }
        let Some(new) = part.next.checked_sub(part.first.max(self.next)) else {
            return;
        };
        let new = usize::try_from(new).unwrap_or(SAMPLES).min(SAMPLES);
        for (column, (_, name)) in self.columns.iter_mut().zip(Series::ALL) {
            let given = part.columns.get(name).map_or(&[][..], Vec::as_slice);
            // Columns end together; one that is short has gaps in front.
            let given = &given[given.len().saturating_sub(new)..];
            column.extend(std::iter::repeat_n(None, new - given.len()));
            column.extend(
                given
                    .iter()
                    .map(|value| value.filter(|value| value.is_finite())),
            );
            column.drain(..column.len().saturating_sub(SAMPLES));
        }
        self.next = part.next;
    }

    /// The last samples, at most `count`.
    pub(super) fn last(&self, series: Series, count: usize) -> impl Iterator<Item = Option<f64>> {
        let column = &self.columns[series as usize];
        column
            .iter()
            .skip(column.len().saturating_sub(count))
            .copied()
    }

    /// The last sample.
    pub(super) fn now(&self, series: Series) -> Option<f64> {
        self.columns[series as usize].back().copied().flatten()
    }

    /// The last sample that is there, of the last minute: not every second has a PING.
    pub(super) fn lately(&self, series: Series) -> Option<f64> {
        let column = &self.columns[series as usize];
        column.iter().rev().take(60).find_map(|value| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(first: u64, values: &[f64]) -> HistoryPart {
        let column = values.iter().map(|value| Some(*value)).collect();
        HistoryPart {
            first,
            next: first + values.len() as u64,
            columns: [("messages_sent".to_owned(), column)].into(),
        }
    }

    fn sent(history: &History) -> Vec<f64> {
        history
            .last(Series::MessagesSent, SAMPLES)
            .flatten()
            .collect()
    }

    #[test]
    fn series_stand_where_their_number_says() {
        for (index, (series, _)) in Series::ALL.iter().enumerate() {
            assert_eq!(*series as usize, index);
        }
    }

    #[test]
    fn parts_are_put_together_and_none_counts_twice() {
        let mut history = History::default();
        history.extend(&part(0, &[1.0, 2.0]));
        history.extend(&part(1, &[2.0, 3.0]));
        history.extend(&part(3, &[]));
        assert_eq!(sent(&history), [1.0, 2.0, 3.0]);
        assert_eq!(history.now(Series::Lost), None);
        assert_eq!(history.last(Series::Lost, 9).count(), 3);
        // A server that was started again counts from the beginning.
        history.extend(&part(0, &[9.0]));
        assert_eq!(sent(&history), [9.0]);
    }

    #[test]
    fn only_so_many_are_kept_whatever_is_claimed() {
        let mut history = History::default();
        history.extend(&part(0, &[1.0; 2_000]));
        assert_eq!(sent(&history).len(), SAMPLES);
        let mut lie = part(0, &[f64::INFINITY]);
        lie.next = u64::MAX;
        history.extend(&lie);
        assert_eq!(history.last(Series::Lost, usize::MAX).count(), SAMPLES);
        assert_eq!(history.now(Series::MessagesSent), None);
    }
}
