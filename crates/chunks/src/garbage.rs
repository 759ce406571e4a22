//! Collecting what no manifest refers to.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::chunks::Chunks;
use crate::dir::Entry;
use crate::tiers::parse_chunk_key;
use crate::{Account, ImageId, Result};

/// Chunks that are condemned, and so kept from puts, at a time.
const BATCH: usize = 256;

/// What [`Chunks::collect_garbage`] did.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// Chunks that were removed.
    pub chunks: u64,
    /// What they took.
    pub bytes: u64,
    /// Accounts that were left alone, because a manifest of theirs could not be read (damaged, or
    /// made with another key): what it refers to is not known.
    pub skipped: Vec<Account>,
}

pub(crate) async fn collect(chunks: &Chunks) -> Result<Collected> {
    let mut collection = chunks.registry().collect();
    let now = chunks.clock().now();
    let grace = chunks.config().grace();
    let old = |entry: &Entry| now.duration_since(entry.modified) >= grace;

    // Chunks before manifests: what a put of another process writes in between is either not in
    // this list, or referred to by the manifests that are read after it.
    let mut found: BTreeMap<Account, Vec<Entry>> = BTreeMap::new();
    for entry in chunks.tiers().l3.list("chunks/").await? {
        if let Some(account) = account_of(&entry.key) {
            found.entry(account).or_default().push(entry);
        }
    }
    let images = chunks.list_manifests().await?;
    let mut collected = Collected::default();
    for (account, entries) in found {
        let Some(referred) = referred(chunks, &account, &images).await? else {
            collected.skipped.push(account);
            continue;
        };
        let garbage: Vec<_> = entries
            .into_iter()
            .filter(old)
            .filter_map(|entry| Some((parse_chunk_key(&entry.key)?, entry)))
            .filter(|(name, _)| !referred.contains(name))
            .collect();
        for batch in garbage.chunks(BATCH) {
            let condemned = collection.condemn(batch.iter().map(|(name, _)| *name));
            let mut keys = Vec::new();
            for (name, entry) in batch {
                if !condemned.contains(name) {
                    continue;
                }
                // Another process may have written it again since it was listed.
                if !grace.is_zero()
                    && !chunks
                        .tiers()
                        .l3
                        .stat(&entry.key)
                        .await?
                        .is_some_and(|e| old(&e))
                {
                    continue;
                }
                collected.chunks += 1;
                collected.bytes += entry.bytes;
                keys.push(entry.key.clone());
            }
            chunks.remove_chunks(keys).await?;
            collection.executed();
        }
    }
    // A put that takes longer than the grace does not finish anyway: its chunks may be gone.
    chunks
        .tiers()
        .l3
        .clear_incoming(now - grace.max(std::time::Duration::from_secs(60)))
        .await?;
    Ok(collected)
}

/// The chunks that the manifests of an account refer to, if all of them can be read.
async fn referred(
    chunks: &Chunks,
    account: &Account,
    images: &BTreeSet<(Account, ImageId)>,
) -> Result<Option<HashSet<crate::name::ChunkName>>> {
    let mut referred = HashSet::new();
    for (_, id) in images.iter().filter(|(of, _)| of == account) {
        match chunks.read_manifest_l3(account, id).await {
            Ok(Some(manifest)) => referred.extend(manifest.names()),
            Ok(None) => {}
            Err(err) => {
                tracing::warn!(
                    %account, image = %id, error = &err as &dyn std::error::Error,
                    "a manifest cannot be read; nothing of this account is collected"
                );
                return Ok(None);
            }
        }
    }
    Ok(Some(referred))
}

fn account_of(key: &str) -> Option<Account> {
    let mut parts = key.split('/');
    let account = parts.nth(1)?;
    Account::new(account).ok()
}
