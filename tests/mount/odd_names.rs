//! Names are bytes: of programs, of mapped files, of readers. The kernel cuts a program's name
//! after 15 bytes, so that valid UTF-8 may end in the middle of a character.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ckptfs_tests::{Cgroup, Event, Mounted, Spec, Victim, tool, wait};

use crate::{ends_well, mounted_worker, names};

/// A program's name of 16 bytes.
const PROGRAM: &str = "aaaaaaaaaaaaaaü";

/// The names that the victim maps: as /proc/PID/maps writes them, and as they are.
const MAPPED: [(&[u8], &[u8]); 3] =
    [(b"\xff\xfe", b"\xff\xfe"), (b"new\\012line", b"new\nline"), (b"back\\012slash", b"back\\012slash")];

fn victim() -> (Victim, Mounted) {
    let victim = Victim::ready(&Spec::c("odd_names"));
    let mount = Mounted::over(victim.pid());
    (victim, mount)
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The lines of a `maps` with `columns` words before the name. A line is the first five words,
/// which /proc has too, and the name.
fn lines<'a>(text: &'a [u8], columns: usize) -> Vec<(Vec<&'a [u8]>, &'a [u8])> {
    let line = |mut line: &'a [u8]| {
        let mut words = Vec::new();
        for _ in 0..columns {
            let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
            let (word, rest) = line.split_at(end);
            words.push(word);
            line = rest.trim_ascii_start();
        }
        words.truncate(5);
        (words, line)
    };
    text.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()).map(line).collect()
}

/// /proc/PID/maps of the victim, without the mappings that no image contains.
fn proc_maps(victim: &Victim) -> Vec<u8> {
    let text = fs::read(format!("/proc/{}/maps", victim.pid())).unwrap();
    let kept = text.split_inclusive(|byte| *byte == b'\n').filter(|line| !holds(line, b"[v"));
    kept.flatten().copied().collect()
}

#[test]
fn every_file_of_such_a_process_can_be_read() {
    let (victim, mount) = victim();
    let script = r#"
        ls -lR "$1" | (! grep '?')
        for file in image core info.json maps vmas/*; do cat "$1/$file" > /dev/null; done 2>&1
        jq -e .records "$1/info.json" > /dev/null
        tar -cf - -C "$1" . | tar -tf - | grep vmas/. > /dev/null
    "#;
    let script = script.replace("vmas/*;", "$(cd \"$1\" && echo vmas/*);");
    let output = tool::shell(&script, &[mount.of(victim.pid(), "")]).success();
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("", ""));
    let maps = proc_maps(&victim);
    let seen = names(&mount.of(victim.pid(), "vmas"));
    let ranges: Vec<String> =
        lines(&maps, 5).iter().map(|(words, _)| String::from_utf8_lossy(words[0]).into_owned()).collect();
    assert!(ranges.len() > 5 && ranges.iter().all(|range| seen.contains(range)), "{ranges:?} {seen:?}");
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// Names in a live process, in a pinned snapshot and in a stored image.
#[test]
fn maps_and_core_show_the_names_unchanged() {
    let (victim, mount) = victim();
    let pinned = mount.of(victim.pid(), "snapshots/now");
    fs::create_dir(&pinned).unwrap();
    let snap = mount.snap("snap");
    let _copied = tool::run(&[Path::new("cp"), &pinned.join("image"), &snap]).success();
    let stored = Mounted::with(&[Path::new("--image"), &snap]);
    let proc = proc_maps(&victim);
    for dir in [mount.of(victim.pid(), ""), pinned.clone(), stored.of(victim.pid(), "")] {
        let maps = fs::read(dir.join("maps")).unwrap();
        let (ours, theirs) = (lines(&maps, 6), lines(&proc, 5));
        for line in &theirs {
            let name = String::from_utf8_lossy(line.1);
            assert!(ours.contains(line), "no {name} in\n{}", String::from_utf8_lossy(&maps));
        }
        let notes = tool::run(&[Path::new("eu-readelf"), Path::new("-n"), &dir.join("core")]).success();
        for (written, name) in MAPPED {
            let of = |name: &[u8]| [victim.dir().as_os_str().as_bytes(), b"/", name, b"\n"].concat();
            assert!(holds(&maps, &of(written)), "{} is not in the maps", name.escape_ascii());
            assert!(holds(&notes.stdout, &of(name)), "{} is not in\n{}", name.escape_ascii(), notes.text());
        }
    }
    fs::remove_dir(pinned).unwrap();
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// The reader gets EDEADLK at once, because the daemon does not try to stop a tree that waits for
/// the daemon's answer.
#[test]
fn a_reader_of_the_tree_is_known_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let script = "cp /bin/cat \"./$1\"; echo $$ > pid; while [ ! -e image ]; do :; done; read -r image < image; \
                  exec \"./$1\" \"$image\" > /dev/null 2> said";
    let mut reader = tool::command(&["setsid", "dash", "-c", script, "reader", PROGRAM]);
    let mut reader = reader.current_dir(dir.path()).stdout(Stdio::null()).spawn().unwrap();
    let read_pid = || fs::read_to_string(dir.path().join("pid")).ok()?.trim().parse().ok();
    let pid = wait::poll(wait::LONG, read_pid).expect("the reader says its pid");
    let mount = Mounted::over(pid);
    fs::write(dir.path().join("fresh"), format!("{}\n", mount.of(pid, "image").display())).unwrap();
    let begin = Instant::now();
    fs::rename(dir.path().join("fresh"), dir.path().join("image")).unwrap();
    let status = reader.wait().unwrap();
    let said = fs::read(dir.path().join("said")).unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(status.signal().is_none() && said.contains("Resource deadlock avoided"), "{status}: {said}");
    assert!(begin.elapsed() < Duration::from_secs(4), "after {:?}", begin.elapsed());
}

#[test]
fn an_archiver_freezes_a_tree_once() {
    let (victim, mount) = mounted_worker();
    let script = r#"cp "$(command -v tar)" "$2"; "$2" -cf - -C "$1" "$3" | tar -tf - | grep image > /dev/null"#;
    let args = [mount.path(), mount.snap(PROGRAM), victim.pid().to_string().into()];
    let output = tool::shell(script, &args).success();
    assert_eq!(output.stderr, "");
    assert_eq!(mount.status()["counters"]["dumps"], 1);
    ends_well(victim);
}

/// A process is restored into such a cgroup, and a reader in it is not frozen while it waits.
#[test]
fn a_cgroup_may_have_one_too() {
    let cgroup = Cgroup::new("odd");
    let below = cgroup.below(OsStr::from_bytes(b"\xff \xc3"));
    let mut victim = Victim::ready(&Spec::c("odd_names"));
    below.add(victim.pid());
    let mount = Mounted::with(&[OsStr::new("--cgroup"), below.path().as_os_str()]);
    let script = "echo $$ > \"$1/cgroup.procs\"; cat \"$2\"";
    tool::shell(script, &[below.path(), &mount.file("image")]).fails_with("Resource deadlock avoided");
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    mount.restore(&snap);
    assert_eq!(below.pids(), [victim.pid()]);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}
