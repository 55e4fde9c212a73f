//! Certificates and their files.

use super::*;

#[test]
fn identities() {
    assert_eq!(
        problem(&[(
            "    self_signed: [\"localhost\"]\n",
            "    certificate: no/such.pem\n    key: key.pem\n"
        )]),
        "x.yaml:20:18: identities[0].certificate: cannot read no/such.pem: No such file or \
         directory (os error 2)"
    );
    assert_eq!(
        problem(&[(
            "    self_signed: [\"localhost\"]\n",
            "    certificate: chain.pem\n"
        )]),
        "x.yaml:20:18: identities[0].certificate: its private key is missing; add `key`"
    );
    assert_eq!(
        problem(&[("    self_signed: [\"localhost\"]\n", "")]),
        "x.yaml:19:5: identities[0]: give `self_signed`, or `certificate` and `key`"
    );
    assert_eq!(
        problem(&[("self_signed: [\"localhost\"]", "self_signed: []")]),
        "x.yaml:20:18: identities[0].self_signed: give the names the certificate is for, such as \
         [\"localhost\"]"
    );
    assert_eq!(
        problem(&[("[\"localhost\"]", "[\"*.example.com\", \"ünter\"]")]),
        "x.yaml:20:36: identities[0].self_signed[1]: `ünter` is neither a DNS name nor an IP address"
    );
}

#[test]
fn certificate_files_are_found_beside_the_configuration_and_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["chain.pem", "key.pem", "ca.pem"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let text = edited(&[
        (
            "    self_signed: [\"localhost\"]\n",
            "    certificate: chain.pem\n    key: key.pem\n",
        ),
        (
            "    shard: outside\n",
            "    shard: outside\n    client_auth: required\n    trust: { anchors: [ca.pem] }\n",
        ),
    ]);
    let (config, source) = Config::parse(&folder.path().join("x.yaml"), text).unwrap();
    let checks = Accept::default();
    let plan = Plan::new(&config, &source, &Given::default(), &checks).unwrap();
    let certificate = folder.path().join("chain.pem");
    let key = folder.path().join("key.pem");
    let expected = format!("{} {}", certificate.display(), key.display());
    assert_eq!(checks.0.into_inner(), [expected, "anchors 1".to_owned()]);
    assert_eq!(
        plan.identities[0].source,
        IdentitySource::Files { certificate, key }
    );
    let anchors = vec![folder.path().join("ca.pem")];
    assert_eq!(
        plan.shards[2].listeners[0].client_auth,
        ClientAuthPlan::Required(anchors)
    );

    let refused = Plan::new(&config, &source, &Given::default(), &Refuse)
        .unwrap_err()
        .to_string();
    let place = format!(
        "{}/x.yaml:20:18: identities[0].certificate: ",
        folder.path().display()
    );
    assert!(refused.starts_with(&place), "{refused}");
    assert!(
        refused.ends_with("chain.pem: the key is that of another certificate"),
        "{refused}"
    );
}
