//! How wide text is, and how it breaks into lines.
//!
//! A picture is made before anybody knows which font shows it, so text is measured in one of the
//! widest that are usual; in narrower ones it has room to spare.

/// Widths of the characters from space to `~` in DejaVu Sans, in hundredths of the font's size.
const REGULAR: [u8; 95] = [
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 34, 34, 84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75,
    79, 60, 79, 69, 63, 61, 73, 68, 99, 69, 61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35,
    63, 63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84,
];
/// The same in DejaVu Sans Bold.
const BOLD: [u8; 95] = [
    35, 46, 52, 84, 70, 100, 87, 31, 46, 46, 52, 84, 38, 42, 38, 37, 70, 70, 70, 70, 70, 70, 70,
    70, 70, 70, 40, 40, 84, 84, 84, 58, 100, 77, 76, 73, 83, 68, 68, 82, 84, 37, 37, 77, 64, 100,
    84, 85, 73, 85, 77, 72, 68, 81, 77, 110, 77, 72, 73, 46, 37, 46, 84, 50, 50, 67, 72, 59, 72,
    68, 44, 72, 71, 34, 34, 67, 34, 104, 71, 69, 72, 72, 49, 60, 48, 71, 65, 92, 65, 65, 58, 71,
    37, 71, 84,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Font {
    pub size: u16,
    pub bold: bool,
}

impl Font {
    /// The width of a line, rounded up.
    pub fn width(self, text: &str) -> f64 {
        let hundredths: u32 = text.chars().map(|c| self.hundredths(c)).sum();
        (f64::from(hundredths) * f64::from(self.size) / 100.0).ceil()
    }

    fn hundredths(self, c: char) -> u32 {
        let table = if self.bold { &BOLD } else { &REGULAR };
        let printable = (c as usize).checked_sub(32).and_then(|at| table.get(at));
        match (printable, c as u32) {
            (Some(width), _) => u32::from(*width),
            // Joiners and variation selectors.
            (None, 0x200b..=0x200f | 0xfe00..=0xfe0f | 0xe_0100..=0xe_01ef) => 0,
            (None, 0x80..=0x52f) => 90,
            (None, 0x530..=0x10ff | 0x1e00..=0x20ff) => 105,
            (None, _) => 140,
        }
    }

    /// Breaks a text into at most `max_lines` lines of at most `max_width`. What does not fit ends
    /// in an ellipsis.
    pub fn wrap(self, text: &str, max_width: f64, max_lines: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut line = String::new();
        for piece in pieces(text) {
            let joined = format!("{line}{piece}");
            if self.width(joined.trim_end()) <= max_width {
                line = joined;
                continue;
            }
            if !line.trim().is_empty() {
                lines.push(line.trim_end().to_owned());
            }
            line = piece.trim_start().to_owned();
            while self.width(line.trim_end()) > max_width {
                let head = self.head(&line, max_width);
                line = line[head.len()..].to_owned();
                lines.push(head);
            }
        }
        if !line.trim().is_empty() || lines.is_empty() {
            lines.push(line.trim_end().to_owned());
        }
        if lines.len() > max_lines {
            lines.truncate(max_lines);
            if let Some(last) = lines.last_mut() {
                *last = self.cut(last, max_width);
            }
        }
        lines
    }

    /// The text, or its beginning with an ellipsis if it is too wide.
    pub fn shorten(self, text: &str, max_width: f64) -> String {
        if self.width(text) <= max_width {
            return text.to_owned();
        }
        self.cut(text, max_width)
    }

    /// The text's beginning and an ellipsis.
    fn cut(self, text: &str, max_width: f64) -> String {
        let room = max_width - self.width("\u{2026}");
        format!("{}\u{2026}", self.head(text, room).trim_end())
    }

    /// As many characters as fit, but at least one.
    fn head(self, text: &str, max_width: f64) -> String {
        let mut head = String::new();
        for c in text.chars() {
            head.push(c);
            if self.width(&head) > max_width && head.chars().count() > 1 {
                head.pop();
                break;
            }
        }
        head
    }
}

/// Splits where a line may break: behind spaces and punctuation, and between the words of
/// `camelCase`.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    let mut last = ' ';
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        let camel = c.is_uppercase() && last.is_lowercase();
        let behind = " -_./:,;|&".contains(last) && !" -_./:,;|&".contains(c);
        if (camel || behind) && !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
        }
        piece.push(c);
        last = c;
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// Text for XML, in elements and in attributes. Characters that XML cannot hold become spaces.
pub fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            '\u{fffe}' | '\u{ffff}' => escaped.push(' '),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const FONT: Font = Font {
        size: 10,
        bold: false,
    };

    #[test]
    fn lines_break_at_words_and_between_the_words_of_a_name() {
        assert_eq!(
            FONT.wrap("check the stock", 60.0, 3),
            ["check the", "stock"]
        );
        assert_eq!(
            FONT.wrap("CheckStockOfOrder", 65.0, 3),
            ["CheckStock", "OfOrder"]
        );
        assert_eq!(FONT.wrap("", 60.0, 3), [""]);
    }

    #[test]
    fn no_line_is_wider_than_asked() {
        let long = "x".repeat(80);
        for line in FONT.wrap(&long, 100.0, 9) {
            assert!(FONT.width(&line) <= 100.0, "{line}");
        }
    }

    #[test]
    fn what_does_not_fit_ends_in_an_ellipsis() {
        let lines = FONT.wrap("one two three four five six", 40.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('\u{2026}'), "{lines:?}");
        assert!(FONT.width(&lines[1]) <= 40.0);
        assert_eq!(FONT.shorten("short", 100.0), "short");
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(
            xml("<a b='\"'>&\u{1}"),
            "&lt;a b=&#39;&quot;&#39;&gt;&amp; "
        );
    }
}
