//! Which chunks this process relies on, so that garbage collection leaves them alone.
//!
//! A put relies on a chunk that it found in L3 (and so did not write) long before a manifest names
//! it; an open image relies on its chunks even if its manifest is deleted meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::manifest::Manifest;
use crate::name::ChunkName;

#[derive(Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
    /// Told when condemned chunks are gone.
    executed: Notify,
}

#[derive(Default)]
struct State {
    pinned: HashMap<ChunkName, usize>,
    images: Vec<Weak<Manifest>>,
    /// Being removed right now.
    condemned: HashSet<ChunkName>,
    /// While a collection runs: all that was relied on at any time since it began.
    protected: Option<HashSet<ChunkName>>,
}

/// What one put relies on, until it is dropped.
pub(crate) struct Pins {
    registry: Arc<Registry>,
    names: Mutex<Vec<ChunkName>>,
}

/// One running collection.
pub(crate) struct Collection {
    registry: Arc<Registry>,
    condemned: Vec<ChunkName>,
}

impl Registry {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pins(self: &Arc<Self>) -> Pins {
        Pins {
            registry: Arc::clone(self),
            names: Mutex::default(),
        }
    }

    /// An image was opened.
    pub(crate) fn add_image(&self, manifest: &Arc<Manifest>) {
        let mut state = self.state();
        if let Some(protected) = &mut state.protected {
            protected.extend(manifest.names());
        }
        state.images.retain(|image| image.strong_count() > 0);
        state.images.push(Arc::downgrade(manifest));
    }

    /// Begins a collection. Callers see to it that there is one at a time.
    pub(crate) fn collect(self: &Arc<Self>) -> Collection {
        let mut state = self.state();
        let mut protected: HashSet<_> = state.pinned.keys().copied().collect();
        for image in state.images.iter().filter_map(Weak::upgrade) {
            protected.extend(image.names());
        }
        state.protected = Some(protected);
        Collection {
            registry: Arc::clone(self),
            condemned: Vec::new(),
        }
    }
}

impl Pins {
    /// From when this returns until the pins are dropped, no collection of this process removes
    /// these chunks. Waits for one that is removing them.
    pub(crate) async fn add(&self, names: &[ChunkName]) {
        loop {
            let executed = self.registry.executed.notified();
            tokio::pin!(executed);
            executed.as_mut().enable();
            {
                let mut state = self.registry.state();
                if !names.iter().any(|name| state.condemned.contains(name)) {
                    for name in names {
                        *state.pinned.entry(*name).or_default() += 1;
                    }
                    if let Some(protected) = &mut state.protected {
                        protected.extend(names);
                    }
                    let mut mine = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                    mine.extend(names);
                    return;
                }
            }
            executed.await;
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.registry.state();
        for name in self
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            if let Some(count) = state.pinned.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    state.pinned.remove(name);
                }
            }
        }
    }
}

impl Collection {
    /// Those of `names` that may be removed now. A put that wants one of them waits until
    /// [`Self::executed`].
    pub(crate) fn condemn(&mut self, names: impl Iterator<Item = ChunkName>) -> HashSet<ChunkName> {
        let mut state = self.registry.state();
        let condemned: HashSet<_> = match &state.protected {
            Some(protected) => names.filter(|name| !protected.contains(name)).collect(),
            None => HashSet::new(),
        };
        state.condemned.extend(&condemned);
        self.condemned.extend(&condemned);
        condemned
    }

    pub(crate) fn executed(&mut self) {
        let mut state = self.registry.state();
        for name in self.condemned.drain(..) {
            state.condemned.remove(&name);
        }
        drop(state);
        self.registry.executed.notify_waiters();
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        self.executed();
        self.registry.state().protected = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(byte: u8) -> ChunkName {
        ChunkName([byte; 32])
    }

    #[tokio::test]
    async fn what_a_put_relied_on_during_a_collection_stays_until_its_end() {
        let registry = Arc::new(Registry::default());
        let pins = registry.pins();
        pins.add(&[name(1)]).await;
        let mut collection = registry.collect();
        let late = registry.pins();
        late.add(&[name(2)]).await;
        drop((pins, late));
        let condemned = collection.condemn([1, 2, 3].map(name).into_iter());
        assert_eq!(condemned, HashSet::from([name(3)]));
        drop(collection);
        let condemned = registry.collect().condemn([1, 2, 3].map(name).into_iter());
        assert_eq!(condemned.len(), 3);
    }

    #[tokio::test]
    async fn a_put_waits_for_the_removal_of_a_chunk_it_wants() {
        let registry = Arc::new(Registry::default());
        let mut collection = registry.collect();
        collection.condemn([name(1)].into_iter());
        let waiting = tokio::spawn({
            let pins = registry.pins();
            async move { pins.add(&[name(1), name(2)]).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        collection.executed();
        waiting.await.unwrap();
    }
}
