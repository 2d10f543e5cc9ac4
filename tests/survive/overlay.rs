//! Files of an overlay, which is the usual root of a container: a lower layer that is never written
//! to, and an upper layer with the changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use ckptfs_tests::{Event, Mode, Mounted, Spec, Victim, modes, tool};

use super::refused::{UNSUPPORTED, refuses};

/// A mounted overlay. Drop unmounts it.
struct Overlay(tempfile::TempDir);

impl Overlay {
    fn new() -> Overlay {
        Overlay::over(&["tool", "lib", "data"].map(|name| (name, format!("old {name}"))))
    }

    /// With these lower files.
    fn over(files: &[(&str, String)]) -> Overlay {
        let dir = tempfile::tempdir().unwrap();
        let part = |name: &str| dir.path().join(name);
        ["lower", "upper", "work", "merged"].iter().for_each(|name| fs::create_dir(part(name)).unwrap());
        for (name, contents) in files {
            fs::write(part("lower").join(name), contents).unwrap();
        }
        let shown = |name| part(name).display().to_string();
        let layers = format!("lowerdir={},upperdir={},workdir={}", shown("lower"), shown("upper"), shown("work"));
        let _mounted = tool::run(&[
            "mount".into(),
            "-t".into(),
            "overlay".into(),
            "overlay".into(),
            "-o".into(),
            layers.into(),
            part("merged"),
        ])
        .success();
        Overlay(dir)
    }

    fn merged(&self) -> PathBuf {
        self.0.path().join("merged")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _unmounted = tool::command(&["umount", "-l", &self.merged().display().to_string()]).status();
    }
}

fn run(mode: Mode) {
    let overlay = Overlay::new();
    let mut victim = Victim::ready(&Spec::c("overlay_removed").arg(overlay.merged()));
    modes::checkpoint(&mut victim, mode);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
    assert_eq!(fs::read(overlay.merged().join("lib")).unwrap(), b"newer");
    let left = |dir: &Path| fs::read_dir(dir).unwrap().count();
    assert_eq!(left(&overlay.merged()), 1, "nothing but the new file is left");
}

ckptfs_tests::in_four_modes!(run);

/// A file of the upper layer that has another name must not be treated as a file without a name.
#[test]
fn a_name_elsewhere() {
    let overlay = Overlay::new();
    let victim = Victim::ready(&Spec::c("overlay_removed").arg(overlay.merged()).arg("elsewhere"));
    refuses(&victim, UNSUPPORTED, "hard link");
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// Files of the lower layer that are mapped, and then changed: the overlay copies them up, and the
/// mappings still show what they were.
mod copied_up {
    use super::*;

    fn victim(what: &str) -> (Overlay, Victim) {
        let pages = ["a", "b", "c"].map(|letter| letter.repeat(4096)).concat() + "tail";
        let overlay = Overlay::over(&[("lib", pages)]);
        let victim = Victim::ready(&Spec::c("overlay_copied").arg(overlay.merged()).arg(what));
        (overlay, victim)
    }

    fn run(mode: Mode) {
        let (overlay, mut victim) = victim("private");
        modes::checkpoint(&mut victim, mode);
        victim.go(1);
        assert_eq!(victim.event(1), Event::Ok);
        victim.finish();
        assert!(fs::read(overlay.merged().join("lib")).unwrap().starts_with(b"new"));
    }

    ckptfs_tests::in_four_modes!(run);

    #[test]
    fn what_cannot_be_mapped_again_is_refused() {
        for (what, word) in [("shared", "which is shared"), ("shorter", "the copy is shorter")] {
            let (_overlay, victim) = victim(what);
            refuses(&victim, UNSUPPORTED, word);
            victim.go(1);
            assert_eq!(victim.event(1), Event::Ok);
            victim.finish();
        }
    }

    /// A copy with the same contents (chmod(1) makes one) needs nothing in the image.
    #[test]
    fn an_equal_copy() {
        for (what, stored) in [("equal", 4096), ("shared_equal", 0)] {
            let (_overlay, mut victim) = victim(what);
            let mount = Mounted::over(victim.pid());
            let maps = fs::read_to_string(mount.of(victim.pid(), "maps")).unwrap();
            let lines = maps.lines().filter(|line| line.contains("/merged/lib"));
            let bytes: Vec<u64> = lines.map(|line| line.split_whitespace().nth(5).unwrap().parse().unwrap()).collect();
            assert_eq!((bytes.len(), bytes.iter().sum::<u64>()), (2, stored), "{maps}");
            drop(mount);
            modes::cycle(&mut victim, 1);
            victim.go(1);
            assert_eq!(victim.event(1), Event::Ok);
            victim.finish();
        }
    }
}
