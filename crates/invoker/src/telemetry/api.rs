//! `PUT /2022-07-01/telemetry` and `PUT /2020-08-15/logs`

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::Telemetry;
use super::hub::Unsubscribed;
pub(crate) use super::subscription::Api;
use crate::extensions::{Extensions, api as extensions_api};
use crate::runtime_api::answers::{self, Reply};

pub(crate) fn subscribe(
    (extensions, telemetry): (&Extensions, &Telemetry),
    api: Api,
    headers: &HeaderMap,
    body: &Bytes,
) -> Reply {
    let id = match extensions_api::identify(headers) {
        Ok(id) => id,
        Err(how) => return extensions_api::unidentified(how),
    };
    let Some(name) = extensions.name_of(&id) else {
        return extensions_api::unknown(&id);
    };
    match telemetry.subscribe(&name, api, body) {
        Ok(()) => answers::json(StatusCode::OK, Bytes::from_static(b"\"OK\"")),
        Err(Unsubscribed::Closed) => {
            let (error_type, message) = api.closed();
            answers::forbidden(error_type, message)
        }
        Err(Unsubscribed::OtherApi) => invalid(
            "the extension has already subscribed to the other one of the Telemetry API and the \
             Logs API",
        ),
        Err(Unsubscribed::Invalid(faults)) => invalid(&faults),
    }
}

fn invalid(message: &str) -> Reply {
    answers::error(StatusCode::BAD_REQUEST, "ValidationError", message)
}

impl Api {
    const fn closed(self) -> (&'static str, &'static str) {
        match self {
            Self::Telemetry => (
                "Telemetry.SubscriptionClosed",
                "Telemetry API subscription is closed",
            ),
            Self::Logs => ("Logs.SubscriptionClosed", "Logs API subscription is closed"),
        }
    }
}
