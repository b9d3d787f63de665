//! Texts of others on the page: names of files, labels, errors.

use std::fmt::{self, Write};

/// What is shown of a text.
const SHOWN: usize = 200;

/// A text as HTML, in an element or in an attribute. Characters that would not show, or change the order of
/// others, are replaced.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, character) in self.0.chars().enumerate() {
            if number == SHOWN {
                return f.write_char('…');
            }
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ if is_hidden(character) => f.write_char('\u{fffd}')?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup_or_hidden() {
        let text = "</style><script>\"'&\u{0}\u{1b}[2J\u{202e}";
        assert_eq!(
            Escaped(text).to_string(),
            "&lt;/style&gt;&lt;script&gt;&quot;&#39;&amp;\u{fffd}\u{fffd}[2J\u{fffd}"
        );
        let long = "é".repeat(SHOWN + 1);
        let shown = Escaped(&long).to_string();
        assert_eq!(shown.chars().count(), SHOWN + 1);
        assert!(shown.ends_with('…'));
    }
}
