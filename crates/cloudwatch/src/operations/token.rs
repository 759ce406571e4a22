//! Paging tokens. Clients hand them back as they are; anything else is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

pub(super) fn encode<T: Serialize>(place: &T) -> Result<String, Error> {
    let text = serde_json::to_vec(place).map_err(|_| Error::Record { what: "token" })?;
    Ok(URL_SAFE_NO_PAD.encode(text))
}

pub(super) fn decode<T: DeserializeOwned>(token: &str) -> Result<T, Error> {
    let text = URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|_| Error::InvalidToken)?;
    serde_json::from_slice(&text).map_err(|_| Error::InvalidToken)
}
