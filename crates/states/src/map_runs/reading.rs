//! From items to inputs of children, which are on disk before anybody takes them.

use std::sync::Arc;

use asl::definition::{Definition, Kind};
use asl::failure::Failure;
use asl::machine::MapRequest;
use asl::machine::distributed::{Place, Selector, Settings};
use store::Expect;

use super::batch::Batches;
use super::live::{Halt, Live};
use super::objects::{Objects, Who};
use super::record::{self, Chunk, Read};
use super::source::Source;
use super::{MapRuns, scan_last};
use crate::aside::{aside, turn};

/// A chunk has no more children than this, and about so many bytes.
const CHUNK_CHILDREN: usize = 1_000;
const CHUNK_BYTES: usize = 1 << 20;

/// What reading needs to know.
pub struct Reading {
    pub definition: Arc<Definition>,
    pub request: Arc<MapRequest>,
    pub settings: Arc<Settings>,
    pub objects: Objects,
    pub who: Who,
}

/// Where the next chunk begins.
struct At {
    child: u64,
    items: u64,
}

/// Reads all items of a run that have not been read yet.
pub async fn read(runs: Arc<MapRuns>, live: Arc<Live>, reading: Reading) -> Result<(), Halt> {
    let mut at = where_it_stands(&runs, &live)?;
    let state = reading.definition.state(reading.request.state);
    let Kind::Map(map) = &state.kind else {
        return Err(Halt::Failure(Failure::new(
            "States.Runtime",
            "The state is no Map.",
        )));
    };
    let mut source = match (&reading.settings.reader, &reading.request.items) {
        (Some(reader), _) => Source::open(reader, reading.objects.clone(), reading.who.clone())
            .await
            .map_err(Failure::from)?,
        (None, Some(items)) => Source::data(Arc::clone(items)),
        (None, None) => Source::data(Arc::new(serde_json::Value::Array(Vec::new()))),
    };
    let mut batches = Batches::new(reading.settings.batcher.as_ref())?;
    let mut selector = Selector::new(map, &reading.request);
    let now_ms = live.start_ms();
    let mut skip = at.items;
    let mut index = 0;
    let mut items = Vec::new();
    let mut chunk = Chunk {
        items_before: at.items,
        inputs: Vec::new(),
    };
    let mut bytes = 0;
    loop {
        let more = source.next(&mut items).await.map_err(Failure::from)?;
        for item in items.drain(..) {
            let place = Place {
                index,
                key: item.key.as_deref(),
                source: &item.source,
            };
            let seed = live.seed(index);
            index += 1;
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let select = || selector.select(item.value, &place, now_ms, seed);
            let selected = match reading.definition.is_heavy() {
                true => {
                    let _turn = turn(&reading.definition).await;
                    aside(select)
                }
                false => select(),
            };
            let input = selected
                .map_err(|error| error.in_state(&state.name, reading.request.entered_event))?;
            let before = chunk.inputs.len();
            batches.add(&input, &mut chunk.inputs)?;
            bytes += chunk.inputs[before..]
                .iter()
                .map(|input| input.text.len())
                .sum::<usize>();
            if chunk.inputs.len() >= CHUNK_CHILDREN || bytes >= CHUNK_BYTES {
                bytes = 0;
                keep(&runs, &live, &mut at, &mut chunk).await?;
            }
        }
        if !more {
            break;
        }
        // Datasets in memory give way to others, too.
        tokio::task::yield_now().await;
    }
    chunk.inputs.extend(batches.finish()?);
    keep(&runs, &live, &mut at, &mut chunk).await?;
    let read = Read {
        children: at.child,
        items: at.items,
    };
    runs.change(&live, |run| run.read = Some(read)).await?;
    live.changed.notify_one();
    Ok(())
}

/// Behind the last chunk on disk.
fn where_it_stands(runs: &MapRuns, live: &Live) -> Result<At, Halt> {
    let prefix = record::key(record::CHUNKS, live.id);
    let Some(last) = scan_last(&runs.table, &prefix)? else {
        return Ok(At { child: 0, items: 0 });
    };
    let chunk = Chunk::decode(&last.value)?;
    let first = record::number_of(&last.key).unwrap_or_default();
    Ok(At {
        child: first + chunk.inputs.len() as u64,
        items: chunk.items_before + chunk.items(),
    })
}

async fn keep(runs: &MapRuns, live: &Live, at: &mut At, chunk: &mut Chunk) -> Result<(), Halt> {
    if chunk.inputs.is_empty() {
        return Ok(());
    }
    let key = record::numbered(record::CHUNKS, live.id, at.child);
    let batch = store::Batch::new().put(key, chunk.encode(), Expect::Any);
    runs.write(batch).await?;
    let (children, items) = (chunk.inputs.len() as u64, chunk.items());
    at.child += children;
    at.items += items;
    live.count(|counts| counts.read(children, items));
    live.changed.notify_one();
    chunk.inputs.clear();
    chunk.items_before = at.items;
    Ok(())
}
