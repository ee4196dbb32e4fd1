//! The examples are valid and complete, and each bad file is told all that is wrong with it.

#![allow(clippy::unwrap_used)] // Also in what the tests share, a panic is a failed test.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use weir_config::{Hostname, Manifest, Problems, Settings, SettingsSpec, parse_documents};

#[test]
fn every_example_is_valid() {
    for file in files("examples") {
        let name = file.display();
        assert_eq!(file.extension().unwrap_or_default(), "yaml", "{name} is no example");
        if is_settings(&file) {
            settings(&file).unwrap_or_else(|problems| panic!("{name}:\n{problems}"));
            continue;
        }
        let found = manifests(&file).unwrap_or_else(|problems| panic!("{name}:\n{problems}"));
        assert!(!found.is_empty(), "{name} is empty");
    }
}

#[test]
fn full_examples_show_every_field() {
    let full = manifests(&directory("examples").join("full.yaml")).unwrap();
    let Manifest::App(app) = &full[0] else { panic!("{full:?}") };
    check_complete("full.yaml", &serde_json::to_value(&app.0).unwrap());
    let text = read(&directory("examples").join("settings.yaml"));
    let settings = SettingsSpec::parse(&text).unwrap();
    check_complete("settings.yaml", &serde_json::to_value(settings).unwrap());
}

/// Each bad file begins with a line `# expect: LINE:COLUMN: text` for each of its problems; the
/// text is what the problem's own begins with.
#[test]
fn every_problem_of_bad_files_is_told_with_its_place() {
    let mut failures = Vec::new();
    for file in files("tests/bad") {
        let text = read(&file);
        let mut expected: Vec<_> =
            text.lines().map_while(|line| line.strip_prefix("# expect: ")).collect();
        let result = if is_settings(&file) {
            settings(&file).map(|_| ())
        } else {
            manifests(&file).map(|_| ())
        };
        let mut found: Vec<_> = match result {
            Ok(()) => Vec::new(),
            Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
        };
        found.sort();
        expected.sort_unstable();
        let is_same = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(found, expected)| found.starts_with(expected));
        if !is_same || expected.is_empty() {
            let found = found.join("\n  ");
            let expected = expected.join("\n  ");
            let name = file.display();
            failures.push(format!("{name}\n found:\n  {found}\n expected:\n  {expected}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What `weir check` does with one file.
fn manifests(file: &Path) -> Result<Vec<Manifest>, Problems> {
    let base: Hostname = "weir.localhost".parse().unwrap();
    let mut manifests = Vec::new();
    let mut problems = Problems::default();
    for document in parse_documents(&read(file))? {
        match Manifest::read(document.value.clone(), &base) {
            Ok(manifest) => manifests.push(manifest),
            Err(found) => problems.0.extend(document.locate(found).0),
        }
    }
    problems.or_value(manifests)
}

/// What `weir serve --config` does with a file.
fn settings(file: &Path) -> Result<Settings, Problems> {
    SettingsSpec::parse(&read(file))?.resolve("/nowhere".into())
}

fn is_settings(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("settings"))
}

/// A field that has a value is one that the file writes.
fn check_complete(example: &str, known: &Value) {
    let text = read(&directory("examples").join(example));
    let written = &parse_documents(&text).unwrap()[0].value;
    let (written, known) = (fields("", written), fields("", known));
    let missing: Vec<_> = known.difference(&written).collect();
    assert!(missing.is_empty(), "config/examples/{example} does not show {missing:?}");
}

fn fields(name: &str, value: &Value) -> BTreeSet<String> {
    let Some(object) = value.as_object() else { return BTreeSet::from([name.to_owned()]) };
    object.iter().flat_map(|(key, value)| fields(&format!("{name}.{key}"), value)).collect()
}

fn files(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory(name)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
