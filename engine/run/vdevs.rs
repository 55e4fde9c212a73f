//! What EAL arguments say about virtual devices.

/// The `--vdev` arguments, in either spelling, whose driver begins with `driver`.
pub(super) fn of<'a>(driver: &str, arguments: &'a [String]) -> impl Iterator<Item = &'a str> {
    let values = arguments.iter().enumerate();
    let values = values.filter_map(|(index, argument)| match argument.strip_prefix("--vdev")? {
        "" => arguments.get(index + 1).map(String::as_str),
        value => value.strip_prefix('='),
    });
    values.filter(move |vdev| vdev.starts_with(driver))
}

/// The value of one of a device's parameters: `iface` of `net_tap0,iface=stoq0`.
pub(super) fn parameter<'a>(vdev: &'a str, name: &str) -> Option<&'a str> {
    let parameters = vdev.split(',').skip(1);
    let mut pairs = parameters.filter_map(|parameter| parameter.split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_their_parameters() {
        let arguments = [
            "-l",
            "0",
            "--vdev=net_tap0,iface=stoq0",
            "--vdev",
            "net_tap7,mac=fixed,iface=stoq7",
            "--vdev=net_null0",
            "--vdev",
        ]
        .map(str::to_owned);
        let taps: Vec<&str> = of("net_tap", &arguments).collect();
        assert_eq!(
            taps,
            ["net_tap0,iface=stoq0", "net_tap7,mac=fixed,iface=stoq7"]
        );
        assert_eq!(parameter(taps[1], "iface"), Some("stoq7"));
        assert_eq!(parameter(taps[0], "mac"), None);
    }
}
