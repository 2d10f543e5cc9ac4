//! Files of an overlay, which is the usual root of a container: a lower layer that is never written
//! to, and an upper layer with the changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use ckptfs_tests::{Event, Mode, Spec, Victim, modes, tool};

use super::refused::{UNSUPPORTED, refuses};

/// A mounted overlay. Drop unmounts it.
struct Overlay(tempfile::TempDir);

impl Overlay {
    fn new() -> Overlay {
        let dir = tempfile::tempdir().unwrap();
        let part = |name: &str| dir.path().join(name);
        ["lower", "upper", "work", "merged"].iter().for_each(|name| fs::create_dir(part(name)).unwrap());
        for name in ["tool", "lib", "data"] {
            fs::write(part("lower").join(name), format!("old {name}")).unwrap();
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
