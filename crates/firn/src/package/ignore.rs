//! `.firnignore`: which files of a folder stay out of the package.
//!
//! The format is gitignore's: one pattern a line, `#` comments, a leading `!` brings a file back, a
//! leading or inner `/` anchors the pattern at the folder, a trailing `/` means folders only, `*`
//! and `?` stay within a name, `**` crosses folders. Character classes are not supported.

/// Files that no function needs: version control, caches, editor droppings. `node_modules` stays
/// (it holds the dependencies), only its shims and caches go.
const ALWAYS: &str = "
.git/
.hg/
.svn/
.firnignore
.DS_Store
__pycache__/
*.pyc
.pytest_cache/
.mypy_cache/
.venv/
node_modules/.bin/
node_modules/.cache/
";

/// An ordered list of patterns; the last one that matches decides.
#[derive(Debug)]
pub struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    pattern: Vec<u8>,
    brings_back: bool,
    folders_only: bool,
    anchored: bool,
}

impl Rules {
    /// The built-in patterns followed by those of a `.firnignore`.
    pub fn new(firnignore: &str) -> Self {
        Self(
            ALWAYS
                .lines()
                .chain(firnignore.lines())
                .filter_map(parse)
                .collect(),
        )
    }

    /// Whether `name` (relative, with `/`) stays out.
    pub fn excludes(&self, name: &str, is_folder: bool) -> bool {
        self.0
            .iter()
            .rev()
            .find(|rule| rule.matches(name, is_folder))
            .is_some_and(|rule| !rule.brings_back)
    }
}

fn parse(line: &str) -> Option<Rule> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (brings_back, line) = match line.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (folders_only, line) = match line.strip_suffix('/') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let anchored = line.contains('/');
    let pattern = line.strip_prefix('/').unwrap_or(line);
    (!pattern.is_empty()).then(|| Rule {
        pattern: pattern.as_bytes().to_vec(),
        brings_back,
        folders_only,
        anchored,
    })
}

impl Rule {
    fn matches(&self, name: &str, is_folder: bool) -> bool {
        if self.folders_only && !is_folder {
            return false;
        }
        let subject = match name.rsplit_once('/') {
            Some((_, last)) if !self.anchored => last,
            _ => name,
        };
        glob(&self.pattern, subject.as_bytes())
    }
}

/// Matches with one backtracking point per kind of star; only `**/` recurses, once per folder.
fn glob(pattern: &[u8], subject: &[u8]) -> bool {
    let (mut p, mut s) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    let mut double_star: Option<(usize, usize)> = None;
    loop {
        if pattern[p..].starts_with(b"**") {
            p += 2;
            // `**/x` also matches `x` itself.
            if pattern.get(p) == Some(&b'/') {
                p += 1;
                if glob(&pattern[p..], &subject[s..]) {
                    return true;
                }
                match subject[s..].iter().position(|&c| c == b'/') {
                    Some(slash) => {
                        s += slash + 1;
                        p -= 3;
                        continue;
                    }
                    None => return false,
                }
            }
            double_star = Some((p, s));
            star = None;
            continue;
        }
        match (pattern.get(p), subject.get(s)) {
            (Some(b'*'), _) => {
                p += 1;
                star = Some((p, s));
            }
            (Some(b'?'), Some(c)) if *c != b'/' => (p, s) = (p + 1, s + 1),
            (Some(a), Some(b)) if a == b => (p, s) = (p + 1, s + 1),
            (None, None) => return true,
            _ => match retry(subject, &mut star, &mut double_star) {
                Some(next) => (p, s) = next,
                None => return false,
            },
        }
    }
}

fn retry(
    subject: &[u8],
    star: &mut Option<(usize, usize)>,
    double_star: &mut Option<(usize, usize)>,
) -> Option<(usize, usize)> {
    if let Some((after, at)) = star {
        if subject.get(*at).is_some_and(|&c| c != b'/') {
            *at += 1;
            return Some((*after, *at));
        }
        *star = None;
    }
    let (after, at) = double_star.as_mut()?;
    if *at >= subject.len() {
        return None;
    }
    *at += 1;
    Some((*after, *at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(rules: &str, name: &str) -> bool {
        Rules::new(rules).excludes(name, false)
    }

    #[test]
    fn version_control_and_bytecode_stay_out_without_a_file() {
        let rules = Rules::new("");
        assert!(rules.excludes(".git", true));
        assert!(rules.excludes("pkg/__pycache__", true));
        assert!(rules.excludes("pkg/mod.pyc", false));
        assert!(rules.excludes("node_modules/.bin", true));
        assert!(!rules.excludes("node_modules", true));
        assert!(!rules.excludes("node_modules/left-pad/index.js", false));
    }

    #[test]
    fn name_pattern_matches_at_any_depth_and_anchored_one_only_at_the_top() {
        assert!(excludes("*.log", "a/b/c.log"));
        assert!(excludes("/*.log", "c.log"));
        assert!(!excludes("/*.log", "a/c.log"));
        assert!(excludes("docs/*.md", "docs/a.md"));
        assert!(!excludes("docs/*.md", "docs/deep/a.md"));
    }

    #[test]
    fn double_star_crosses_folders() {
        assert!(excludes("docs/**", "docs/deep/a.md"));
        assert!(excludes("**/test/*.py", "a/b/test/x.py"));
        assert!(excludes("**/test/*.py", "test/x.py"));
        assert!(!excludes("**/test/*.py", "test/deep/x.py"));
    }

    #[test]
    fn exclamation_mark_brings_a_file_back() {
        assert!(!excludes("*.log\n!keep.log", "keep.log"));
        assert!(excludes("*.log\n!keep.log", "other.log"));
    }

    #[test]
    fn question_mark_matches_one_character_of_a_name() {
        assert!(excludes("a?c", "abc"));
        assert!(!excludes("x/a?c", "x/a/c"));
    }

    #[test]
    fn comments_and_blank_lines_are_no_patterns() {
        assert!(!excludes("# *.py\n\n", "app.py"));
    }
}
