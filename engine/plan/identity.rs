//! Certificates with their keys, and files that are trusted.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Checks, names};
use crate::config::{Config, ConfigError, Identity, Source};

/// A certificate chain with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdentityPlan {
    /// Its name in the file.
    pub name: String,
    /// Where it comes from.
    pub source: IdentitySource,
}

/// Where an identity comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentitySource {
    /// Made at start, for these names.
    SelfSigned(Vec<String>),
    /// From PEM files, which exist.
    Files {
        /// Certificate chain, leaf first.
        certificate: PathBuf,
        /// Private key of the leaf.
        key: PathBuf,
    },
}

pub(super) fn plan(
    config: &Config,
    source: &Source,
    checks: &dyn Checks,
) -> Result<Vec<IdentityPlan>, ConfigError> {
    let all = &config.identities;
    names::unique(
        source,
        "identities",
        all.iter().map(|identity| identity.name.as_str()),
    )?;
    let one = |(index, identity): (usize, &Identity)| {
        Ok(IdentityPlan {
            name: identity.name.clone(),
            source: origin(source, checks, index, identity)?,
        })
    };
    all.iter().enumerate().map(one).collect()
}

fn origin(
    source: &Source,
    checks: &dyn Checks,
    index: usize,
    identity: &Identity,
) -> Result<IdentitySource, ConfigError> {
    let at = |key: &str| format!("identities[{index}].{key}");
    match (&identity.self_signed, &identity.certificate, &identity.key) {
        (Some(hosts), None, None) => {
            if hosts.is_empty() || hosts.iter().any(String::is_empty) {
                let message = "give the names the certificate is for, such as [\"localhost\"]";
                return Err(source.error(at("self_signed"), message));
            }
            for (number, name) in hosts.iter().enumerate() {
                let key = format!("{}[{number}]", at("self_signed"));
                // A certificate may be for all names of a domain.
                names::host(source, &key, name.strip_prefix("*.").unwrap_or(name))?;
            }
            Ok(IdentitySource::SelfSigned(hosts.clone()))
        }
        (None, Some(certificate), Some(key)) => {
            let certificate = file(source, &at("certificate"), certificate)?;
            let key = file(source, &at("key"), key)?;
            checks
                .identity(&certificate, &key)
                .map_err(|problem| source.error(at("certificate"), problem))?;
            Ok(IdentitySource::Files { certificate, key })
        }
        (None, Some(_), None) => {
            Err(source.error(at("certificate"), "its private key is missing; add `key`"))
        }
        (None, None, Some(_)) => {
            Err(source.error(at("key"), "its certificate is missing; add `certificate`"))
        }
        (Some(_), _, _) => {
            let message = "an identity is made at start or read from files; remove `self_signed`, \
                           or `certificate` and `key`";
            Err(source.error(at("self_signed"), message))
        }
        (None, None, None) => {
            let message = "give `self_signed`, or `certificate` and `key`";
            Err(source.error(format!("identities[{index}]"), message))
        }
    }
}

/// Finds the certificates that a peer's must lead up to; `key` is that of the list.
pub(super) fn anchors(
    source: &Source,
    checks: &dyn Checks,
    key: &str,
    files: &[PathBuf],
) -> Result<Vec<PathBuf>, ConfigError> {
    if files.is_empty() {
        return Err(source.error(key, "the list is empty; name at least one PEM file"));
    }
    let mut found = Vec::with_capacity(files.len());
    for (index, path) in files.iter().enumerate() {
        found.push(file(source, &format!("{key}[{index}]"), path)?);
    }
    checks
        .anchors(&found)
        .map_err(|problem| source.error(key, problem))?;
    Ok(found)
}

/// The path of a file that exists and can be read.
fn file(source: &Source, key: &str, path: &Path) -> Result<PathBuf, ConfigError> {
    let path = source.resolve(path);
    let problem = match std::fs::File::open(&path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() => return Ok(path),
        Ok(_) => "it is no file".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(source.error(key, format!("cannot read {}: {problem}", path.display())))
}
