//! The files in `configs/`.

use super::*;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

#[test]
fn every_file_in_configs_is_a_plan() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(configs()).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let (config, source) = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        Plan::new(&config, &source, &Given::default(), &Accept::default())
            .unwrap_or_else(|error| panic!("{error}"));
        names.push(file.file_stem().unwrap().to_string_lossy().into_owned());
    }
    for name in [
        "loopback",
        "loopback-2x2",
        "emulated",
        "tap",
        "tap-2queues",
        "null",
        "memif-server",
        "memif-client",
        "af_packet",
        "af_packet-client",
        "nic",
    ] {
        assert!(
            names.iter().any(|found| found == name),
            "configs/{name}.yaml is missing"
        );
    }
}

/// Whatever is cut off or damaged: an error with a place, never a panic.
#[test]
fn damaged_files_are_errors() {
    let text = std::fs::read_to_string(configs().join("loopback.yaml")).unwrap();
    let outcome = |text: String| match plan_of(text, &Given::default()) {
        Ok(_) => {}
        Err(ConfigError::At { line, column, .. }) => assert!(line > 0 && column > 0),
        Err(error) => panic!("no place: {error}"),
    };
    for (start, _) in text.match_indices('\n') {
        outcome(text[..start].to_owned());
        outcome(text[start..].to_owned());
    }
    for (index, damage) in [": ", "- ", "{", "]", "\"", "\t", "&a", "*a", "\0"]
        .iter()
        .enumerate()
    {
        for (start, _) in text.match_indices(": ").skip(index).step_by(9) {
            outcome(format!("{}{damage}{}", &text[..start], &text[start + 2..]));
        }
    }
}

/// Asks the parser which keys a section has, and looks for an explanation of each in the reference file.
#[test]
fn loopback_yaml_explains_every_key() {
    let reference = std::fs::read_to_string(configs().join("loopback.yaml")).unwrap();
    let sections = [
        "",
        "ports: [{ name: a, ",
        "ports: [{ offload: { ",
        "ports: [{ offload: { vlan: { ",
        "memory: { ",
        "shards: [{ name: a, ",
        "identities: [{ name: a, ",
        "transport: { ",
        "transport: { ack_frequency: { ",
        "connection_ids: { ",
        "connection_ids: { keys: [{ rotation: 0, ",
        "limits: { ",
        "metrics: { ",
        "listeners: [{ name: a, ",
        "listeners: [{ trust: { ",
        "listeners: [{ services: { ",
        "listeners: [{ services: { hq-interop: { ",
        "clients: [{ name: a, ",
        "clients: [{ trust: { ",
        "clients: [{ perf: { ",
        "clients: [{ hq: { ",
        "clients: [{ echo: { ",
        "run: { ",
    ];
    let mut keys_seen = 0;
    for section in sections {
        let closing: String = section
            .chars()
            .rev()
            .filter_map(|c| match c {
                '{' => Some('}'),
                '[' => Some(']'),
                _ => None,
            })
            .collect();
        let text = format!("{section}zzzzzzzzzz: 0{closing}\n");
        let error = Config::parse(Path::new("x"), text)
            .map(|(config, _)| config)
            .unwrap_err();
        let error = error.to_string();
        let (_, keys) = error
            .split_once("the keys here are: ")
            .unwrap_or_else(|| panic!("{error}"));
        for key in keys.split(", ") {
            assert!(
                reference
                    .lines()
                    .any(|line| line.contains(&format!("{key}:"))),
                "configs/loopback.yaml does not explain `{key}` ({section})"
            );
            keys_seen += 1;
        }
    }
    assert!(keys_seen > 80, "{keys_seen}");
}
