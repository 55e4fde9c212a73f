//! TAP interfaces that are taken. The driver opens them for several queues, so the kernel would join a second engine to
//! the first one's interface without a word, and give each half of the frames. Without `iface=` the kernel chooses a
//! name that is free (`dtap0`, `dtap1`, …), so there is nothing to look for.

use thiserror::Error;

use super::vdevs;

/// An interface that exists already.
#[derive(Debug, Error)]
#[error(
    "{vdev}: an interface {interface} exists already: another engine may hold it; choose another iface=, or \
     remove it with `ip link delete {interface}`"
)]
pub struct TapError {
    /// The `--vdev` argument.
    pub vdev: String,
    /// The interface it asks for.
    pub interface: String,
}

/// Looks for the interfaces of `net_tap` devices among those the kernel has.
pub(super) fn check(eal_arguments: &[String]) -> Result<(), TapError> {
    // Of this network namespace, unlike /sys/class/net.
    let existing = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    check_against(eal_arguments, &existing)
}

fn check_against(eal_arguments: &[String], existing: &str) -> Result<(), TapError> {
    let exists = |name: &str| {
        existing.lines().any(|line| {
            line.split_once(':')
                .is_some_and(|(own, _)| own.trim() == name)
        })
    };
    for vdev in vdevs::of("net_tap", eal_arguments) {
        if let Some(interface) = vdevs::parameter(vdev, "iface")
            && exists(interface)
        {
            return Err(TapError {
                vdev: vdev.to_owned(),
                interface: interface.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: &str = "Inter-|   Receive\n face |bytes\n    lo: 1 2\n stoq0: 0 0\n";

    fn check(arguments: &[&str]) -> Result<(), TapError> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        check_against(&arguments, DEVICES)
    }

    #[test]
    fn a_taken_interface_is_refused_in_both_spellings() {
        for arguments in [
            &["--vdev=net_tap0,iface=stoq0"][..],
            &["--vdev", "net_tap7,mac=fixed,iface=stoq0"],
        ] {
            let error = check(arguments).unwrap_err();
            assert_eq!(error.interface, "stoq0");
        }
    }

    #[test]
    fn others_are_not() {
        assert!(check(&["--vdev=net_tap0,iface=stoq1"]).is_ok());
        assert!(check(&["--vdev=net_tap0"]).is_ok());
        assert!(check(&["--vdev=net_af_packet0,iface=stoq0"]).is_ok());
        assert!(check(&["-l", "0", "--vdev"]).is_ok());
    }
}
