//! The structure that ARCHITECTURE.md promises, checked against what cargo sees.

use std::collections::BTreeSet;
use std::process::Command;

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Members and the members they depend on outside of tests.
fn members() -> Vec<(String, BTreeSet<String>)> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<_> = packages.iter().map(|package| package["name"].as_str().unwrap().to_owned()).collect();
    packages
        .iter()
        .map(|package| {
            let normal =
                package["dependencies"].as_array().unwrap().iter().filter(|dependency| dependency["kind"].is_null());
            let uses = normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
            (package["name"].as_str().unwrap().to_owned(), uses.filter(|name| names.contains(name)).collect())
        })
        .collect()
}

#[test]
fn receive_process_and_export_depend_on_core_and_never_on_each_other() {
    for (member, uses) in members() {
        let allowed: &[&str] = match member.as_str() {
            "otlp-core" => &[],
            "otlp-receive" | "otlp-process" | "otlp-export" => &["otlp-core"],
            _ => continue,
        };
        assert!(uses.iter().all(|name| allowed.contains(&name.as_str())), "{member} depends on {uses:?}");
    }
}

#[test]
fn the_members_are_those_that_were_agreed() {
    let names: BTreeSet<_> = members().into_iter().map(|(name, _)| name).collect();
    let agreed = ["otlp-benches", "otlp-bin", "otlp-core", "otlp-export", "otlp-process", "otlp-receive"];
    assert_eq!(names, agreed.map(str::to_owned).into());
}

#[test]
fn otlp_core_has_no_default_features_and_every_crate_forbids_unsafe_code() {
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if name == "otlp-core" {
            assert_eq!(package["features"]["default"], serde_json::json!([]), "{name}");
        }
        let manifest = std::fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name} does not take the workspace's lints");
    }
}

#[test]
fn the_program_is_a_short_main_over_the_public_library() {
    let main = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/main.rs")).unwrap();
    assert!(main.lines().count() < 300, "{} lines", main.lines().count());
    assert!(!main.lines().any(|line| line.starts_with("mod ")), "what main uses is public");
}
