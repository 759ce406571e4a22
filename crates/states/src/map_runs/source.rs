//! Where the items of a map run come from: the state's own data, or objects in S3.
//!
//! Everything is read as a stream: a dataset of any size takes no more memory than the pieces that
//! are under way. An item can have 8 MB, as on AWS.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html>

mod config;
mod csv;
mod json;
mod lines;
mod manifest;
mod unpack;

use std::collections::VecDeque;
use std::sync::Arc;

use asl::failure::Failure;
use asl::machine::distributed::Reader;
use futures_util::StreamExt;
use serde_json::Value;

use self::config::{Dataset, Format};
use self::manifest::{Located, MAX_MANIFEST_BYTES};
use self::unpack::Unpack;
use super::objects::{Body, Found, Objects, Who};

/// AWS's limit of one item as it is read.
const MAX_ITEM_BYTES: usize = 8 << 20;
/// AWS's limit of the items of one run.
const MAX_ITEMS: u64 = 100_000_000;
/// So many items are given at once, unless one piece of an object has more.
const GIVEN: usize = 500;
const LISTED: usize = 1_000;

/// One item of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its name, if the dataset is an object.
    pub key: Option<String>,
    pub value: Value,
    /// `$$.Map.Item.Source`.
    pub source: Arc<str>,
}

/// Why a dataset cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub cause: String,
}

impl Unreadable {
    pub fn new(cause: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
        }
    }
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        Self::new("States.ItemReaderFailed", unreadable.cause)
    }
}

impl Item {
    fn plain(value: Value) -> Self {
        Self {
            key: None,
            value,
            source: Arc::from(""),
        }
    }
}

/// A dataset that is being read.
#[derive(Debug)]
pub struct Source {
    kind: Kind,
    left: u64,
}

#[derive(Debug)]
enum Kind {
    Data {
        items: Arc<Value>,
        at: usize,
    },
    /// What the bucket says of its objects.
    Listing(Listing),
    /// What is in objects.
    Objects(Box<Reading>),
}

#[derive(Debug)]
struct Listing {
    objects: Objects,
    who: Who,
    bucket: String,
    prefix: String,
    after: Option<String>,
    done: bool,
}

#[derive(Debug)]
struct Reading {
    objects: Objects,
    who: Who,
    format: Format,
    files: Files,
    version: Option<String>,
    open: Option<Open>,
}

/// The objects to read.
#[derive(Debug)]
enum Files {
    Known(VecDeque<Located>),
    Listed(Listing, VecDeque<Located>),
}

struct Open {
    source: Arc<str>,
    body: Body,
    unpack: Unpack,
    parser: Parser,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Open").field(&self.source).finish()
    }
}

/// Text on its way to items.
#[derive(Debug)]
enum Parser {
    Csv(csv::Rows),
    Json(json::Items),
    Lines(lines::Lines),
}

impl Parser {
    fn new(format: &Format) -> Result<Self, Unreadable> {
        match format {
            Format::Csv { delimiter, header } => {
                csv::Rows::new(*delimiter, header.clone()).map(Self::Csv)
            }
            Format::Json { pointer } => json::Items::new(pointer).map(Self::Json),
            Format::Lines => Ok(Self::Lines(lines::Lines::default())),
        }
    }

    fn push(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<(), Unreadable> {
        match self {
            Self::Csv(rows) => rows.push(bytes, items),
            Self::Json(json) => json.push(bytes, items),
            Self::Lines(lines) => lines.push(bytes, items),
        }
    }

    fn finish(&mut self, items: &mut Vec<Item>) -> Result<(), Unreadable> {
        match self {
            Self::Csv(rows) => rows.finish(items),
            Self::Json(json) => json.finish(items),
            Self::Lines(lines) => lines.finish(items),
        }
    }
}

impl Source {
    /// The elements of an array, or the members of an object.
    pub fn data(items: Arc<Value>) -> Self {
        Self {
            kind: Kind::Data { items, at: 0 },
            left: MAX_ITEMS,
        }
    }

    /// What an `ItemReader` says. Manifests are read here.
    pub async fn open(reader: &Reader, objects: Objects, who: Who) -> Result<Self, Unreadable> {
        let left = config::max_items(reader.max_items)?;
        let place = config::place(&reader.arguments)?;
        let listing = |objects, who, bucket: &str| Listing {
            objects,
            who,
            bucket: bucket.to_owned(),
            prefix: place.prefix.clone(),
            after: None,
            done: false,
        };
        let reading = |objects, who, format, files, version| {
            Kind::Objects(Box::new(Reading {
                objects,
                who,
                format,
                files,
                version,
                open: None,
            }))
        };
        let bucket = place.bucket.as_str();
        let kind = match config::dataset(&reader.resource, &reader.config)? {
            Dataset::Listing => Kind::Listing(listing(objects, who, bucket)),
            Dataset::Listed(format) => {
                let listing = listing(objects.clone(), who.clone(), bucket);
                let files = Files::Listed(listing, VecDeque::new());
                reading(objects, who, format, files, None)
            }
            Dataset::Object(format) => {
                let files = Files::Known(VecDeque::from([place.located()?]));
                reading(objects, who, format, files, place.version)
            }
            Dataset::Inventory { delimiter } => {
                let text = whole(&objects, &who, &place.located()?, place.version).await?;
                let inventory = manifest::inventory(&text)?;
                let format = Format::Csv {
                    delimiter,
                    header: Some(inventory.columns),
                };
                reading(objects, who, format, Files::Known(inventory.files), None)
            }
            Dataset::Athena(format) => {
                let text = whole(&objects, &who, &place.located()?, place.version).await?;
                let files = Files::Known(manifest::athena(&text)?);
                reading(objects, who, format, files, None)
            }
        };
        Ok(Self { kind, left })
    }

    /// Adds the next items to `items`; `false` if there are none any more.
    pub async fn next(&mut self, items: &mut Vec<Item>) -> Result<bool, Unreadable> {
        if self.left == 0 {
            return Ok(false);
        }
        let before = items.len();
        let more = match &mut self.kind {
            Kind::Data { items: data, at } => {
                let more = of_data(data, *at, items);
                *at += items.len() - before;
                more
            }
            Kind::Listing(listing) => {
                let source: Arc<str> = format!("S3://{}", listing.bucket).into();
                for object in listing.next().await? {
                    let mut item = Item::plain(shown(&object));
                    item.source = Arc::clone(&source);
                    items.push(item);
                }
                !listing.done
            }
            Kind::Objects(reading) => reading.next(items).await?,
        };
        let read = (items.len() - before) as u64;
        if read > self.left {
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            items.truncate(before + left);
        }
        self.left = self.left.saturating_sub(read);
        Ok(more && self.left > 0)
    }
}

fn of_data(data: &Value, at: usize, items: &mut Vec<Item>) -> bool {
    let source: Arc<str> = "STATE_DATA".into();
    let item = |key: Option<&String>, value: &Value| Item {
        key: key.cloned(),
        value: value.clone(),
        source: Arc::clone(&source),
    };
    match data {
        Value::Array(elements) => {
            let next = elements.iter().skip(at).take(GIVEN);
            items.extend(next.map(|value| item(None, value)));
            at + GIVEN < elements.len()
        }
        Value::Object(members) => {
            let next = members.iter().skip(at).take(GIVEN);
            items.extend(next.map(|(key, value)| item(Some(key), value)));
            at + GIVEN < members.len()
        }
        // Not reached: the interpreter refuses what has no items.
        _ => false,
    }
}

/// An object as `ListObjectsV2` says it, in the names of Step Functions. Observed on AWS: the time
/// is a number with a fraction.
fn shown(object: &Found) -> Value {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a float holds the times of this age"
    )]
    let modified = object.modified_ms.div_euclid(1_000) as f64;
    serde_json::json!({
        "Etag": object.etag,
        "Key": object.key,
        "LastModified": modified,
        "Size": object.size,
        "StorageClass": object.storage_class,
    })
}

impl Listing {
    async fn next(&mut self) -> Result<Vec<Found>, Unreadable> {
        if self.done {
            return Ok(Vec::new());
        }
        let page = self
            .objects
            .list(
                &self.who,
                &self.bucket,
                &self.prefix,
                self.after.as_deref(),
                LISTED,
            )
            .await
            .map_err(Unreadable::from)?;
        self.done = page.len() < LISTED;
        self.after = page.last().map(|object| object.key.clone());
        Ok(page)
    }
}

impl Files {
    async fn next(&mut self) -> Result<Option<Located>, Unreadable> {
        match self {
            Self::Known(files) => Ok(files.pop_front()),
            Self::Listed(listing, page) => {
                while page.is_empty() && !listing.done {
                    let found = listing.next().await?;
                    // The console makes folders as objects without content.
                    let files = found.into_iter().filter(|o| !o.key.ends_with('/'));
                    page.extend(files.map(|object| Located {
                        bucket: listing.bucket.clone(),
                        key: object.key,
                    }));
                }
                Ok(page.pop_front())
            }
        }
    }
}

impl Reading {
    async fn next(&mut self, items: &mut Vec<Item>) -> Result<bool, Unreadable> {
        let before = items.len();
        while items.len() - before < GIVEN {
            let Some(open) = &mut self.open else {
                match self.files.next().await? {
                    None => return Ok(false),
                    Some(located) => self.open = Some(self.begin(located).await?),
                }
                continue;
            };
            let from = items.len();
            let ended = open.read(items).await?;
            for item in &mut items[from..] {
                item.source = Arc::clone(&open.source);
            }
            if ended {
                self.open = None;
            }
        }
        Ok(true)
    }

    async fn begin(&self, located: Located) -> Result<Open, Unreadable> {
        let Located { bucket, key } = &located;
        let body = self
            .objects
            .get(&self.who, bucket, key, self.version.as_deref());
        Ok(Open {
            source: format!("S3://{bucket}/{key}").into(),
            body: body.await.map_err(Unreadable::from)?,
            unpack: Unpack::of(key)?,
            parser: Parser::new(&self.format)?,
        })
    }
}

impl Open {
    /// Reads one piece; `true` at the end.
    async fn read(&mut self, items: &mut Vec<Item>) -> Result<bool, Unreadable> {
        let Self {
            body,
            unpack,
            parser,
            ..
        } = self;
        match body.next().await {
            Some(piece) => {
                let piece = piece.map_err(Unreadable::from)?;
                unpack.push(&piece, |text| parser.push(text, items))?;
                Ok(false)
            }
            None => {
                unpack.finish(|text| parser.push(text, items))?;
                parser.finish(items)?;
                Ok(true)
            }
        }
    }
}

/// A whole object, for manifests.
async fn whole(
    objects: &Objects,
    who: &Who,
    located: &Located,
    version: Option<String>,
) -> Result<Vec<u8>, Unreadable> {
    let Located { bucket, key } = located;
    let mut body = objects.get(who, bucket, key, version.as_deref()).await?;
    let mut unpack = Unpack::of(key)?;
    let mut text = Vec::new();
    let mut keep = |piece: &[u8]| {
        if text.len() + piece.len() > MAX_MANIFEST_BYTES {
            return Err(Unreadable::new("The manifest is larger than 8 MB."));
        }
        text.extend_from_slice(piece);
        Ok(())
    };
    while let Some(piece) = body.next().await {
        unpack.push(&piece.map_err(Unreadable::from)?, &mut keep)?;
    }
    unpack.finish(&mut keep)?;
    Ok(text)
}

fn limit_item(bytes: usize) -> Result<(), Unreadable> {
    if bytes > MAX_ITEM_BYTES {
        return Err(Unreadable::new("An item is larger than 8 MB."));
    }
    Ok(())
}

/// An item becomes the input of an execution, which has a limit of its own.
fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    let value = serde_json::from_slice(text)?;
    match asl::machine::is_too_deep(&value) {
        true => Err(serde::de::Error::custom("it is nested too deeply")),
        false => Ok(value),
    }
}

/// For fuzz targets only.
pub mod fuzzing {
    use super::{Item, Parser, Unreadable, config::Format, manifest};

    /// Reads `text` in each format; in pieces it has the same items as in one.
    pub fn read(text: &[u8], piece_bytes: usize) {
        let formats = [
            Format::Lines,
            Format::Json {
                pointer: String::new(),
            },
            Format::Json {
                pointer: "/a/0".to_owned(),
            },
            Format::Csv {
                delimiter: b',',
                header: None,
            },
            Format::Csv {
                delimiter: b';',
                header: Some(vec!["a".to_owned(), "b".to_owned()]),
            },
        ];
        for format in formats {
            let whole = parse(&format, text, text.len());
            assert_eq!(parse(&format, text, piece_bytes), whole, "{format:?}");
        }
    }

    /// Reads `text` as a manifest of each kind.
    pub fn read_manifest(text: &[u8]) {
        let _ = manifest::inventory(text);
        let _ = manifest::athena(text);
    }

    fn parse(format: &Format, text: &[u8], piece_bytes: usize) -> Result<Vec<Item>, Unreadable> {
        let mut parser = Parser::new(format)?;
        let mut items = Vec::new();
        for piece in text.chunks(piece_bytes.max(1)) {
            parser.push(piece, &mut items)?;
        }
        parser.finish(&mut items)?;
        Ok(items)
    }
}

#[cfg(test)]
mod tests;
