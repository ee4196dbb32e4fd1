//! The rules of the house, kept as tests. Each failure says what to do instead.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Which crate may name which: the arrows of ARCHITECTURE.md. A crate that is not here yet is added
/// with the issue that builds it.
const ARROWS: &[(&str, &[&str])] = &[
    ("weir-config", &[]),
    ("weir-proxy", &["weir-config"]),
    ("weir-dns", &["weir-config"]),
    ("weir-deploy", &["weir-config"]),
    ("weir-failover", &["weir-config"]),
    ("weir-control", &["weir-config", "weir-deploy", "weir-failover"]),
    ("weir-edge-agent", &["weir-config", "weir-deploy"]),
    (
        "weir-bench",
        &[
            "weir-config",
            "weir-control",
            "weir-deploy",
            "weir-dns",
            "weir-failover",
            "weir-proxy",
            "weir-test-host",
        ],
    ),
    ("weir-test-app", &[]),
    ("weir-test-host", &[]),
    ("weir-test-tailnet", &[]),
    ("weir", &["weir-config", "weir-proxy", "weir-dns", "weir-deploy", "weir-control"]),
];

/// Each foreign library has one room.
const ROOMS: &[(&str, &[&str])] = &[
    // The bench holds the barest proxy that can be made of Pingora, to measure ours beside it.
    ("pingora", &["weir-proxy", "weir-bench"]),
    ("hickory-proto", &["weir-dns"]),
    ("hickory-server", &["weir-dns"]),
    ("bollard", &["weir-deploy"]),
    ("tailscale", &["weir-deploy"]),
    ("sqlx", &["weir-control"]),
    ("instant-acme", &["weir-control"]),
    ("axum", &["weir-control"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every package of the workspace: its name, its folder, and the names in its `[dependencies]`.
fn packages() -> Vec<(String, PathBuf, Vec<String>)> {
    let read = |folder: PathBuf| {
        let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let name = manifest["package"]["name"].as_str().unwrap().to_owned();
        let dependencies = manifest.get("dependencies").and_then(|table| table.as_table());
        let names = dependencies.map(|table| table.keys().cloned().collect()).unwrap_or_default();
        (name, folder, names)
    };
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    let members = members.iter().map(|member| root().join(member.as_str().unwrap()));
    members.chain([root()]).map(read).collect()
}

/// Every `.rs` file below a folder that git would keep.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn crates_name_only_those_that_the_arrows_allow() {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for (name, _, dependencies) in packages() {
        let Some(allowed) = arrows.get(name.as_str()) else {
            panic!("{name} is not in ARROWS: say there, and in ARCHITECTURE.md, whom it may name");
        };
        for dependency in dependencies.iter().filter(|name| name.starts_with("weir-")) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not name {dependency}. They meet in weir-config; see ARCHITECTURE.md"
            );
        }
    }
}

#[test]
fn each_foreign_library_has_one_room() {
    for (name, _, dependencies) in packages() {
        for (library, rooms) in ROOMS {
            assert!(
                !dependencies.iter().any(|d| d == library) || rooms.contains(&name.as_str()),
                "{name} must not use {library}, whose room is {rooms:?}"
            );
        }
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for (name, folder, _) in packages() {
        let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(
            inherits.and_then(toml::Value::as_bool),
            Some(true),
            "{name}: add `[lints] workspace = true`"
        );
    }
}

#[test]
fn the_plan_is_pure() {
    let folders = ["control/src/plan", "failover/src"];
    for file in folders.iter().flat_map(|folder| sources(&root().join(folder))) {
        let text = fs::read_to_string(&file).unwrap();
        for (word, why) in [
            ("async", "the plan waits for nothing"),
            ("await", "the plan waits for nothing"),
            ("Moment::now", "the time is an argument"),
            ("Instant", "the time is an argument"),
            ("SystemTime", "the time is an argument"),
            ("rand::", "chance is an argument"),
            ("tokio", "the plan does no I/O"),
            ("std::fs", "the plan does no I/O"),
        ] {
            assert!(!text.contains(word), "{}: `{word}`: {why}", file.display());
        }
    }
}

#[test]
fn the_shared_vocabulary_does_no_io() {
    for file in sources(&root().join("config/src")) {
        let text = fs::read_to_string(&file).unwrap();
        for word in ["std::fs", "std::net::Tcp", "tokio::net", "tokio::fs", "std::process"] {
            assert!(!text.contains(word), "{}: `{word}` belongs elsewhere", file.display());
        }
    }
}

#[test]
fn the_publisher_has_one_owner() {
    let text = fs::read_to_string(root().join("config/src/publish.rs")).unwrap();
    let derives = text
        .lines()
        .zip(text.lines().skip(1))
        .find(|(_, line)| line.contains("pub struct Publisher"))
        .unwrap();
    assert!(!derives.0.contains("Clone"), "only the control loop may swap what is served");
}

/// Files this long are two rooms. A ratchet, not a wall: lower the number when the longest shrinks.
#[test]
fn files_stay_readable() {
    const MOST_LINES: usize = 600;
    for file in sources(&root()) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(
            lines <= MOST_LINES,
            "{} has {lines} lines, more than {MOST_LINES}: find the second room in it",
            file.display()
        );
    }
}

/// Each invariant of ARCHITECTURE.md names the test that keeps it, and that test exists.
#[test]
fn every_invariant_names_a_test_that_exists() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("## Invariants").nth(1).expect("a section `## Invariants`");
    let section = section.split("\n## ").next().unwrap();
    let all: String =
        sources(&root()).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let invariants: Vec<_> = section.lines().filter(|line| line.starts_with("- ")).collect();
    assert!(!invariants.is_empty());
    for invariant in invariants {
        let test = invariant.rsplit('`').nth(1).unwrap_or_default();
        assert!(
            !test.is_empty() && all.contains(&format!("fn {test}(")),
            "no test `{test}` keeps this invariant: {invariant}"
        );
    }
}
