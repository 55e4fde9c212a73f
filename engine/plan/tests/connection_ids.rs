//! What connection IDs are made of.

use super::*;

const KEY: &str = "8f95f09245765f80256934e50c66207f";
const RESET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn with(section: &str) -> String {
    edited(&[(
        "limits:\n",
        &format!("connection_ids: {{ {section} }}\nlimits:\n"),
    )])
}

fn given(section: &str) -> Plan {
    plan_of(with(section), &Given::default()).unwrap()
}

fn refused(section: &str) -> String {
    let error = plan_of(with(section), &Given::default()).unwrap_err();
    error.to_string()
}

#[test]
fn host_keys_and_reset_key() {
    let plan = given(&format!(
        "host_id: 0a01, keys: [{{ rotation: 2, key: {KEY} }}, {{ rotation: 0, key: {KEY} }}], \
         reset_key: {RESET}"
    ));
    let ids = &plan.connection_ids;
    assert!(ids.given && plan.notes.is_empty());
    assert_eq!(ids.host_id, Some(vec![0x0a, 0x01]));
    let rotations: Vec<u8> = ids.keys.iter().map(|key| key.rotation).collect();
    assert_eq!(rotations, [2, 0]);
    assert_eq!(ids.keys[0].key.0[..2], [0x8f, 0x95]);
    assert_eq!(ids.reset_key.unwrap().0[..2], [0x00, 0x11]);
    let expected = "17 bytes: host id (0a01), shard and nonce, encrypted by the given key of rotation 2 (older IDs: 0); reset key given";
    assert!(plan.to_string().contains(expected), "{plan}");
}

#[test]
fn keys_are_never_shown() {
    let plan = given(&format!(
        "host_id: 0a01, keys: [{{ rotation: 2, key: {KEY} }}], reset_key: {RESET}"
    ));
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["connection_ids"]["host_id"], "0a01");
    assert_eq!(json["connection_ids"]["keys"][0]["key"], "given");
    let shown = [plan.to_string(), json.to_string(), format!("{plan:?}")];
    for text in shown {
        assert!(
            !text.contains("8f95") && !text.contains("143, 149"),
            "{text}"
        );
        assert!(!text.contains("ccddeeff"), "{text}");
    }
}

#[test]
fn what_is_not_given_is_random() {
    assert!(!base().connection_ids.given);
    assert!(
        base()
            .to_string()
            .contains("plain, 8 bytes; reset key random")
    );
    let plan = given("");
    assert!(plan.connection_ids.given && plan.connection_ids.keys.is_empty());
    assert!(plan.notes.is_empty());
    let expected =
        "17 bytes: host id (random), shard and nonce, encrypted by a random key; reset key random";
    assert!(plan.to_string().contains(expected), "{plan}");
}

#[test]
fn half_of_what_is_needed_is_worth_a_note() {
    for (section, missing) in [
        (
            "host_id: 0a01".to_owned(),
            "`connection_ids.keys` is random",
        ),
        (
            format!("keys: [{{ rotation: 0, key: {KEY} }}]"),
            "`connection_ids.host_id` is random",
        ),
        (
            format!("reset_key: {RESET}"),
            "`connection_ids.reset_key` ends no connections",
        ),
    ] {
        let notes = given(&section).notes;
        assert!(
            notes.len() == 1 && notes[0].starts_with(missing),
            "{notes:?}"
        );
    }
}

#[test]
fn what_does_not_fit() {
    assert_eq!(
        refused("host_id: 010203040506070809"),
        "x.yaml:23:28: connection_ids.host_id: 9 bytes do not fit: a host id has 1 to 8, since shard \
         and nonce share the 16 bytes of a connection ID with it"
    );
    assert_eq!(
        refused("host_id: 0x12"),
        "x.yaml:23:28: connection_ids.host_id: these are not bytes in hexadecimal: give two of 0-9, \
         a-f for each, in quotes"
    );
    assert_eq!(
        refused("keys: []"),
        "x.yaml:23:25: connection_ids.keys: the list is empty; give a key, or remove `keys` for a \
         random one at every start"
    );
    assert_eq!(
        refused("keys: [{ rotation: 0, key: 0011 }]"),
        "x.yaml:23:46: connection_ids.keys[0].key: the key has 2 bytes, not 16: give 32 hexadecimal \
         digits (`openssl rand -hex 16` makes them)"
    );
    assert_eq!(
        refused(&format!("keys: [{{ rotation: 7, key: {KEY} }}]")),
        "x.yaml:23:38: connection_ids.keys[0].rotation: 7 is out of range: 0..=6"
    );
    assert_eq!(
        refused(&format!(
            "keys: [{{ rotation: 1, key: {KEY} }}, {{ rotation: 1, key: {KEY} }}]"
        )),
        "x.yaml:23:94: connection_ids.keys[1].rotation: connection_ids.keys[0] has rotation 1 \
         already, and connection IDs tell their key by it; choose another"
    );
    assert_eq!(
        refused("reset_key: 00112233"),
        "x.yaml:23:30: connection_ids.reset_key: the key has 4 bytes, not 32: give 64 hexadecimal \
         digits (`openssl rand -hex 32` makes them)"
    );
}
