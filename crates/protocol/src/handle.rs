use std::sync::{Arc, OnceLock, Weak};

use model::Operation;

use crate::{ApiError, Caller, Router};

/// Leads to a router that is yet to be built: for services that call others, which are all part of
/// the same router. Cheap to clone.
#[derive(Clone, Default)]
pub struct RouterHandle(Arc<OnceLock<Weak<Router>>>);

impl RouterHandle {
    /// Says which router it leads to. Only the first call counts.
    pub fn set(&self, router: &Arc<Router>) {
        // A second router is a mistake of the assembly, which a test of it would show.
        let _ = self.0.set(Arc::downgrade(router));
    }

    /// As [`Router::serves`].
    pub fn serves(&self, signing_name: &str) -> bool {
        let router = self.0.get().and_then(Weak::upgrade);
        router.is_some_and(|router| router.serves(signing_name))
    }

    /// As [`Router::call`].
    pub async fn call<O: Operation>(
        &self,
        caller: &Caller,
        input: O::Input,
    ) -> Result<O::Output, ApiError> {
        match self.0.get().and_then(Weak::upgrade) {
            Some(router) => router.call::<O>(caller, input).await,
            None => Err(ApiError::internal("the server is starting or stopping")),
        }
    }
}

impl std::fmt::Debug for RouterHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RouterHandle")
    }
}
