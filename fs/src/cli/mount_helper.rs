//! `mount -t fuse.ckptfs` and fstab(5).
//!
//! mount(8) runs `mount.fuse.ckptfs SOURCE DIR -o OPTIONS` if there is such a program (a link to
//! this one). Otherwise it runs libfuse's mount.fuse, which runs `ckptfs SOURCE DIR -o OPTIONS`.
//! Both command lines are translated to `ckptfs mount`.
//!
//! SOURCE is `tree:PID`, `cgroup:DIR` or `image:FILE`; `none`, `all` and `ckptfs` mean every
//! process of the pid namespace. The options `tree=PID`, `cgroup=DIR` and `image=FILE` mean the
//! same, and then SOURCE is only a name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use ckptfs_dumper::Result;
use clap::CommandFactory;

use crate::cli::arguments::Cli;
use crate::cli::failure::wrong_usage;

/// What a mount can show, as the source and the options name it.
const TARGETS: [&str; 3] = ["tree", "cgroup", "image"];

/// The sources that stand for every process.
const EVERYTHING: [&str; 3] = ["none", "all", "ckptfs"];

/// How this program was invoked.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// As `ckptfs COMMAND`.
    Command,
    /// As a mount helper. It holds the arguments of the `ckptfs mount` that does the same, with the
    /// program's name first.
    Mount(Vec<OsString>),
    /// As a mount helper with `-f`: do everything but the mount.
    Fake,
}

/// Reads a command line, which begins with the program's name.
///
/// # Errors
/// EINVAL: the source is no word that says what to show. A misspelt one must not show every
/// process.
pub fn read(args: &[OsString]) -> Result<Invocation> {
    let [program, source, directory, rest @ ..] = args else { return Ok(Invocation::Command) };
    let is_helper = Path::new(program).file_name().is_some_and(|name| name.as_bytes().starts_with(b"mount."));
    let is_word = |arg: &OsStr| !arg.is_empty() && !arg.as_bytes().starts_with(b"-");
    let known = Cli::command().get_subcommands().any(|command| *source == command.get_name()) || *source == "help";
    // libfuse's mount.fuse always passes options. Without them an unknown word is a mistyped
    // command.
    let has_options = rest.iter().any(|arg| arg.as_bytes() == b"-o");
    if !is_word(source) || !is_word(directory) || !is_helper && (known || !has_options) {
        return Ok(Invocation::Command);
    }
    let mut options: Vec<&[u8]> = Vec::new();
    let mut rest = rest.iter();
    while let Some(arg) = rest.next() {
        match arg.as_bytes() {
            b"-o" => {
                options.extend(rest.next().into_iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b',')))
            }
            // mount(8) enters the namespace, and has determined the type, before it runs a helper.
            b"-N" | b"-t" => drop(rest.next()),
            b"-f" => return Ok(Invocation::Fake),
            // Tolerance, no mtab, verbosity: they change nothing here.
            _ => {}
        }
    }
    let mut arguments: Vec<OsString> = vec![program.clone(), "mount".into()];
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for option in options {
        match target(option, b'=') {
            Some(target) => arguments.extend(target),
            // libfuse adds these for root. Nothing here depends on them.
            None if matches!(option, b"dev" | b"suid" | b"") => {}
            None => kept.push(option.to_vec()),
        }
    }
    match target(source.as_bytes(), b':') {
        Some(target) => arguments.extend(target),
        // An option has named the target.
        None if arguments.len() > 2 => {}
        None if EVERYTHING.iter().any(|word| *source == *word) => {}
        None => {
            let known = "tree:PID, cgroup:DIR, image:FILE, or none for every process";
            return Err(wrong_usage(format!("source {}: not known (known: {known})", source.display())));
        }
    }
    if !kept.iter().any(|option| option.starts_with(b"fsname=")) && !source.as_bytes().contains(&b',') {
        kept.push([b"fsname=", source.as_bytes()].concat());
    }
    arguments.extend(["-o".into(), OsString::from_vec(kept.join(&b','))]);
    arguments.extend(["--".into(), directory.clone()]);
    Ok(Invocation::Mount(arguments))
}

/// `tree:7` or `tree=7` as arguments.
fn target(word: &[u8], separator: u8) -> Option<[OsString; 2]> {
    let at = word.iter().position(|byte| *byte == separator)?;
    let (name, value) = (&word[..at], &word[at + 1..]);
    let name = TARGETS.iter().find(|known| known.as_bytes() == name)?;
    Some([format!("--{name}").into(), OsString::from_vec(value.to_vec())])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn try_read(line: &str) -> Result<Invocation> {
        read(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    fn invocation(line: &str) -> Invocation {
        try_read(line).unwrap()
    }

    fn mount(words: &str) -> Invocation {
        Invocation::Mount(words.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn helpers_are_told_from_commands() {
        for line in [
            "ckptfs mount /ckpt",
            "ckptfs help mount",
            "ckptfs --version x y",
            "ckptfs verify a b",
            "ckptfs umount /ckpt",
            "ckptfs",
            "ckptfs a",
        ] {
            assert_eq!(invocation(line), Invocation::Command, "{line}");
        }
        assert_eq!(
            invocation("/sbin/mount.fuse.ckptfs none /ckpt -n -o rw,dev,suid"),
            mount("/sbin/mount.fuse.ckptfs mount -o rw,fsname=none -- /ckpt")
        );
        assert_eq!(invocation("mount.fuse.ckptfs x /ckpt -f"), Invocation::Fake);
    }

    #[test]
    fn the_source_or_an_option_says_what_is_shown() {
        let line = "ckptfs cgroup:/sys/fs/cgroup/a /ckpt -o ro,freeze-timeout=2 -o noatime -t fuse.ckptfs";
        let words = "ckptfs mount --cgroup /sys/fs/cgroup/a -o ro,freeze-timeout=2,noatime,fsname=cgroup:/sys/fs/cgroup/a -- /ckpt";
        assert_eq!(invocation(line), mount(words));
        let line = "ckptfs none /ckpt -o tree=7,fsname=mine";
        assert_eq!(invocation(line), mount("ckptfs mount --tree 7 -o fsname=mine -- /ckpt"));
        let line = "ckptfs jobs /ckpt -o cgroup=/a";
        assert_eq!(invocation(line), mount("ckptfs mount --cgroup /a -o fsname=jobs -- /ckpt"));
    }

    #[test]
    fn a_misspelt_source_is_named() {
        for source in ["tre:7", "tree=7", "7", "Tree:7", "/dev/sda1"] {
            let text = try_read(&format!("mount.fuse.ckptfs {source} /ckpt -o rw")).unwrap_err().to_string();
            assert!(text.starts_with(&format!("source {source}: ")) && text.contains("tree:PID"), "{text}");
        }
    }
}
