//! Tests of the arguments; and the manual pages and completions of shells, which are made from them, lie beside the packages,
//! and are held in step here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::*;

/// What the generators write, by name.
fn generated(write: impl FnOnce(&Path)) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    files(dir.path())
}

fn files(dir: &Path) -> BTreeMap<String, String> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
    };
    fs::read_dir(dir).map(|all| all.map(entry).collect()).unwrap_or_default()
}

/// `UPDATE_DOCS=1` writes the folder anew.
fn assert_in_step(folder: &str, wanted: &BTreeMap<String, String>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(&dir).unwrap();
        for name in files(&dir).keys().filter(|name| !wanted.contains_key(*name)) {
            fs::remove_file(dir.join(name)).unwrap();
        }
        for (name, text) in wanted {
            fs::write(dir.join(name), text).unwrap();
        }
    }
    assert!(files(&dir) == *wanted, "{folder} is stale: UPDATE_DOCS=1 writes it anew");
}

#[test]
fn the_manual_is_that_of_the_arguments() {
    let command = Args::command().disable_help_subcommand(true);
    let pages = generated(|dir| clap_mangen::generate_to(command, dir).unwrap());
    assert!(pages["captiond.1"].contains("Describe photos"));
    assert!(pages["captiond-bundle-pull.1"].contains("mirror"));
    assert_in_step("packaging/man", &pages);
}

#[test]
fn the_completions_are_those_of_the_arguments() {
    let scripts = generated(|dir| {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut Args::command(), "captiond", dir).unwrap();
        }
    });
    assert_eq!(scripts.keys().collect::<Vec<_>>(), ["_captiond", "captiond.bash", "captiond.fish"]);
    assert_in_step("packaging/completions", &scripts);
}

#[test]
fn the_arguments_are_well_formed() {
    Args::command().debug_assert();
}

#[test]
fn labels_and_choices_are_separated_by_commas() {
    let args = Args::parse_from(["captiond", "label", "a.jpg", "--labels", "a dog,a car"]);
    let Command::Label { labels, .. } = args.command else { panic!("not a label") };
    assert_eq!(labels, ["a dog", "a car"]);
}
