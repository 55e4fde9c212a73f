//! Ports, links, addresses.

use super::*;

#[test]
fn ports() {
    assert_eq!(
        problem(&[("    device: net_tap0\n", "")]),
        "x.yaml:10:5: ports[2]: the port `tap` has no device: give `device` (a PCI address, or a \
         name made by `--vdev`) or `link` (the port at the other end)"
    );
    assert_eq!(
        problem(&[(
            "    link: right\n",
            "    link: right\n    device: net_tap0\n"
        )]),
        "x.yaml:4:11: ports[0].link: a port is a device or an end of a link; remove `device` or `link`"
    );
    assert_eq!(
        problem(&[("device: net_tap0", "device: net_tap1")]),
        "x.yaml:11:13: ports[2].device: no `--vdev` of the EAL arguments makes the device `net_tap1` \
         (made are net_tap0); add `--vdev=net_tap1,…`"
    );
    assert_eq!(
        problem(&[("device: net_tap0", "device: \"3b:00.0\"")]),
        "x.yaml:11:13: ports[2].device: EAL's `--no-pci` hides the PCI device `3b:00.0`; replace it \
         with `-a 3b:00.0`"
    );
    assert_eq!(
        problem(&[
            ("device: net_tap0", "device: \"3b:00.0\""),
            ("\"--no-pci\"", "\"-a\", \"0000:5e:00.0\"")
        ]),
        "x.yaml:11:13: ports[2].device: EAL's `-a` and `-b` arguments leave out `3b:00.0`; add \
         `-a 3b:00.0`"
    );
    assert_eq!(
        problem(&[("name: tap", "name: left")]),
        "x.yaml:10:11: ports[2].name: the name `left` is that of ports[0]; choose another"
    );
    for name in ["a-name-of-twenty-let", "a/b", "\"a b\"", "ü"] {
        let text = problem(&[("  - name: tap", &format!("  - name: {name}"))]);
        assert!(
            text.starts_with("x.yaml:10:11: ports[2].name: ") && text.contains("at most 19"),
            "{text}"
        );
    }
    assert_eq!(
        problem(&[("mtu: 1500", "mtu: 1200")]),
        "x.yaml:5:10: ports[0].mtu: 1200 is out of range: an IPv6 MTU here is 1280..=9600"
    );
    assert_eq!(
        problem(&[("mtu: 1500", "rx_descriptors: 1000")]),
        "x.yaml:5:21: ports[0].rx_descriptors: 1000 does not do: give a power of two from 64 to 32768"
    );
}

/// What is said of the base's TAP port, or of its left end of a link, with an `offload:`.
fn offload_problem(port: &str, offload: &str) -> String {
    let with = format!("  - name: {port}\n    offload: {offload}\n");
    problem(&[(&format!("  - name: {port}\n"), &with)])
}

#[test]
fn offloads_that_make_no_sense() {
    for (port, offload, expected) in [
        (
            "tap",
            "{ tx_checksum: sometimes }",
            "x.yaml:11:29: ports[2].offload.tx_checksum: unknown value `sometimes`; choose one of: auto, hardware, \
             software, off",
        ),
        (
            "tap",
            "{ rx_checksum: off }",
            "x.yaml:11:29: ports[2].offload.rx_checksum: `off` is for links only: frames of a device must carry UDP \
             checksums (RFC 8200 §8.1); use `auto`, `hardware` or `software`",
        ),
        (
            "tap",
            "{ udp_segmentation: software }",
            "x.yaml:11:34: ports[2].offload.udp_segmentation: `software` does not do: without the device, each \
             datagram has a buffer of its own; use `auto`, `hardware` or `off`",
        ),
        (
            "tap",
            "{ hardware_pacing: off }",
            "x.yaml:11:33: ports[2].offload.hardware_pacing: `off` does not do: without the device, the engine \
             paces; use `auto`, `hardware` or `software`",
        ),
        (
            "tap",
            "{ vlan: 4095 }",
            "x.yaml:11:22: ports[2].offload.vlan: the VLAN id is out of range: give 1..=4094, or `off`",
        ),
        (
            "tap",
            "{ vlan: { id: 7, tagging: off } }",
            "x.yaml:11:40: ports[2].offload.vlan.tagging: `off` does not do: frames of a VLAN have tags; use \
             `auto`, `hardware` or `software`",
        ),
        (
            "left",
            "{ tx_checksum: hardware }",
            "x.yaml:4:29: ports[0].offload.tx_checksum: `hardware` does not do: a link within the process has no \
             hardware; use `auto`, `software` or `off`",
        ),
        (
            "left",
            "{ rx_checksum: software }",
            "x.yaml:4:29: ports[0].offload.rx_checksum: `software`, but `right` at the other end sends no checksums; \
             give it `offload: { tx_checksum: software }`, too",
        ),
    ] {
        assert_eq!(offload_problem(port, offload), expected, "{offload}");
    }
    assert_eq!(
        problem(&[("mtu: 1500", "checksum: software")]),
        "x.yaml:5:5: ports[0].checksum: unknown key `checksum`; use `offload: { tx_checksum: …, rx_checksum: … }`"
    );
    assert_eq!(
        problem(&[("mtu: 1500", "burst: 65")]),
        "x.yaml:5:12: ports[0].burst: 65 is out of range: give 1..=64 frames"
    );
}

#[test]
fn links() {
    assert_eq!(
        problem(&[("link: right", "link: rihgt")]),
        "x.yaml:4:11: ports[0].link: no port is called `rihgt`; did you mean `right`?"
    );
    assert_eq!(
        problem(&[
            ("link: right", "link: left"),
            ("link: left\n    addresses", "link: right\n    addresses")
        ]),
        "x.yaml:4:11: ports[0].link: a link needs two ports; name another one"
    );
    assert_eq!(
        problem(&[("link: right", "link: tap")]),
        "x.yaml:4:11: ports[0].link: the port `tap` is not linked back; give it `link: left`"
    );
    assert_eq!(
        problem(&[("mtu: 1500", "mtu: 9000")]),
        "x.yaml:5:10: ports[0].mtu: 9000, but 1500 on `right` at the other end; make them equal"
    );
}

#[test]
fn addresses() {
    assert_eq!(
        problem(&[("fd00::2/64", "fd00::1/64")]),
        "x.yaml:9:17: ports[1].addresses[0]: fd00::1 is an address of `left` already"
    );
    assert_eq!(
        problem(&[("fd00::2/64", "10.0.0.2/8")]),
        "x.yaml:9:17: ports[1].addresses[0]: `10.0.0.2` is IPv4; the engine speaks IPv6 only"
    );
    assert_eq!(
        problem(&[("gateway: \"fe80::1\"", "gateway: \"fd00:2::1\"")]),
        "x.yaml:13:14: ports[2].gateway: fd00:2::1 lies in no prefix of the port's addresses, so it \
         cannot be reached; give a link-local address, or add the prefix to `addresses`"
    );
    assert_eq!(
        problem(&[("gateway: \"fe80::1\"", "gateway: \"fd00:1::1\"")]),
        "x.yaml:13:14: ports[2].gateway: fd00:1::1 is an address of the port itself"
    );
}
