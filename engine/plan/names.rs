//! Names that refer to each other.

use crate::config::{ConfigError, Source, suggest};

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
