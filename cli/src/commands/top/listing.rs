//! A list that is longer than the screen, and of which only a page may be here.

/// Rows, and where one looks at them.
#[derive(Debug)]
pub(super) struct Listing<T> {
    rows: Vec<T>,
    /// The place of the first of the rows in the whole list.
    at: usize,
    /// The length of the whole list.
    len: usize,
    cursor: usize,
    /// The first row on the screen.
    top: usize,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Listing {
            rows: Vec::new(),
            at: 0,
            len: 0,
            cursor: 0,
            top: 0,
        }
    }
}

impl<T> Listing<T> {
    /// Takes a page of a list.
    pub(super) fn set(&mut self, rows: Vec<T>, at: usize, len: usize) {
        self.rows = rows;
        self.at = at;
        self.len = len;
        self.cursor = self.cursor.min(len.saturating_sub(1));
    }

    /// Takes a whole list.
    pub(super) fn set_all(&mut self, rows: Vec<T>) {
        let len = rows.len();
        self.set(rows, 0, len);
    }

    /// Puts new rows before all others, and forgets the last ones beyond a number.
    pub(super) fn prepend(&mut self, new: impl Iterator<Item = T>, most: usize) {
        let old = std::mem::take(&mut self.rows);
        self.set_all(new.chain(old).take(most).collect());
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first row on a screen with so many of them.
    pub(super) fn top(&mut self, page: usize) -> usize {
        let page = page.max(1);
        let last = self.len.saturating_sub(page);
        let earliest = self.cursor.saturating_sub(page - 1);
        self.top = self
            .top
            .clamp(earliest, self.cursor)
            .min(last.max(earliest));
        self.top
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    pub(super) fn down(&mut self, rows: usize) {
        self.cursor = self
            .cursor
            .saturating_add(rows)
            .min(self.len.saturating_sub(1));
    }

    pub(super) fn up(&mut self, rows: usize) {
        self.cursor = self.cursor.saturating_sub(rows);
    }

    pub(super) fn first(&mut self) {
        self.cursor = 0;
    }

    pub(super) fn last(&mut self) {
        self.cursor = self.len.saturating_sub(1);
    }

    /// A row, if it is here.
    pub(super) fn row(&self, place: usize) -> Option<&T> {
        self.rows.get(place.checked_sub(self.at)?)
    }

    /// The row under the cursor, if it is here.
    pub(super) fn selected(&self) -> Option<&T> {
        self.row(self.cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_always_on_the_screen() {
        let mut listing = Listing::default();
        listing.set(vec![0; 10], 0, 100);
        listing.down(35);
        assert_eq!(listing.top(10), 26);
        assert_eq!(listing.row(35), None);
        listing.set((26..36).collect(), 26, 100);
        assert_eq!(listing.selected(), Some(&35));
        listing.up(3);
        assert_eq!(listing.top(10), 26);
        listing.last();
        assert_eq!(listing.top(10), 90);
        // Fewer than before.
        listing.set(vec![1, 2], 0, 2);
        assert_eq!((listing.top(10), listing.cursor()), (0, 1));
        listing.set(vec![], 0, 0);
        listing.down(1);
        assert_eq!((listing.top(0), listing.selected()), (0, None));
    }

    #[test]
    fn what_is_new_comes_first() {
        let mut listing = Listing::default();
        listing.prepend([3, 2, 1].into_iter(), 4);
        listing.prepend([5, 4].into_iter(), 4);
        assert_eq!(listing.len(), 4);
        assert_eq!((listing.row(0), listing.row(3)), (Some(&5), Some(&2)));
    }
}
