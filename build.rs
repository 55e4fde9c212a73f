//! Stamps the git revision and the DPDK version into the engine.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    stamp("STOQ_GIT_REVISION", git_revision());
    stamp("STOQ_DPDK_VERSION", dpdk_version());
}

/// Makes `value` readable as `env!(name)`.
fn stamp(name: &str, value: Option<String>) {
    println!(
        "cargo::rustc-env={name}={}",
        value.as_deref().unwrap_or("unknown")
    );
}

/// The commit that is checked out, when the source is a checkout of its own (and not unpacked within another).
fn git_revision() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    watch_checkout();
    output("git", &["rev-parse", "--short=12", "HEAD"])
}

/// Runs this script again when another commit is checked out or made. HEAD changes with the branch, the branch's file
/// or the packed references with a commit; a worktree has these in different places, which git knows.
fn watch_checkout() {
    let branch = output("git", &["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        // A file that is absent would run this script on every build.
        if let Some(file) = output("git", &["rev-parse", "--git-path", name])
            && Path::new(&file).exists()
        {
            println!("cargo::rerun-if-changed={file}");
        }
    }
}

/// The version of the installed DPDK, as pkg-config tells it.
fn dpdk_version() -> Option<String> {
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");
    output("pkg-config", &["--modversion", "libdpdk"])
}

/// What a command printed, when it succeeded and printed something.
fn output(command: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
