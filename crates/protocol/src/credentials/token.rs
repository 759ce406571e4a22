//! The layout of a session token: base64 of a version byte, the session's fields and a MAC.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;
use model::Timestamp;

use super::{ServerKey, Session};

const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
const ACCOUNT_BYTES: usize = 12;
const ACCESS_KEY_BYTES: usize = 20;
pub(super) const MAX_TEXT_BYTES: usize = 2048;
/// A longer text cannot be a token, so it is not even decoded.
const MAX_TOKEN_BYTES: usize = 8192;

pub(super) fn encode(key: &ServerKey, session: &Session) -> Option<String> {
    let mut bytes = vec![VERSION];
    bytes.extend(session.expiration.as_micros().to_be_bytes());
    bytes.extend(session.account.as_str().as_bytes());
    bytes.extend(session.access_key_id.as_bytes());
    for text in [&session.role_arn, &session.session_name] {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        bytes.extend(u16::try_from(text.len()).ok()?.to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    let mac = key.mac("token", &bytes).finalize().into_bytes();
    bytes.extend(mac);
    Some(STANDARD.encode(bytes))
}

/// The MAC is checked first, so that nothing else is read from bytes that are not ours.
pub(super) fn decode(key: &ServerKey, token: &str) -> Option<Session> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let bytes = STANDARD.decode(token).ok()?;
    let (fields, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
    key.mac("token", fields).verify_slice(mac).ok()?;
    parse(fields)
}

fn parse(fields: &[u8]) -> Option<Session> {
    let (version, rest) = fields.split_first()?;
    if *version != VERSION {
        return None;
    }
    let (expiration, rest) = rest.split_first_chunk::<8>()?;
    let (account, rest) = rest.split_first_chunk::<ACCOUNT_BYTES>()?;
    let (access_key_id, rest) = rest.split_first_chunk::<ACCESS_KEY_BYTES>()?;
    let (role_arn, rest) = text(rest)?;
    let (session_name, rest) = text(rest)?;
    rest.is_empty().then_some(())?;
    Some(Session {
        account: std::str::from_utf8(account).ok()?.parse().ok()?,
        role_arn,
        session_name,
        access_key_id: std::str::from_utf8(access_key_id).ok()?.to_owned(),
        expiration: Timestamp::from_micros(i64::from_be_bytes(*expiration)),
    })
}

fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((std::str::from_utf8(text).ok()?.to_owned(), rest))
}
