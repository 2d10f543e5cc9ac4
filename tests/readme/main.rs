//! README.md says what survives and what is refused. Each promise names the tests that show it; here they are held against each
//! other, in both directions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;

use ckptfs_tests::worker::{ends_well, worker};
use ckptfs_tests::{Mounted, tool};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names in the last column of the table's rows that say `verdict`.
fn promised(verdict: &str) -> BTreeSet<String> {
    let readme = read("../README.md");
    let rows = readme.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        (cells.len() == 3 && cells[1] == verdict).then(|| cells[2].to_owned())
    });
    rows.flat_map(|names| names.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Names of `macro!(name...)` or `name: "..."` lines in a test's source.
fn shown(path: &str, name: impl Fn(&str) -> Option<&str>) -> BTreeSet<String> {
    read(path).lines().filter_map(|line| name(line.trim()).map(str::to_owned)).collect()
}

fn victims() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in ["survive/main.rs", "survive/tree.rs"] {
        found.extend(shown(path, |line| line.strip_prefix("survives!(")?.split([',', ')', ' ']).next()));
    }
    // One victim under several builds, and those that need a terminal or a size of their own.
    found.retain(|name| !name.starts_with("counter_"));
    for (name, path) in [
        ("counter", "survive/main.rs"),
        ("terminal", "survive/terminal.rs"),
        ("terminal_async", "survive/terminal.rs"),
        ("terminal_jobs", "survive/terminal.rs"),
        ("overlay_removed", "survive/overlay.rs"),
        ("sparse", "mount/size.rs"),
        ("random_tree", "survive/random.rs"),
        ("sysv_shm_outside", "survive/sysv.rs"),
        ("sysv_sem_outside", "survive/sysv.rs"),
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
    assert_eq!(shown.difference(&promised).collect::<Vec<_>>(), Vec::<&String>::new(), "shown, not in the README");
    for name in promised {
        assert!(!read(&format!("victims/{name}.c")).is_empty(), "victim {name} is empty");
    }
}

#[test]
fn what_is_said_to_be_refused_is_what_is_shown() {
    let promised = promised("refused");
    let mut shown = shown("survive/refused.rs", |line| Some(line.strip_suffix("\";")?.split_once(": \"")?.0));
    for name in ["vfork_parent", "job_below", "outsiders_share", "hung_up"] {
        assert!(read("survive/refused.rs").contains(&format!("fn {name}()")));
        shown.insert(name.into());
    }
    assert!(promised.len() > 10, "the table is not found: {promised:?}");
    assert_eq!(promised, shown);
}

#[test]
fn what_others_hold_too_is_shown_both_ways() {
    let promised = promised("refused, or found again (`external-pipes=keep`)");
    let shown = read("survive/external.rs");
    assert_eq!(promised, BTreeSet::from(["external".to_owned()]));
    assert!(shown.contains("Spec::c(\"external\")") && !read("victims/external.c").is_empty());
    for test in
        ["a_pipe_is_refused_by_its_holder", "a_fifo_is_refused_by_its_holder", "a_pipe_is_kept", "a_fifo_is_kept"]
    {
        assert!(shown.contains(&format!("fn {test}()")), "{test}");
    }
}

/// The commands of the first code block behind a heading.
fn commands(heading: &str) -> String {
    let readme = read("../README.md");
    let (_, section) = readme.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let (_, block) = section.split_once("```\n").expect("a code block");
    block.split_once("```").expect("the end of the block").0.to_owned()
}

/// As a newcomer types them, in a mount namespace of its own, where what they leave in /ckpt and /var/backups goes with it.
#[test]
fn from_install_to_the_first_restored_backup() {
    let commands = commands("From install to the first restored backup");
    assert_eq!(commands.lines().count(), 5, "{commands}");
    let script = format!(
        r#"
        exec < /dev/null; for fd in /proc/$$/fd/*; do fd=${{fd##*/}}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done
        umount -l -a -t fuse.ckptfs; mkdir -p /ckpt /var/backups; mount -t tmpfs none /ckpt; mount -t tmpfs none /var/backups
        PATH=/usr/local/bin:$PATH
        trap 'kill -9 $! || :; umount /ckpt || :; umount /ckpt || :; rmdir --ignore-fail-on-non-empty /ckpt; cargo uninstall --quiet ckptfs --root /usr/local' EXIT
        {commands}
        test "$(tr '\0' ' ' < /proc/$!/cmdline)" = "sleep infinity "; test "$(awk '{{print $3}}' /proc/$!/stat)" = S
        echo restored
        "#
    );
    let dir = tempfile::tempdir().unwrap();
    let out = std::fs::File::create(dir.path().join("out")).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // A release build takes minutes.
    let mut command = std::process::Command::new("timeout");
    command.args(["--signal=TERM", "900", "unshare", "--mount", "bash", "-euo", "pipefail", "-c", &script]);
    let status = command.current_dir(root).stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
    let told = std::fs::read_to_string(dir.path().join("out")).unwrap();
    assert!(status.success() && told.ends_with("restored\n"), "{status}\n{told}");
}

/// The lines of the recipe: what is kept is there until it lives again, also where the first attempt fails.
#[test]
fn before_a_risky_step() {
    let recipes = commands("Recipes");
    let (_, recipe) = recipes.split_once("\n# Before a risky step").expect("the recipe");
    let mut victim = worker();
    let mount = Mounted::over(victim.pid());
    let lines: Vec<String> = recipe
        .lines()
        .skip(1)
        .take(2)
        .map(|line| line.replace("1234", &victim.pid().to_string()))
        .map(|line| line.replace("/ckpt/", &format!("{}/", mount.path().display())))
        .collect();
    let ([keep, back], none) = (&lines[..], &[""; 0]) else { panic!("{lines:?}") };
    let _kept = tool::shell(keep, none).success();
    let kept = mount.of(victim.pid(), "snapshots/before");
    // A file that it has open is not there. And nobody waits for the killed one yet, so that its pid is taken.
    let (count, away) = (victim.dir().join("count"), victim.dir().join("away"));
    std::fs::rename(&count, &away).unwrap();
    // As it is typed: an interactive shell goes on behind what fails.
    let failed = tool::shell(&format!("set +e; {back}"), none);
    assert!(kept.join("image").exists(), "the snapshot is gone");
    assert!(failed.code != 0 && failed.stderr.contains("write error"), "{}", failed.stderr);
    std::fs::rename(&away, &count).unwrap();
    victim.kill();
    let (_, again) = back.split_once(";").expect("kill, and what comes then");
    let _back = tool::shell(again, none).success();
    assert!(!kept.exists());
    ends_well(victim);
}
