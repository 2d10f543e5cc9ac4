//! docs/support.md says what survives and what is refused. Each promise names the tests that show
//! it. The promises and the tests are compared here, in both directions.

use std::collections::BTreeSet;

use super::{read, rows};

/// The names in the last column of the rows with this `verdict`.
fn promised(verdict: &str) -> BTreeSet<String> {
    let rows = rows(&read("docs/support.md")).into_iter().filter(|[_, cell, _]| cell == verdict);
    rows.flat_map(|[_, _, names]| names.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The names that `name` finds in the lines of a test's source.
fn shown(path: &str, name: impl Fn(&str) -> Option<&str>) -> BTreeSet<String> {
    read(path).lines().filter_map(|line| name(line.trim()).map(str::to_owned)).collect()
}

fn victims() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in ["tests/survive/main.rs", "tests/survive/tree.rs"] {
        found.extend(shown(path, |line| line.strip_prefix("survives!(")?.split([',', ')', ' ']).next()));
    }
    // Drop the builds of one victim, and add the victims that need a terminal or a size of their
    // own.
    found.retain(|name| !name.starts_with("counter_"));
    for (name, path) in [
        ("counter", "tests/survive/main.rs"),
        ("terminal", "tests/survive/terminal.rs"),
        ("terminal_async", "tests/survive/terminal.rs"),
        ("terminal_jobs", "tests/survive/terminal.rs"),
        ("terminal_null", "tests/mount/outside_terminal.rs"),
        ("overlay_removed", "tests/survive/overlay.rs"),
        ("overlay_copied", "tests/survive/overlay.rs"),
        ("sparse", "tests/mount/size.rs"),
        ("random_tree", "tests/survive/random.rs"),
        ("sysv_shm_outside", "tests/survive/sysv.rs"),
        ("sysv_sem_outside", "tests/survive/sysv.rs"),
    ] {
        assert!(read(path).contains(&format!("\"{name}\"")), "{path} does not use victim {name}");
        found.insert(name.to_owned());
    }
    found
}

#[test]
fn what_is_said_to_survive_is_what_is_shown() {
    let (promised, shown) = (promised("restored"), victims());
    assert!(promised.len() > 60, "the table is not found: {promised:?}");
    assert_eq!(promised.difference(&shown).collect::<Vec<_>>(), Vec::<&String>::new(), "promised, not shown");
    assert_eq!(shown.difference(&promised).collect::<Vec<_>>(), Vec::<&String>::new(), "shown, not in the table");
    for name in promised {
        assert!(!read(&format!("tests/victims/{name}.c")).is_empty(), "victim {name} is empty");
    }
}

#[test]
fn what_is_said_to_be_refused_is_what_is_shown() {
    let promised = promised("refused");
    let mut shown = shown("tests/survive/refused.rs", |line| Some(line.strip_suffix("\";")?.split_once(": \"")?.0));
    for name in ["vfork_parent", "inotify_unread", "job_below", "outsiders_share", "hung_up"] {
        assert!(read("tests/survive/refused.rs").contains(&format!("fn {name}()")));
        shown.insert(name.into());
    }
    assert!(promised.len() > 10, "the table is not found: {promised:?}");
    assert_eq!(promised, shown);
}

#[test]
fn what_others_hold_too_is_shown_both_ways() {
    let promised = promised("the same again, or what the restore names (`external-pipes`, `pipe:ID`)");
    let shown = read("tests/survive/external.rs");
    assert_eq!(promised, BTreeSet::from(["external".to_owned()]));
    assert!(shown.contains("Spec::c(\"external\")") && !read("tests/victims/external.c").is_empty());
    for test in [
        "a_pipe_is_connected_again",
        "a_fifo_is_connected_again",
        "a_lost_pipe_is_refused_until_a_file_is_named",
        "a_lost_fifo_is_refused_until_a_file_is_named",
    ] {
        assert!(shown.contains(&format!("fn {test}()")), "{test}");
    }
}
