//! Guesses runtime and handler from the files, so that `firn deploy DIR` needs no flags for the
//! usual layouts. A guess is always told to the user, and a flag always wins.

use super::Sources;

/// The language of a function, without its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Python,
    Node,
    /// A `bootstrap` that speaks the Runtime API itself.
    Provided,
}

impl Family {
    /// The runtime value of a version.
    pub fn runtime(self, version: &str) -> String {
        match self {
            Self::Python => format!("python{version}"),
            Self::Node => format!("nodejs{version}.x"),
            Self::Provided => self.newest().to_owned(),
        }
    }

    /// What AWS offers a new function now.
    pub const fn newest(self) -> &'static str {
        match self {
            Self::Python => "python3.14",
            Self::Node => "nodejs24.x",
            Self::Provided => "provided.al2023",
        }
    }
}

/// What the files look like.
#[derive(Debug, PartialEq, Eq)]
pub struct Guess {
    pub family: Family,
    pub handler: String,
    /// A runtime version that the sources ask for, such as `20` or `3.12`.
    pub version: Option<String>,
}

const PYTHON_FILES: [&str; 6] = [
    "lambda_function.py",
    "app.py",
    "main.py",
    "handler.py",
    "index.py",
    "function.py",
];
const PYTHON_HANDLERS: [&str; 4] = ["lambda_handler", "handler", "main", "handle"];
const NODE_STEMS: [&str; 6] = ["index", "app", "handler", "lambda", "main", "function"];
const NODE_EXTENSIONS: [&str; 3] = ["mjs", "js", "cjs"];
const NODE_HANDLERS: [&str; 3] = ["handler", "lambdaHandler", "main"];

/// Looks at the top folder, then at `src/`. `None` when nothing looks like a function.
pub fn guess(sources: &Sources) -> Option<Guess> {
    if sources.names().contains(&"bootstrap") {
        return Some(Guess {
            family: Family::Provided,
            handler: "bootstrap".into(),
            version: None,
        });
    }
    ["", "src/"]
        .into_iter()
        .find_map(|folder| node(sources, folder).or_else(|| python(sources, folder)))
}

/// The family a given runtime value belongs to.
pub fn family_of(runtime: &str) -> Option<Family> {
    [
        ("python", Family::Python),
        ("nodejs", Family::Node),
        ("provided", Family::Provided),
    ]
    .into_iter()
    .find_map(|(prefix, family)| runtime.starts_with(prefix).then_some(family))
}

/// The numbers in a runtime value, so that python3.9 comes before python3.12.
pub fn release_of(runtime: &str) -> Vec<u32> {
    runtime
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// The handler of a function whose runtime is known.
pub fn handler_for(sources: &Sources, family: Family) -> Option<String> {
    let look = match family {
        Family::Python => python,
        Family::Node => node,
        Family::Provided => return Some("bootstrap".into()),
    };
    ["", "src/"]
        .into_iter()
        .find_map(|folder| look(sources, folder))
        .map(|guess| guess.handler)
}

fn python(sources: &Sources, folder: &str) -> Option<Guess> {
    let names = sources.names();
    let known = PYTHON_FILES.iter().map(|file| format!("{folder}{file}"));
    let others = direct_children(&names, folder, &["py"]).map(str::to_owned);
    let (file, function) = known
        .filter(|file| names.contains(&file.as_str()))
        .chain(others)
        .find_map(|file| Some((file.clone(), python_function(&sources.text(&file)?)?)))?;
    let module = file.strip_suffix(".py")?.replace('/', ".");
    Some(Guess {
        family: Family::Python,
        handler: format!("{module}.{function}"),
        version: sources
            .text(".python-version")
            .and_then(|text| minor_version(&text)),
    })
}

fn python_function(text: &str) -> Option<&'static str> {
    PYTHON_HANDLERS.into_iter().find(|name| {
        text.lines().any(|line| {
            let definition = line
                .strip_prefix("async def ")
                .or_else(|| line.strip_prefix("def "))
                .and_then(|rest| rest.strip_prefix(name));
            let assignment = line.strip_prefix(name);
            definition.is_some_and(|rest| rest.trim_start().starts_with('('))
                || assignment.is_some_and(|rest| rest.trim_start().starts_with('='))
        })
    })
}

fn node(sources: &Sources, folder: &str) -> Option<Guess> {
    let names = sources.names();
    let package = sources
        .text("package.json")
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let main = package
        .as_ref()
        .and_then(|package| package.get("main")?.as_str())
        .map(|main| main.trim_start_matches("./").to_owned())
        .filter(|main| folder.is_empty() && names.contains(&main.as_str()));
    let known = NODE_STEMS
        .iter()
        .flat_map(|stem| {
            NODE_EXTENSIONS
                .iter()
                .map(move |ext| format!("{folder}{stem}.{ext}"))
        })
        .filter(|file| names.contains(&file.as_str()));
    let others = direct_children(&names, folder, &NODE_EXTENSIONS).map(str::to_owned);
    let (file, function) = main
        .into_iter()
        .chain(known)
        .chain(others)
        .find_map(|file| Some((file.clone(), node_function(&sources.text(&file)?)?)))?;
    let (module, _) = file.rsplit_once('.')?;
    let wanted = package
        .as_ref()
        .and_then(|package| package.get("engines")?.get("node")?.as_str())
        .map(str::to_owned)
        .or_else(|| sources.text(".nvmrc"));
    Some(Guess {
        family: Family::Node,
        handler: format!("{module}.{function}"),
        version: wanted.and_then(|text| first_number(&text)),
    })
}

fn node_function(text: &str) -> Option<&'static str> {
    NODE_HANDLERS.into_iter().find(|name| {
        let starts = [
            format!("export const {name} "),
            format!("export const {name}="),
            format!("export let {name} "),
            format!("export function {name}("),
            format!("export async function {name}("),
            format!("exports.{name} "),
            format!("exports.{name}="),
            format!("module.exports.{name} "),
            format!("module.exports.{name}="),
        ];
        let declared = text.lines().map(str::trim_start).any(|line| {
            starts.iter().any(|start| line.starts_with(start.as_str()))
                || is_export_list_with(line, name)
        });
        declared || compiled_export(text, name)
    })
}

/// `export { handler }`, `module.exports = { handler }` on one line.
fn is_export_list_with(line: &str, name: &str) -> bool {
    let list = line
        .strip_prefix("export")
        .or_else(|| line.strip_prefix("module.exports"))
        .map(|rest| rest.trim_start_matches([' ', '=']))
        .and_then(|rest| rest.strip_prefix('{'));
    list.is_some_and(|list| {
        list.split(['}', ',']).any(|item| {
            let exported = item.rsplit(" as ").next().unwrap_or(item);
            exported.split(':').next().unwrap_or(exported).trim() == name
        })
    })
}

/// What esbuild writes for CommonJS: a table of getters.
fn compiled_export(text: &str, name: &str) -> bool {
    text.contains("__export(") && text.contains(&format!("{name}: () =>"))
}

fn direct_children<'a>(
    names: &'a [&'a str],
    folder: &'a str,
    extensions: &'a [&'a str],
) -> impl Iterator<Item = &'a str> {
    names.iter().copied().filter(move |name| {
        let Some(rest) = name.strip_prefix(folder) else {
            return false;
        };
        let is_source = rest
            .rsplit_once('.')
            .is_some_and(|(_, extension)| extensions.contains(&extension));
        is_source && !rest.contains('/') && !rest.contains(".test.") && !rest.starts_with("test_")
    })
}

/// `3.12.4` → `3.12`.
fn minor_version(text: &str) -> Option<String> {
    let text = text.trim();
    let mut parts = text.split('.');
    let (major, minor) = (parts.next()?, parts.next()?);
    (major.parse::<u32>().is_ok() && minor.parse::<u32>().is_ok())
        .then(|| format!("{major}.{minor}"))
}

/// `>=20.1 <21`, `v20`, `20.x` → `20`.
fn first_number(text: &str) -> Option<String> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let number: String = text[start..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess_of(files: &[(&str, &str)]) -> Option<Guess> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        guess(&Sources::open(dir.path()).unwrap())
    }

    fn handler_of(files: &[(&str, &str)]) -> String {
        guess_of(files).unwrap().handler
    }

    #[test]
    fn python_handlers_are_found_by_file_and_function_name() {
        let handler = "def handler(event, context):\n    return 1\n";
        assert_eq!(handler_of(&[("app.py", handler)]), "app.handler");
        let console = "import json\n\ndef lambda_handler(event, context):\n    pass\n";
        assert_eq!(
            handler_of(&[("lambda_function.py", console), ("app.py", handler)]),
            "lambda_function.lambda_handler"
        );
        assert_eq!(
            handler_of(&[("thumbs.py", "handler = make()\n")]),
            "thumbs.handler"
        );
        assert_eq!(handler_of(&[("src/app.py", handler)]), "src.app.handler");
    }

    #[test]
    fn python_async_and_version_file_are_understood() {
        let guess = guess_of(&[
            ("main.py", "async def lambda_handler (e, c):\n  pass\n"),
            (".python-version", "3.12.4\n"),
        ])
        .unwrap();
        assert_eq!(guess.handler, "main.lambda_handler");
        assert_eq!(guess.version.as_deref(), Some("3.12"));
    }

    #[test]
    fn node_handlers_are_found_in_both_module_systems() {
        for text in [
            "export const handler = async () => 1;",
            "export async function handler(event) {}",
            "exports.handler = () => 1;",
            "module.exports.handler = f",
            "module.exports = { handler };",
            "const f = 1\nexport { f as handler };",
            "module.exports = { handler: f, other };",
        ] {
            assert_eq!(
                handler_of(&[("index.mjs", text)]),
                "index.handler",
                "{text}"
            );
        }
        assert_eq!(guess_of(&[("index.js", "const handler = 1;")]), None);
    }

    #[test]
    fn node_main_and_engines_come_from_package_json() {
        let guess = guess_of(&[
            (
                "package.json",
                r#"{"main":"./dist/fn.js","engines":{"node":">=20.1 <23"}}"#,
            ),
            ("dist/fn.js", "exports.handler = 1"),
            ("index.js", "exports.handler = 1"),
        ])
        .unwrap();
        assert_eq!(guess.handler, "dist/fn.handler");
        assert_eq!(guess.version.as_deref(), Some("20"));
    }

    #[test]
    fn releases_are_ordered_by_number() {
        assert!(release_of("python3.9") < release_of("python3.12"));
        assert_eq!(Family::Node.runtime("20"), "nodejs20.x");
    }

    #[test]
    fn bootstrap_wins_over_sources_beside_it() {
        let guess = guess_of(&[
            ("bootstrap", "#!/bin/sh"),
            ("app.py", "def handler(a, b): 1"),
        ]);
        assert_eq!(guess.unwrap().family, Family::Provided);
    }

    #[test]
    fn folder_without_a_handler_gives_no_guess() {
        assert_eq!(
            guess_of(&[("README.md", "hello"), ("lib.py", "x = 1")]),
            None
        );
    }

    #[test]
    fn known_runtime_limits_the_search_to_its_language() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("index.js"), "exports.handler = 1").unwrap();
        std::fs::write(dir.path().join("app.py"), "def handler(e, c): pass").unwrap();
        let sources = Sources::open(dir.path()).unwrap();
        assert_eq!(
            handler_for(&sources, Family::Python).as_deref(),
            Some("app.handler")
        );
        assert_eq!(
            handler_for(&sources, Family::Node).as_deref(),
            Some("index.handler")
        );
    }
}
