//! Layers of configuration values: defaults, then a TOML file, then the environment, then flags.
//! Each layer only overwrites what it names, and the source of every value is remembered.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File(PathBuf),
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "{name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Merged values with the source of each leaf, keyed by its dotted path.
#[derive(Debug)]
pub struct Layers {
    values: Table,
    sources: BTreeMap<String, Source>,
    /// Paths that may be set although they have no default. `a.*` is every key of a section, `a.**`
    /// everything below it.
    optional: &'static [&'static str],
}

impl Layers {
    /// Starts with the defaults.
    pub fn new(defaults: Table, optional: &'static [&'static str]) -> Self {
        let mut sources = BTreeMap::new();
        leaves(&defaults, "", &mut |path, _| {
            sources.insert(path.to_owned(), Source::Default);
        });
        Self {
            values: defaults,
            sources,
            optional,
        }
    }

    /// Lays a file's table over what is there. Unknown keys are found when the whole is read into
    /// its typed form.
    pub fn apply_file(&mut self, path: PathBuf, text: &str) -> Result<()> {
        let table: Table = text
            .parse()
            .with_context(|| format!("{} is not valid TOML", path.display()))?;
        let mut settings = Vec::new();
        leaves(&table, "", &mut |key, value| {
            settings.push((key.to_owned(), value.clone()))
        });
        for (key, value) in settings {
            self.check_known(&key)
                .with_context(|| format!("in {}", path.display()))?;
            self.set(&key, value, Source::File(path.clone()));
        }
        Ok(())
    }

    /// Lays `FIRN_…` variables over what is there: `gateway.max_connections` is
    /// `FIRN_GATEWAY_MAX_CONNECTIONS`. Lists are comma-separated. Returns the `FIRN_…` names that
    /// mean nothing, which are likely typing errors.
    pub fn apply_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Vec<String>> {
        let keys: BTreeMap<String, String> = self
            .sources
            .keys()
            .map(String::as_str)
            .chain(self.optional.iter().copied())
            .map(|key| {
                let name = format!("FIRN_{}", key.replace('.', "_").to_uppercase());
                (name, key.to_owned())
            })
            .collect();
        let mut unknown = Vec::new();
        for (name, text) in variables.filter(|(name, _)| name.starts_with("FIRN_")) {
            let Some(key) = keys.get(&name).cloned().or_else(|| self.free_key(&name)) else {
                unknown.push(name);
                continue;
            };
            let value = parse_like(self.get(&key), &text)
                .with_context(|| format!("{name}={text:?} is not a value for {key}"))?;
            self.set(&key, value, Source::Environment(name));
        }
        Ok(unknown)
    }

    /// Sets one value from a flag.
    pub fn apply_flag(&mut self, flag: &'static str, key: &str, value: impl Into<Value>) {
        self.set(key, value.into(), Source::Flag(flag));
    }

    /// Sets a default that is only known at run time, unless something else already set the value.
    pub fn default_to(&mut self, key: &str, value: impl Into<Value>) {
        if self
            .source(key)
            .is_none_or(|source| *source == Source::Default)
        {
            self.set(key, value.into(), Source::Default);
        }
    }

    /// The value at a dotted path.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let (last, folders) = split(key);
        folders
            .iter()
            .try_fold(&self.values, |table, name| table.get(*name)?.as_table())?
            .get(last)
    }

    pub fn source(&self, key: &str) -> Option<&Source> {
        self.sources.get(key)
    }

    /// Every leaf with its value and source, ordered by path.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value, &Source)> {
        self.sources
            .iter()
            .filter_map(|(key, source)| Some((key.as_str(), self.get(key)?, source)))
    }

    /// The merged values.
    pub const fn values(&self) -> &Table {
        &self.values
    }

    /// Puts a value into another form without a change of its source.
    pub fn replace(&mut self, key: &str, value: impl Into<Value>) {
        let source = self.source(key).cloned().unwrap_or(Source::Default);
        self.set(key, value.into(), source);
    }

    fn set(&mut self, key: &str, value: Value, source: Source) {
        let (last, folders) = split(key);
        let mut table = &mut self.values;
        for name in folders {
            let entry = table
                .entry(name)
                .or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            let Value::Table(inner) = entry else { return };
            table = inner;
        }
        table.insert(last.to_owned(), value);
        self.sources.insert(key.to_owned(), source);
    }

    fn is_optional(&self, key: &str) -> bool {
        self.optional.iter().any(|known| {
            if let Some(section) = known.strip_suffix("**") {
                return key.starts_with(section);
            }
            match known.strip_suffix('*') {
                Some(section) => key
                    .strip_prefix(section)
                    .is_some_and(|rest| !rest.contains('.')),
                None => *known == key,
            }
        })
    }

    /// The key that a variable names in a section with keys of any name.
    fn free_key(&self, variable: &str) -> Option<String> {
        let path = variable.strip_prefix("FIRN_")?.to_lowercase();
        self.optional.iter().find_map(|known| {
            let section = known.strip_suffix(".*")?;
            let rest = path.strip_prefix(&section.replace('.', "_"))?;
            Some(format!("{section}.{}", rest.strip_prefix('_')?))
        })
    }

    fn check_known(&self, key: &str) -> Result<()> {
        if self.sources.contains_key(key) || self.is_optional(key) {
            return Ok(());
        }
        let near = self
            .sources
            .keys()
            .map(String::as_str)
            .filter(|known| known.rsplit('.').next() == key.rsplit('.').next())
            .collect::<Vec<_>>();
        if near.is_empty() {
            bail!("unknown key {key} (see `firn config show` for all keys)");
        }
        bail!("unknown key {key}: did you mean {}?", near.join(" or "));
    }
}

fn split(key: &str) -> (&str, Vec<&str>) {
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or(key);
    (last, parts)
}

fn leaves(table: &Table, prefix: &str, visit: &mut impl FnMut(&str, &Value)) {
    for (name, value) in table {
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Table(inner) => leaves(inner, &path, visit),
            leaf => visit(&path, leaf),
        }
    }
}

/// Reads an environment variable as the type that the value has now; text when there is none.
fn parse_like(current: Option<&Value>, text: &str) -> Result<Value> {
    Ok(match current {
        Some(Value::Integer(_)) => Value::Integer(text.trim().parse()?),
        Some(Value::Float(_)) => Value::Float(text.trim().parse()?),
        Some(Value::Boolean(_)) => Value::Boolean(match text.trim() {
            "1" | "true" | "yes" | "on" => true,
            "0" | "false" | "no" | "off" => false,
            _ => bail!("expected true or false"),
        }),
        Some(Value::Array(items)) => {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| parse_like(items.first(), item))
                .collect::<Result<Vec<_>>>()?;
            Value::Array(items)
        }
        _ => Value::String(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Layers {
        let defaults = "listen = 'a'\ndata = ''\n\
            [gateway]\nmax_connections = 10\nidle = true\nnames = []\n";
        Layers::new(defaults.parse().unwrap(), &[])
    }

    fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[test]
    fn later_layers_overwrite_earlier_ones_and_are_remembered() {
        let mut layers = layers();
        layers
            .apply_file(
                "f.toml".into(),
                "listen = 'b'\n[gateway]\nmax_connections = 20\n",
            )
            .unwrap();
        let unknown = layers
            .apply_environment(env(&[
                ("FIRN_GATEWAY_MAX_CONNECTIONS", "30"),
                ("FIRN_TYPO", "1"),
            ]))
            .unwrap();
        layers.apply_flag("--listen", "listen", "c");
        assert_eq!(unknown, ["FIRN_TYPO"]);
        assert_eq!(layers.get("listen"), Some(&Value::from("c")));
        assert_eq!(layers.source("listen"), Some(&Source::Flag("--listen")));
        assert_eq!(
            layers.get("gateway.max_connections"),
            Some(&Value::from(30))
        );
        assert_eq!(layers.source("gateway.idle"), Some(&Source::Default));
    }

    #[test]
    fn unknown_key_in_a_file_is_refused_with_a_suggestion() {
        let err = layers()
            .apply_file("f.toml".into(), "max_connections = 1")
            .unwrap_err();
        assert!(
            format!("{err:#}").contains("did you mean gateway.max_connections?"),
            "{err:#}"
        );
        assert!(
            layers()
                .apply_file("f.toml".into(), "nonsense = 1")
                .is_err()
        );
    }

    #[test]
    fn sections_may_have_keys_of_any_name() {
        let mut layers = Layers::new(Table::new(), &["upstream.*", "deep.**"]);
        let file = "[upstream]\nsqs = 'a'\n[deep.one]\ntwo = 'b'\n";
        layers.apply_file("f.toml".into(), file).unwrap();
        let unknown = layers
            .apply_environment(env(&[
                ("FIRN_UPSTREAM_BEDROCK_RUNTIME", "c"),
                ("FIRN_UP", "d"),
            ]))
            .unwrap();
        assert_eq!(unknown, ["FIRN_UP"]);
        let found = |key: &str| layers.get(key).and_then(Value::as_str);
        assert_eq!(found("upstream.sqs"), Some("a"));
        assert_eq!(found("deep.one.two"), Some("b"));
        assert_eq!(found("upstream.bedrock_runtime"), Some("c"));
        let deeper = layers.apply_file("f.toml".into(), "[upstream.sqs]\nx = 'a'\n");
        assert!(deeper.is_err());
    }

    #[test]
    fn environment_values_take_the_type_of_the_default() {
        let mut layers = layers();
        layers
            .apply_environment(env(&[
                ("FIRN_GATEWAY_IDLE", "off"),
                ("FIRN_GATEWAY_NAMES", "a, b"),
                ("FIRN_DATA", "/d"),
            ]))
            .unwrap();
        assert_eq!(layers.get("gateway.idle"), Some(&Value::from(false)));
        assert_eq!(
            layers.get("gateway.names"),
            Some(&Value::from(vec!["a", "b"]))
        );
        assert_eq!(layers.get("data"), Some(&Value::from("/d")));
    }

    #[test]
    fn environment_value_of_the_wrong_type_names_the_variable() {
        let err = layers()
            .apply_environment(env(&[("FIRN_GATEWAY_MAX_CONNECTIONS", "many")]))
            .unwrap_err();
        assert!(
            format!("{err:#}").contains("FIRN_GATEWAY_MAX_CONNECTIONS"),
            "{err:#}"
        );
    }

    #[test]
    fn runtime_default_does_not_beat_a_set_value() {
        let mut layers = layers();
        layers.apply_flag("--data", "data", "/flag");
        layers.default_to("data", "/default");
        layers.default_to("listen", "late");
        assert_eq!(layers.get("data"), Some(&Value::from("/flag")));
        assert_eq!(layers.get("listen"), Some(&Value::from("late")));
    }

    #[test]
    fn text_that_is_no_toml_names_the_file() {
        let err = layers().apply_file("bad.toml".into(), "= =").unwrap_err();
        assert!(err.to_string().contains("bad.toml"));
    }
}
