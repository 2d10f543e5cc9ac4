//! Tests of `backup.sh`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ckptfs_tests::worker::{ends_well, goes_on, worker};
use ckptfs_tests::{Cgroup, Event, Mounted, Spec, Victim, build, process, tool, wait};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{
    Running, Small, container, files, path_with, program, refused, run, run_in, script, silent_verifier, tmpdir,
};

/// One run over a mount, with these options.
fn backup(mount: &Mounted, dest: &Path, options: &[&str], variables: &[String]) -> tool::Output {
    let mut args: Vec<PathBuf> = options.iter().map(PathBuf::from).collect();
    args.extend([mount.path(), dest.to_owned()]);
    run("backup.sh", variables, &args)
}

/// Restores one file of a backup.
fn restore(mount: &Mounted, file: &Path, options: &[&str], variables: &[String]) -> tool::Output {
    let mut args: Vec<PathBuf> = options.iter().map(PathBuf::from).collect();
    args.extend(["--restore".into(), file.to_owned(), mount.path()]);
    run("backup.sh", variables, &args)
}

/// The backup files of one tree, oldest first.
fn of(dest: &Path, victim: &Victim) -> Vec<PathBuf> {
    let begin = format!("{}-", victim.pid());
    files(dest).into_iter().filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&begin)).collect()
}

#[test]
fn of_every_tree_in_a_cgroup_and_back() {
    let cgroup = Cgroup::new("backup");
    let mut victims = [worker(), worker()];
    let mount = container(&cgroup, &victims);
    let dest = tempfile::tempdir().unwrap();
    let mut first = Vec::new();
    for turn in 1..=3 {
        let said = backup(&mount, dest.path(), &["--keep", "2"], &[]).success();
        assert_eq!((said.text().lines().count(), said.stderr.as_str()), (2, ""), "{}", said.text());
        victims.iter().for_each(goes_on);
        for victim in &victims {
            let kept = of(dest.path(), victim);
            assert_eq!(kept.len(), turn.min(2));
            assert!(said.text().contains(kept.last().unwrap().to_str().unwrap()), "{}", said.text());
            first.extend((turn == 1).then(|| kept[0].clone()));
        }
    }
    assert!(first.iter().all(|file| !file.exists()), "the oldest goes first");
    for file in files(dest.path()) {
        let check = "zstd -dc \"$1\" | \"$2\" verify -";
        let _whole = tool::shell(check, &[file.as_path(), &build::ckptfs()]).success();
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    victims.iter_mut().for_each(Victim::kill);
    for victim in &victims {
        let said = restore(&mount, of(dest.path(), victim).last().unwrap(), &[], &[]).success();
        assert!(said.text().contains(&format!("\"root\":{},", victim.pid())), "{}", said.text());
    }
    victims.into_iter().for_each(ends_well);
}

/// A file that is truncated or cannot be decrypted restores nothing.
#[test]
fn cut_off() {
    let mut victim = worker();
    let mount = Mounted::over(victim.pid());
    let dest = tempfile::tempdir().unwrap();
    let _quiet = backup(&mount, dest.path(), &[], &[]).success();
    let file = of(dest.path(), &victim).remove(0);
    victim.kill();
    let bytes = fs::read(&file).unwrap();
    let cut = dest.path().join("cut.ckpt.zst");
    for len in [bytes.len() / 2, bytes.len() - 5000, 0] {
        fs::write(&cut, &bytes[..len]).unwrap();
        restore(&mount, &cut, &[], &[]).fails_with("restoring it");
        wait::until("nothing is left of it", || process::is_free(victim.pid()));
    }
    let _lives = restore(&mount, &file, &[], &[]).success();
    ends_well(victim);
}

#[test]
fn encrypted_by_age() {
    let mut victim = worker();
    let mount = Mounted::over(victim.pid());
    let dest = tempfile::tempdir().unwrap();
    let key = dest.path().join("key");
    let made = tool::shell("age-keygen -o \"$1\" && age-keygen -y \"$1\"", &[&key]).success();
    let keys = tempfile::tempdir().unwrap();
    let other = keys.path().join("other");
    let _made = tool::shell("age-keygen -o \"$1\"", &[&other]).success();
    let _quiet = backup(&mount, dest.path(), &["--encrypt-to", made.text().trim()], &[]).success();
    let file = of(dest.path(), &victim).remove(0);
    assert!(fs::read(&file).unwrap().starts_with(b"age-encryption.org/v1"));
    victim.kill();
    restore(&mount, &file, &["--identity", other.to_str().unwrap()], &[]).fails_with("restoring it");
    assert!(process::is_free(victim.pid()));
    let _lives = restore(&mount, &file, &["--identity", key.to_str().unwrap()], &[]).success();
    ends_well(victim);
}

/// A keyring of its own. Drop ends its agent.
struct Keyring(TempDir);

impl Keyring {
    fn new() -> Keyring {
        let keyring = Keyring(tempfile::Builder::new().prefix("ckptfs-gpg-").tempdir().unwrap());
        let make = "GNUPGHOME=\"$1\" gpg --batch --quiet --passphrase '' --quick-generate-key backup@example.org";
        let _made = tool::shell(make, &[keyring.0.path()]).success();
        keyring
    }

    fn variable(&self) -> String {
        format!("GNUPGHOME={}", self.0.path().display())
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        let _ended = tool::shell("GNUPGHOME=\"$1\" gpgconf --kill all", &[self.0.path()]);
    }
}

#[test]
fn encrypted_by_gpg() {
    let mut victim = worker();
    let mount = Mounted::over(victim.pid());
    let dest = tempfile::tempdir().unwrap();
    let keyring = Keyring::new();
    let variables = [keyring.variable()];
    let _quiet = backup(&mount, dest.path(), &["--gpg", "backup@example.org"], &variables).success();
    backup(&mount, dest.path(), &["--gpg", "nobody@example.org"], &variables).fails_with("1 of 1 trees");
    let kept = of(dest.path(), &victim);
    assert_eq!(files(dest.path()), kept, "a backup that cannot be encrypted leaves no file");
    victim.kill();
    let _lives = restore(&mount, &kept[0], &[], &variables).success();
    ends_well(victim);
}

#[test]
fn a_refused_tree_has_no_file_and_the_others_have_one() {
    let cgroup = Cgroup::new("backup-refused");
    let victims = [worker(), refused(), worker()];
    let mount = container(&cgroup, &victims);
    let dest = tempfile::tempdir().unwrap();
    let said = backup(&mount, dest.path(), &[], &[]);
    said.fails_with("1 of 3 trees");
    let line = format!("{}-holder: FAILED: pid {}", victims[1].pid(), victims[1].pid());
    assert!(said.text().lines().any(|said| said.starts_with(&line) && said.contains("lock")), "{}", said.text());
    assert_eq!(victims.each_ref().map(|victim| of(dest.path(), victim).len()), [1, 0, 1]);
    assert_eq!(files(dest.path()).len(), 2);
}

/// The oldest backups stay until a new one is on the disk.
#[test]
fn a_truncated_cat_leaves_what_there_was() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let (dest, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _quiet = backup(&mount, dest.path(), &["--keep", "1"], &[]).success();
    let before = files(dest.path());
    program(&bin.path().join("cat"), "#!/bin/sh\nexec head -c 1000000 \"$@\"\n");
    let said = backup(&mount, dest.path(), &["--keep", "1"], &[path_with(bin.path())]);
    said.fails_with("1 of 1 trees");
    assert!(said.text().contains("FAILED: ") && said.text().contains("truncated"), "{}", said.text());
    assert_eq!(files(dest.path()), before);
    ends_well(victim);
}

#[test]
fn a_full_disk() {
    let cgroup = Cgroup::new("backup-full");
    // The worker's numbers do not compress, so its image does not fit. The counter's image is small
    // enough.
    let victims = [worker(), Victim::ready(&ckptfs_tests::Spec::c("counter"))];
    let mount = container(&cgroup, &victims);
    let dest = Small::new();
    let said = backup(&mount, dest.0.path(), &[], &[]);
    said.fails_with("1 of 2 trees");
    assert!(said.text().contains("No space left on device"), "{}", said.text());
    assert_eq!(victims.each_ref().map(|victim| of(dest.0.path(), victim).len()), [0, 1]);
    assert_eq!(files(dest.0.path()).len(), 1);
    goes_on(&victims[0]);
}

#[test]
fn two_runs_at_once() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let dest = tempfile::tempdir().unwrap();
    let lock = File::create(dest.path().join(".lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    backup(&mount, dest.path(), &[], &[]).fails_with("another run is under way");
    assert!(files(dest.path()).is_empty());
    drop(lock);
    let _quiet = backup(&mount, dest.path(), &[], &[]).success();
    assert_eq!(of(dest.path(), &victim).len(), 1);
    ends_well(victim);
}

/// A signal also ends the commands that the script has started.
#[test]
fn a_signal_in_the_middle() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let (dest, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mark = bin.path().join("pid");
    let slow =
        format!("#!/bin/sh\nhead -c 100000; echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000\n", mark.display());
    program(&bin.path().join("zstd"), &slow);
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut running =
            Running::start("backup.sh", &[path_with(bin.path())], &[mount.path(), dest.path().to_owned()]);
        wait::until("it is in the middle", || mark.exists());
        let sleeper: i32 = fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
        assert_eq!(files(dest.path()).len(), 1, "a file that is not done yet");
        running.signal(signal);
        assert_eq!(running.end().code(), Some(code));
        wait::until("its zstd has ended", || process::is_free(sleeper));
        assert_eq!(files(dest.path()), Vec::<PathBuf>::new());
        fs::remove_file(&mark).unwrap();
    }
    ends_well(victim);
}

/// Names may be relative, and may begin like an option.
#[test]
fn odd_names() {
    let mut victim = worker();
    let mount = Mounted::over(victim.pid());
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("-dest");
    fs::create_dir(&dest).unwrap();
    std::os::unix::fs::symlink(mount.path(), dir.path().join("-m")).unwrap();
    for args in [&["--", "-m", "-dest"][..], &["./-m", "-dest"]] {
        let said = run_in(dir.path(), "backup.sh", &[], args).success();
        assert_eq!(said.stderr, "", "{args:?}");
    }
    let [_, newest] = &of(&dest, &victim)[..] else { panic!("{:?}", files(&dest)) };
    let newest = format!("-dest/{}", newest.file_name().unwrap().to_str().unwrap());
    victim.kill();
    let _lives = run_in(dir.path(), "backup.sh", &[], &["--restore", &newest, "--", "-m"]).success();
    assert_eq!(run_in(&dest, "backup.sh", &[], &["../-m", ""]).code, 2, "an unset variable is no directory");
    assert_eq!(of(&dest, &victim).len(), 2);
    ends_well(victim);
}

/// The error names a command that fails without a message.
#[test]
fn silent_failures() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let (dest, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let silent = backup(&mount, dest.path(), &[], &[silent_verifier(bin.path())]);
    silent.fails_with("1 of 1 trees");
    assert!(silent.text().contains("FAILED: ") && silent.text().contains("verify 7"), "{}", silent.text());
    let full = Small::full();
    let said = backup(&mount, dest.path(), &[], &[tmpdir(full.0.path())]);
    said.fails_with("1 of 1 trees");
    let (begin, why) = (format!("FAILED: tee: {}/", full.0.path().display()), "No space left on device\n");
    assert!(said.text().contains(&begin) && said.text().ends_with(why), "{}", said.text());
    assert_eq!(files(dest.path()), Vec::<PathBuf>::new());
    ends_well(victim);
}

/// Another program's file in the directory must stay: it may be an archive that is being written.
#[test]
fn what_an_earlier_run_left() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let dest = tempfile::tempdir().unwrap();
    let (left, other) = (".12-name_x-20260101T000000.000Z.ckpt.zst.age.part", ".container.tar.zst.0a1b2c3d4e.part");
    for name in [left, other] {
        fs::write(dest.path().join(name), "").unwrap();
    }
    let _quiet = backup(&mount, dest.path(), &[], &[]).success();
    assert!(!dest.path().join(left).exists() && dest.path().join(other).exists());
    ends_well(victim);
}

/// The lines of docs/recipes.md that cron(8) and systemd run, with cron's environment and with
/// ckptfs where README.md installs it. archive.sh is run in the same way.
#[test]
fn by_cron() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let (dest, examples, bin) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(build::ckptfs(), bin.path().join("ckptfs")).unwrap();
    // The copies have no target/release beside them.
    let _copied = tool::shell("cp \"$1\"/*.sh \"$2\"", &[script("").as_path(), examples.path()]).success();
    let recipes = fs::read_to_string(script("../docs/recipes.md")).unwrap();
    let mut lines: Vec<String> = ["*/15 * * * * root ", "ExecStart="]
        .into_iter()
        .flat_map(|begin| recipes.lines().filter_map(move |line| line.strip_prefix(begin)))
        .map(str::to_owned)
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    lines.push("/opt/ckptfs/examples/archive.sh save /ckpt /var/backups/ckpt/file".into());
    for line in lines {
        let line = line
            .replace("/var/backups/ckpt", dest.path().to_str().unwrap())
            .replace("/opt/ckptfs/examples", examples.path().to_str().unwrap())
            .replace(" /ckpt ", &format!(" {} ", mount.path().display()));
        // The new mount namespace has a copy of every mount, those of other tests too. Those mounts
        // could not end while the namespace exists, so they are unmounted in it.
        let run = "awk -v mine=\"$1\" '$3 == \"fuse.ckptfs\" && $2 != mine { print $2 }' /proc/self/mounts | xargs -r umount -l\n\
                   mount --bind \"$2\" /usr/local/bin\n\
                   exec env -i PATH=/usr/bin:/bin HOME=/root LOGNAME=root SHELL=/bin/sh /bin/sh -c \"$3\"";
        let (mount, bin) = (mount.path(), bin.path());
        let argv = ["unshare", "--mount", "bash", "-euo", "pipefail", "-c", run, "cron"];
        let args = [mount.as_os_str(), bin.as_os_str(), line.as_ref()];
        let argv: Vec<&OsStr> = argv.into_iter().map(OsStr::new).chain(args).collect();
        let said = tool::run(&argv).success();
        assert_eq!(said.stderr, "");
    }
    assert_eq!((of(dest.path(), &victim).len(), files(dest.path()).len()), (2, 3));
    ends_well(victim);
}

/// The name of a program need not be text: this one ends in the middle of a character.
#[test]
fn of_a_program_whose_name_is_no_text() {
    let mut victim = Victim::ready(&Spec::c("odd_names"));
    let mount = Mounted::over(victim.pid());
    let dest = tempfile::tempdir().unwrap();
    let said = backup(&mount, dest.path(), &[], &[]).success();
    assert_eq!(said.stderr, "", "{}", said.text());
    let kept = of(dest.path(), &victim);
    let begin = format!("{}-aaaaaaaaaaaaaa-", victim.pid());
    assert!(kept.len() == 1 && kept[0].file_name().unwrap().to_str().unwrap().starts_with(&begin), "{kept:?}");
    victim.kill();
    let _lives = restore(&mount, &kept[0], &[], &[]).success();
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}
