//! Writing an image: the restored processes, and what is left when a restore fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ckptfs_tests::{Event, Mounted, Spec, Victim, process, tool, wait};
use nix::sys::signal::Signal;

use crate::{count, ends_well, goes_on, mounted_worker, pids};

/// A killed worker, its mount and its image.
fn dead_worker() -> (Victim, Mounted, Vec<u8>) {
    let (mut victim, mount) = mounted_worker();
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    (victim, mount, fs::read(snap).unwrap())
}

/// Asserts that no process of a failed restore lives.
fn nothing_is_left(victim: &Victim, mount: &Mounted) {
    wait::until("nothing is left of it", || {
        process::is_free(victim.pid()) && process::children(mount.daemon()).is_empty()
    });
    assert!(pids(mount).is_empty());
}

/// The newest JSON line that `restore` returns. It describes the last restore.
fn last(mount: &Mounted) -> serde_json::Value {
    let text = fs::read_to_string(mount.file("restore")).unwrap();
    serde_json::from_str(text.lines().last().expect("a line for each restore")).unwrap()
}

#[test]
fn by_every_tool() {
    let (mut victim, mount, image) = dead_worker();
    let snap = mount.snap("snap");
    let scripts = [
        "cat \"$1\" > \"$2\"",
        "cat \"$1\" >> \"$2\"",
        "cp \"$1\" \"$2\"",
        "dd if=\"$1\" of=\"$2\" bs=1M status=none",
        "dd if=\"$1\" of=\"$2\" bs=10k conv=notrunc status=none",
        "cat \"$1\" | tee \"$2\" > /dev/null",
        "dd if=\"$1\" of=\"$2\" bs=777k status=none",
        "{ cat \"$1\"; head -c 10000 /dev/zero; } > \"$2\"",
    ];
    for script in scripts {
        let _lives = tool::shell(script, &[&snap, &mount.file("restore")]).success();
        assert!(victim.is_here(), "{script}");
        assert!(last(&mount).to_string().contains(&victim.pid().to_string()), "{script}: {}", last(&mount));
        goes_on(&victim);
        assert_eq!(pids(&mount), [victim.pid()]);
        victim.kill();
    }
    assert!(!image.is_empty());
    mount.restore(&snap);
    ends_well(victim);
}

#[test]
fn pid_taken() {
    let (victim, mount) = mounted_worker();
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    mount.try_restore(&snap).fails_with("File exists");
    let told = last(&mount).to_string();
    assert!(told.contains(&victim.pid().to_string()), "{told}");
    assert!(process::children(mount.daemon()).is_empty());
    ends_well(victim);
}

/// A killed root may leave a child, which is in the way of a restore: by its own pid, or because it
/// is in the root's process group.
#[test]
fn a_child_that_lives_on_is_named() {
    for start in ["", "setsid "] {
        let script = format!("{start}sh -c 'sleep 1000; :'; sleep 1000");
        let victim = Victim::start(&Spec::command("sh").arg("-c").arg(script));
        let (root, child) = wait::poll(wait::LONG, || {
            let root = *process::children(victim.pid()).first()?;
            Some((root, *process::children(root).first()?))
        })
        .expect("the tree");
        wait::until("the child sleeps", || process::status(child, "Name").as_deref() == Some("sleep"));
        let mount = Mounted::over(root);
        let snap = mount.snap("snap");
        mount.dump(root, &snap);
        process::kill(root, Signal::SIGKILL);
        mount.try_restore(&snap).fails_with("File exists");
        let told = last(&mount)["error"].as_str().unwrap().to_owned();
        let named = if start.is_empty() {
            format!("pid {child} is taken: a process with this id is alive: sleep 1000; ")
        } else {
            format!("pid {root} is taken: it is still the process group or session of pid {child} (sleep 1000); ")
        };
        assert!(told.starts_with(&named) && told.contains("kill -9") && told.contains("PID/kill"), "{told}");
        process::kill(child, Signal::SIGKILL);
        // Without its parent it is a child of this process, as it would be one of init.
        wait::until("it is reaped", || process::is_free(child));
        mount.restore(&snap);
        assert_eq!(process::children(root), [child]);
    }
}

/// A restore directly after a kill may start before the process has ended. The restore waits for
/// its end.
#[test]
fn right_behind_a_kill() {
    let mut victim = Victim::ready(&Spec::c("large"));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    mount.restore(&snap);
    for _ in 0..5 {
        let script = "kill -9 \"$1\"; cat \"$2\" > \"$3\"";
        let _lives = tool::shell(
            script,
            &[victim.pid().to_string().into(), snap.clone().into_os_string(), mount.file("restore").into()],
        )
        .success();
    }
    // Processes that a truncated image made are not in the way of the next restore either.
    victim.kill();
    let script = "head -c -5 \"$1\" > \"$2\" 2> /dev/null || cat \"$1\" > \"$2\"";
    let _lives = tool::shell(script, &[snap, mount.file("restore")]).success();
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

#[test]
fn truncated() {
    let (victim, mount, image) = dead_worker();
    let len = image.len();
    let cut = mount.snap("cut");
    for at in [1, 7, 63, 64, 1000, 4096, 10_000, len / 4, len / 2, len - 4096, len - 64, len - 8, len - 1] {
        fs::write(&cut, &image[..at]).unwrap();
        mount.try_restore(&cut).fails_with("Invalid argument");
        nothing_is_left(&victim, &mount);
        assert!(last(&mount).to_string().contains("error"), "cut at {at}: {}", last(&mount));
    }
    mount.restore(&mount.snap("snap"));
    ends_well(victim);
}

/// A FIFO can be opened by its name. Other processes that have it open do not notice a failed
/// restore.
#[test]
fn a_fifo_of_a_damaged_one() {
    let mut victim = Victim::ready(&Spec::c("fifo"));
    let mount = Mounted::over(victim.pid());
    let (snap, cut) = (mount.snap("snap"), mount.snap("cut"));
    mount.dump(victim.pid(), &snap);
    victim.kill();
    let image = fs::read(&snap).unwrap();
    let mut damaged = image.clone();
    let last = image.len() - 5000;
    damaged[last] ^= 1;
    let open =
        |options: &mut OpenOptions, name: &str| options.custom_flags(libc::O_NONBLOCK).open(victim.dir().join(name));
    let mut reader = open(OpenOptions::new().read(true), "both").unwrap();
    let waits = victim.dir().join("left");
    let waiting = std::thread::spawn(move || OpenOptions::new().write(true).open(waits));
    for bytes in [&image[..last], &damaged] {
        fs::write(&cut, bytes).unwrap();
        mount.try_restore(&cut).fails_with("Invalid argument");
        nothing_is_left(&victim, &mount);
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "a FIFO was written to");
        assert!(!waiting.is_finished(), "a writer that waited for a reader has got one");
    }
    drop(reader);
    let rest = open(OpenOptions::new().read(true), "left").unwrap();
    drop(waiting.join().unwrap().unwrap());
    drop(rest);
    mount.restore(&snap);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

#[test]
fn damaged() {
    let (victim, mount, image) = dead_worker();
    let bad = mount.snap("bad");
    for place in [0, 9, 17, 200, 5000, image.len() / 3, image.len() / 2, image.len() - 20] {
        let mut bytes = image.clone();
        bytes[place] ^= 0x20;
        fs::write(&bad, &bytes).unwrap();
        mount.try_restore(&bad).fails_with("Invalid argument");
        nothing_is_left(&victim, &mount);
        let why = last(&mount)["error"].as_str().unwrap().to_owned();
        // The close reports the same error, if no write follows when the damage is found.
        let end = image.len().min(place + (3 << 20));
        fs::write(&bad, &bytes[..end]).unwrap();
        mount.try_restore(&bad).fails_with("Invalid argument");
        nothing_is_left(&victim, &mount);
        assert_eq!(last(&mount)["error"], *why);
    }
    mount.restore(&mount.snap("snap"));
    ends_well(victim);
}

#[test]
fn garbage() {
    let (victim, mount, _image) = dead_worker();
    for script in [
        "head -c 1000000 /dev/urandom > \"$1\"",
        "head -c 100 /bin/bash > \"$1\"",
        "echo hello | cat > \"$1\"",
        "cat /bin/bash > \"$1\"",
    ] {
        tool::shell(script, &[mount.file("restore")]).fails_with("Invalid argument");
        nothing_is_left(&victim, &mount);
    }
}

/// The owner of the directory could otherwise make the restorer, which may open any file, open
/// another user's file.
#[test]
fn a_symbolic_link_where_a_file_was() {
    let (victim, mount, _image) = dead_worker();
    let (count, elsewhere) = (victim.dir().join("count"), mount.snap("elsewhere"));
    fs::rename(&count, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &count).unwrap();
    mount.try_restore(&mount.snap("snap")).fails_with("Too many levels of symbolic links");
    nothing_is_left(&victim, &mount);
    assert!(last(&mount).to_string().contains("a symbolic link stands there now"), "{}", last(&mount));
}

#[test]
fn a_file_that_is_gone() {
    let (victim, mount, _image) = dead_worker();
    fs::remove_file(victim.dir().join("count")).unwrap();
    mount.try_restore(&mount.snap("snap")).fails_with("No such file or directory");
    nothing_is_left(&victim, &mount);
    let told = last(&mount).to_string();
    assert!(told.contains("count"), "{told}");
}

#[test]
fn a_writer_that_is_killed() {
    let (victim, mount, image) = dead_worker();
    let mut writer = OpenOptions::new().write(true).open(mount.file("restore")).unwrap();
    writer.write_all(&image[..image.len() / 2]).unwrap();
    drop(writer); // what the kernel does for a writer that is killed
    nothing_is_left(&victim, &mount);
    mount.restore(&mount.snap("snap"));
    ends_well(victim);
}

#[test]
fn the_daemon_is_killed_half_way() {
    for part in [4, 2] {
        let (victim, mut mount, image) = dead_worker();
        let mut writer = OpenOptions::new().write(true).open(mount.file("restore")).unwrap();
        writer.write_all(&image[..image.len() - image.len() / part]).unwrap();
        mount.kill_daemon();
        wait::until("nothing is left of it", || process::is_free(victim.pid()));
    }
}

#[test]
fn outlives_the_mount() {
    let (mut victim, mount) = mounted_worker();
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    let before = count(&victim);
    victim.kill();
    mount.restore(&snap);
    let daemon = mount.daemon();
    assert_eq!(process::parent(victim.pid()), Some(daemon));
    drop(mount);
    assert!(!process::is_alive(daemon));
    wait::until("it counts on", || count(&victim) > before);
    ends_well(victim);
}

#[test]
fn outlives_a_killed_daemon() {
    let (mut victim, mut mount) = mounted_worker();
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    mount.restore(&snap);
    mount.kill_daemon();
    drop(mount);
    ends_well(victim);
}

/// Images of several processes in one write: all of the processes are restored.
#[test]
fn several_images_in_one_stream() {
    let mut victims: Vec<Victim> = (0..3).map(|_| Victim::ready(&Spec::c("worker"))).collect();
    let place = tempfile::tempdir().unwrap();
    let all = place.path().join("all");
    for victim in &victims {
        let mount = Mounted::over(victim.pid());
        let _more = tool::shell("cat \"$1\" >> \"$2\"", &[mount.of(victim.pid(), "image").as_path(), &all]).success();
    }
    victims.iter_mut().for_each(Victim::kill);
    let other = crate::worker(); // the tree of a mount must live when it is mounted
    let mount = Mounted::over(other.pid());
    mount.restore(&all);
    for victim in victims {
        assert!(victim.is_here());
        ends_well(victim);
    }
    ends_well(other);
}

/// The parent of a restored process is the daemon. It reaps the process, so an exit leaves no
/// zombie.
#[test]
fn an_exit_after_the_restore_is_reaped() {
    let (victim, mount, _image) = dead_worker();
    mount.restore(&mount.snap("snap"));
    goes_on(&victim);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    nothing_is_left(&victim, &mount);
    assert!(Path::new(&mount.file("status")).exists());
}

/// The daemon's limit of descriptors holds for the processes that it makes. A process with more
/// than half as many comes back.
#[test]
fn nearly_as_many_descriptors_as_the_daemon_may_have() {
    let mut victim = Victim::ready(&Spec::c("descriptors_dense"));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    let daemon = mount.daemon().to_string();
    let _lowered = tool::run(&["prlimit", "--nofile=1200:1200", "--pid", &daemon]).success();
    mount.restore(&snap);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}
