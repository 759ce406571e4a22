//! What a Wait says.

use crate::definition::fields::{Fields, Found, Range, looks_dynamic};
use crate::definition::{Language, Wait};
use crate::jsonata::Offered;
use crate::template::Template;

pub fn wait(fields: &Fields<'_>, found: &mut Found) -> Option<Wait> {
    let all = match fields.language {
        Language::JsonPath => &["Seconds", "SecondsPath", "Timestamp", "TimestampPath"][..],
        Language::Jsonata => &["Seconds", "Timestamp"][..],
    };
    if !fields.require_one(all, found) {
        return None;
    }
    if fields.get("Seconds").is_some() || fields.get("SecondsPath").is_some() {
        return fields
            .amount("Seconds", Range::SECONDS, found)
            .map(Wait::Seconds);
    }
    if fields.get("TimestampPath").is_some() {
        let path = fields.reference("TimestampPath", found).flatten();
        return path.map(Wait::TimestampPath);
    }
    let text = fields.text("Timestamp", found)?;
    let template = match fields.language {
        Language::Jsonata => fields.template("Timestamp", Offered::default(), found)?,
        Language::JsonPath => {
            if looks_dynamic(text) {
                let message = "Field value looks like a path, but field name does not end with \
                               'Path'.";
                found.warning("NO_PATH", message, fields.at("Timestamp"));
            }
            Template::Value(text.into())
        }
    };
    if let Template::Value(moment) = &template
        && crate::choice::timestamp(moment).is_none()
    {
        let message = "Value is not a valid ISO-8601 extended offset date-time format string";
        found.schema(message, fields.at("Timestamp"));
        return None;
    }
    Some(Wait::Timestamp(template))
}
