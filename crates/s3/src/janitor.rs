//! Takes apart what is left when objects and uploads go: what is too much for the write that ended
//! them. Also sweeps files that a crash left without a record.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use store::{Batch, Expect};

use crate::files::blocking;
use crate::keys::{self, Id};
use crate::record::{self, Garbage, Part, Piece, Place};
use crate::service::S3;
use crate::{Error, Result};

/// Records changed in one write.
const BATCH: usize = 1000;
/// How long the janitor waits after a failure, and between looks for uploads that are too old.
const PAUSE: Duration = Duration::from_secs(600);
const RETRY: Duration = Duration::from_secs(5);

/// Objects in parts that are being read: their parts stay until nobody reads them.
#[derive(Clone, Default)]
pub(crate) struct Pins(Arc<Mutex<HashMap<Id, usize>>>);

/// Held while an object in parts is read.
pub(crate) struct Pin {
    pins: Pins,
    s3: S3,
    id: Id,
}

impl Pins {
    pub(crate) fn pin(&self, s3: &S3, id: Id) -> Pin {
        *self.lock().entry(id).or_default() += 1;
        Pin {
            pins: self.clone(),
            s3: s3.clone(),
            id,
        }
    }

    fn holds(&self, id: Id) -> bool {
        self.lock().contains_key(&id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Id, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.lock();
        if let Some(count) = pins.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.id);
            }
        }
        drop(pins);
        self.s3.garbage().notify_one();
    }
}

/// Works until it is cancelled.
pub(crate) async fn run(s3: S3) {
    if let Err(error) = sweep(&s3).await {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "cannot look for contents that nobody uses");
    }
    loop {
        let result = match drop_old_uploads(&s3).await {
            Ok(()) => take_apart(&s3).await,
            failed => failed,
        };
        let pause = match result {
            Ok(()) => PAUSE,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "cannot remove what is left of objects");
                RETRY
            }
        };
        tokio::select! {
            () = s3.garbage().notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn sweep(s3: &S3) -> Result<()> {
    let (files, table, run) = (s3.files().clone(), s3.table().clone(), s3.run());
    let removed = blocking(move || {
        let in_use = |id| Ok(table.get(keys::file(id))?.is_some());
        files.sweep(run, in_use)
    })
    .await?;
    if removed > 0 {
        tracing::info!(
            removed,
            "removed uploads that a stop of the server cut short"
        );
    }
    Ok(())
}

async fn take_apart(s3: &S3) -> Result<()> {
    let mut after: Option<bytes::Bytes> = None;
    loop {
        let page = s3.table().scan(keys::GARBAGE, after.as_deref(), BATCH)?;
        for found in &page {
            let id = Id::from_bytes(&found.key[keys::GARBAGE.len()..])
                .ok_or_else(|| Error::Damaged("a key of S3".to_owned()))?;
            match record::decode(&found.value)? {
                Garbage::Manifest if s3.pins().holds(id) => {}
                Garbage::Manifest => manifest(s3, id).await?,
                Garbage::Upload { kept } => upload(s3, id, kept).await?,
            }
        }
        match page.last() {
            Some(last) if page.len() == BATCH => after = Some(last.key.clone()),
            _ => return Ok(()),
        }
    }
}

async fn manifest(s3: &S3, id: Id) -> Result<()> {
    let pieces = s3.manifest(id)?.unwrap_or_default();
    for some in pieces.chunks(BATCH) {
        let places = some.iter().map(|piece| piece.place);
        forget(s3, Batch::new(), places).await?;
    }
    let last = Batch::new()
        .delete(keys::manifest(id), Expect::Any)
        .delete(keys::garbage(id), Expect::Any);
    s3.table().write(last).await?;
    Ok(())
}

async fn upload(s3: &S3, id: Id, kept: Option<Id>) -> Result<()> {
    let kept: HashSet<Vec<u8>> = match kept {
        None => HashSet::new(),
        Some(manifest) => {
            let pieces = s3.manifest(manifest)?.unwrap_or_default();
            pieces
                .iter()
                .filter_map(|piece| key_of(piece.place))
                .collect()
        }
    };
    loop {
        let page = s3.table().scan(keys::parts(id), None, BATCH)?;
        if page.is_empty() {
            break;
        }
        let mut batch = Batch::new();
        let mut places = Vec::new();
        for found in &page {
            let part: Part = record::decode(&found.value)?;
            batch = batch.delete(&found.key, Expect::Any);
            if key_of(part.place).is_some_and(|key| !kept.contains(&key)) {
                places.push(part.place);
            }
        }
        forget(s3, batch, places.into_iter()).await?;
    }
    s3.table().delete(keys::garbage(id), Expect::Any).await?;
    s3.with_closing(|closing| closing.remove(&id));
    Ok(())
}

/// Deletes the records of contents, then their files.
async fn forget(s3: &S3, batch: Batch, places: impl Iterator<Item = Place>) -> Result<()> {
    let places: Vec<Place> = places.collect();
    let keys = places.iter().filter_map(|place| key_of(*place));
    let batch = keys.fold(batch, |batch, key| batch.delete(key, Expect::Any));
    s3.table().write(batch).await?;
    remove_files(s3, places).await
}

/// Removes the files among some places whose records are gone.
pub(crate) async fn remove_files(s3: &S3, places: Vec<Place>) -> Result<()> {
    let ids: Vec<Id> = places
        .into_iter()
        .filter_map(|place| match place {
            Place::File(id) => Some(id),
            Place::Empty | Place::Inline(_) | Place::Parts(_) => None,
        })
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    let files = s3.files().clone();
    blocking(move || {
        files.remove(&ids);
        Ok(())
    })
    .await
}

/// The key of the record that a content has beside that of its object.
fn key_of(place: Place) -> Option<Vec<u8>> {
    match place {
        Place::Empty | Place::Parts(_) => None,
        Place::Inline(id) => Some(keys::inline(id)),
        Place::File(id) => Some(keys::file(id)),
    }
}

async fn drop_old_uploads(s3: &S3) -> Result<()> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let days = s3.config().drop_uploads_after_days;
    if days == 0 {
        return Ok(());
    }
    let oldest = s3.clock().now() - DAY * days;
    let mut after: Option<bytes::Bytes> = None;
    loop {
        let page = s3.table().scan(keys::UPLOADS, after.as_deref(), BATCH)?;
        for found in &page {
            let upload: record::Upload = record::decode(&found.value)?;
            let id = keys::parse_upload(&found.key).map(|(_, id)| id);
            if let Some(id) = id.filter(|_| upload.initiated < oldest) {
                s3.with_closing(|closing| closing.insert(id));
                let batch = abandon(Batch::new(), &found.key, id)?;
                s3.table().write(batch).await?;
            }
        }
        match page.last() {
            Some(last) if page.len() == BATCH => after = Some(last.key.clone()),
            _ => return Ok(()),
        }
    }
}

/// Ends an upload whose parts nobody wants.
pub(crate) fn abandon(batch: Batch, upload_key: &[u8], id: Id) -> Result<Batch> {
    let garbage = record::encode(&Garbage::Upload { kept: None })?;
    Ok(batch
        .delete(upload_key, Expect::Any)
        .put(keys::garbage(id), garbage, Expect::Any))
}

/// Lets go of a content whose object goes or gets another, within the same write.
pub(crate) fn release(batch: Batch, place: Place) -> Result<Batch> {
    Ok(match place {
        Place::Empty => batch,
        Place::Inline(id) => batch.delete(keys::inline(id), Expect::Any),
        Place::File(id) => batch.delete(keys::file(id), Expect::Any),
        Place::Parts(id) => {
            let garbage = record::encode(&Garbage::Manifest)?;
            batch.put(keys::garbage(id), garbage, Expect::Any)
        }
    })
}

impl S3 {
    /// What an object was put together from.
    pub(crate) fn manifest(&self, id: Id) -> Result<Option<Vec<Piece>>> {
        let found = self.table().get(keys::manifest(id))?;
        found.map(|found| record::decode(&found.value)).transpose()
    }
}
