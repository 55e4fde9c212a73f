//! Names that refer to each other.

use rustls::pki_types::ServerName;

use crate::config::{ConfigError, Source, suggest};

/// Longest name of a port, bytes: with what is put in front and behind, it names rings and pools of DPDK
/// (`RTE_RING_NAMESIZE`, 29 with the NUL).
const PORT_NAME_MAX: usize = 19;

/// Refuses empty names and names used twice in the list `section`.
pub(super) fn unique<'a>(
    source: &Source,
    section: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), ConfigError> {
    let mut seen: Vec<&str> = Vec::new();
    for (index, name) in names.enumerate() {
        let key = || format!("{section}[{index}].name");
        if name.is_empty() {
            return Err(source.error(key(), "the name is empty"));
        }
        if let Some(first) = seen.iter().position(|&other| other == name) {
            return Err(source.error(
                key(),
                format!("the name `{name}` is that of {section}[{first}]; choose another"),
            ));
        }
        seen.push(name);
    }
    Ok(())
}

/// Refuses a port name that DPDK's rings and pools cannot be named after.
pub(super) fn port(source: &Source, key: &str, name: &str) -> Result<(), ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.len() <= PORT_NAME_MAX && name.bytes().all(plain) {
        return Ok(());
    }
    let message = format!(
        "`{name}` does not do: DPDK names its rings after it; give at most {PORT_NAME_MAX} letters \
         (a-z, A-Z), digits, `-` and `_`"
    );
    Err(source.error(key, message))
}

/// Refuses what is neither a DNS name nor an IP address.
pub(super) fn host(source: &Source, key: &str, name: &str) -> Result<(), ConfigError> {
    match ServerName::try_from(name) {
        Ok(_) => Ok(()),
        Err(_) => {
            let message = format!("`{name}` is neither a DNS name nor an IP address");
            Err(source.error(key, message))
        }
    }
}

/// The position of `name` among `names`; `what` says in the singular what it should name.
pub(super) fn find<'a, I>(
    source: &Source,
    key: &str,
    what: &str,
    name: &str,
    names: I,
) -> Result<usize, ConfigError>
where
    I: Iterator<Item = &'a str> + Clone,
{
    names
        .clone()
        .position(|candidate| candidate == name)
        .ok_or_else(|| {
            let hint = suggest::hint(name, names, "there are");
            source.error(key, format!("no {what} is called `{name}`{hint}"))
        })
}
