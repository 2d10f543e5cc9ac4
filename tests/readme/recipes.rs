//! Runs the commands that README.md and docs/ ask a user to type.

use ckptfs_tests::worker::{ends_well, worker};
use ckptfs_tests::{Mounted, Mountpoint, Spec, Victim, build, image_header, process, tool, wait};

use super::{commands, read, root, section};

/// The commands of a newcomer, run in a mount namespace of its own: what they leave in /ckpt and
/// /var/backups disappears with it.
#[test]
fn from_install_to_the_first_restored_backup() {
    let commands = commands("README.md", "From install to the first restored backup");
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
    // A release build takes minutes.
    let mut command = std::process::Command::new("timeout");
    command.args(["--signal=TERM", "900", "unshare", "--mount", "bash", "-euo", "pipefail", "-c", &script]);
    let status = command.current_dir(root()).stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
    let told = std::fs::read_to_string(dir.path().join("out")).unwrap();
    assert!(status.success() && told.ends_with("restored\n"), "{status}\n{told}");
}

/// The first commands that a user sees, with a process that has a child.
#[test]
fn the_first_commands() {
    let readme = read("README.md");
    let (_, block) = readme.split_once("```\n").expect("a code block");
    let (lines, _) = block.split_once("```").expect("the end of the block");
    assert_eq!(lines.lines().count(), 3, "{lines}");
    let shell = Spec::command("sh").arg("-c").arg("setsid sh -c 'sleep 1000; :'; sleep 1000");
    let victim = Victim::start(&shell);
    let pid = wait::poll(wait::LONG, || {
        let root = *process::children(victim.pid()).first()?;
        (process::children(root).len() == 1).then_some(root)
    })
    .expect("the tree");
    let child = process::children(pid);
    let mount = Mounted::over(pid);
    let script = lines.replace("1234", &pid.to_string()).replace("/ckpt/", &format!("{}/", mount.path().display()));
    std::thread::scope(|scope| {
        // Without its parent the child is one of this process, which reaps it as init would.
        scope.spawn(|| wait::until("it is reaped", || process::is_free(child[0])));
        let _restored = tool::shell(&format!("cd {}\n{script}", victim.dir().display()), &[""; 0]).success();
    });
    assert!(process::is_alive(pid) && process::children(pid) == child);
}

/// The lines of the recipe. The snapshot is kept until the process lives again, even if the first
/// attempt fails.
#[test]
fn before_a_risky_step() {
    let recipe = commands("docs/recipes.md", "Before a risky step");
    let mut victim = worker();
    let mount = Mounted::over(victim.pid());
    let lines: Vec<String> = recipe
        .lines()
        .map(|line| line.replace("1234", &victim.pid().to_string()))
        .map(|line| line.replace("/ckpt/", &format!("{}/", mount.path().display())))
        .collect();
    let ([keep, back], none) = (&lines[..], &[""; 0]) else { panic!("{lines:?}") };
    let _kept = tool::shell(keep, none).success();
    let kept = mount.of(victim.pid(), "snapshots/before");
    // The first attempt fails for two reasons. A file that the process has open is missing, and its
    // pid is taken until the killed process is reaped.
    let (count, away) = (victim.dir().join("count"), victim.dir().join("away"));
    std::fs::rename(&count, &away).unwrap();
    // An interactive shell continues after a command that fails.
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

/// The command that shows the reason of a failed restore.
#[test]
fn the_reason_of_a_restore() {
    let section = section("docs/mount.md", "Where the reason stands");
    let line = section.lines().find(|line| line.starts_with("tail ")).expect("the command");
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    mount.try_restore(&snap).fails_with("File exists");
    let line = line.replace("/ckpt/", &format!("{}/", mount.path().display()));
    let sentence = tool::shell(&line, &[""; 0]).success().text();
    let taken = format!("pid {} is taken: a process with this id is alive: ", victim.pid());
    assert!(sentence.starts_with(&taken), "{sentence}");
    ends_well(victim);
}

/// The commands with a key of the test's own, and a mount over one process.
#[test]
fn signed_images() {
    let recipe = commands("docs/recipes.md", "Signed images");
    let mut victim = worker();
    let point = Mountpoint::new();
    let key = point.file("key");
    let pid = victim.pid().to_string();
    let lines: Vec<String> = recipe
        .lines()
        .map(|line| line.replace("ckptfs mount ", &format!("ckptfs mount --tree {pid} ")))
        .map(|line| line.replace("/etc/ckptfs.key", &key.display().to_string()).replace("1234", &pid))
        .map(|line| line.replace("/ckpt", &point.path().display().to_string()))
        .collect();
    let [make, mount, read, back] = &lines[..] else { panic!("{lines:?}") };
    let program = build::ckptfs();
    let path = format!("PATH={}:$PATH; cd {}", program.parent().unwrap().display(), point.dir().display());
    let run = |lines: &[&String]| {
        let script = lines.iter().fold(path.clone(), |all, line| format!("{all}\n{line}"));
        tool::shell(&script, &[""; 0])
    };
    let _mounted = run(&[make, mount]).success();
    let _read = run(&[read]).success();
    victim.kill();
    let _back = run(&[back]).success();
    victim.kill();
    let snap = point.file("snap");
    let mut bytes = std::fs::read(&snap).unwrap();
    image_header::change_time(&mut bytes);
    std::fs::write(&snap, bytes).unwrap();
    run(&[back]).fails_with("the image was signed with another key, or was changed after it was signed");
    assert!(process::is_free(victim.pid()));
}
