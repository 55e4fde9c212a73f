//! The YAML parser's errors, in the words of this configuration.

use serde_saphyr::{DefaultMessageFormatter, Error, MessageFormatter};

use super::error::ConfigError;
use super::source::{Place, Position, Source};
use super::suggest;

/// Adds the key's path and a way to mend it to an error of the YAML parser.
pub(super) fn explain(source: &Source, error: &Error) -> ConfigError {
    let error = innermost(error);
    let Some(location) = error.location() else {
        return source.error("", message(error, None));
    };
    let at = Position::from(location);
    let place = source.place(at);
    match error {
        Error::SerdeMissingField { field, .. } => {
            let mapping = place.mapping().to_owned();
            source.error(mapping, format!("the key `{field}` is missing"))
        }
        _ => source.error_at(at, place.path().to_owned(), message(error, Some(&place))),
    }
}

fn innermost(error: &Error) -> &Error {
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => innermost(error),
        error => error,
    }
}

fn message(error: &Error, place: Option<&Place<'_>>) -> String {
    match error {
        Error::Message { msg, .. } => msg.clone(),
        Error::SerdeUnknownField { field, .. } if field == "checksum" => {
            // A key of ports until there were offloads.
            "unknown key `checksum`; use `offload: { tx_checksum: …, rx_checksum: … }`".to_owned()
        }
        Error::SerdeUnknownField {
            field, expected, ..
        } => {
            let hint = suggest::hint(field, expected.iter().copied(), "the keys here are");
            format!("unknown key `{field}`{hint}")
        }
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => {
            let hint = suggest::hint(variant, expected.iter().copied(), "choose one of");
            format!("unknown value `{variant}`{hint}")
        }
        Error::SerdeInvalidType {
            unexpected,
            expected,
            ..
        }
        | Error::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => {
            format!("expected {expected}, found {unexpected}")
        }
        Error::InvalidScalar { ty, .. } => {
            let found = place.and_then(Place::scalar).unwrap_or("the value");
            format!("`{found}` is not {}", scalar_type(ty))
        }
        Error::Unexpected { expected, .. } => format!("expected {}", shape(expected)),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` stands here twice; remove one")
        }
        other => DefaultMessageFormatter.format_message(other).into_owned(),
    }
}

fn scalar_type(ty: &str) -> &str {
    match ty {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "bool" | "boolean" => "`true` or `false`",
        other => other,
    }
}

fn shape(expected: &str) -> &str {
    match expected {
        "mapping start" => "`key: value` lines, or `{}` for the defaults",
        "sequence start" => "a list: `- item` lines, or `[item, item]`",
        other => other,
    }
}
