//! The `-o` options of a restore: `ckptfs mount` and `ckptfs restore` take them.

use std::path::PathBuf;

use ckptfs_dumper::{ChangedFiles, ClockRule, ExternalPipes, RestoreOptions, Result, TerminalRule};

use crate::cli::failure::wrong_usage;
use crate::cli::key_file;

/// The list in the message about an unknown option.
pub const KNOWN: &str = "changed-files=warn|refuse, external-pipes=refuse|null|new, pipe:ID=PATH, \
                         clock=auto|continue|host|refuse, terminal=same|refuse|null, key=FILE";

/// What the options of a restore say. Only [`ParsedRestore::read`] gives the decisions, so that
/// none is made without the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedRestore {
    /// All but the key.
    options: RestoreOptions,
    key: Option<PathBuf>,
}

impl ParsedRestore {
    /// Reads the lists of `-o` of `ckptfs restore`. Later options win.
    pub fn parse(lists: &[String]) -> Result<ParsedRestore> {
        let mut parsed = ParsedRestore::default();
        for option in lists.iter().flat_map(|list| list.split(',')).filter(|option| !option.is_empty()) {
            let unknown = || Err(wrong_usage(format!("-o {option}: unknown option of a restore (known: {KNOWN})")));
            parsed.set(option).unwrap_or_else(unknown)?;
        }
        Ok(parsed)
    }

    /// Sets one option. `None`: it is no option of a restore.
    pub fn set(&mut self, option: &str) -> Option<Result<()>> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let wrong = |what: &str| Some(Err(wrong_usage(format!("-o {option}: {what}"))));
        let options = &mut self.options;
        match (name, value) {
            ("changed-files", Some("warn")) => options.changed_files = ChangedFiles::Warn,
            ("changed-files", Some("refuse")) => options.changed_files = ChangedFiles::Refuse,
            ("changed-files", _) => return wrong("changed-files is warn or refuse"),
            // `keep` is an older word for the default.
            ("external-pipes", Some("refuse" | "keep")) => options.external_pipes = ExternalPipes::Refuse,
            ("external-pipes", Some("null")) => options.external_pipes = ExternalPipes::Null,
            ("external-pipes", Some("new")) => options.external_pipes = ExternalPipes::New,
            ("external-pipes", _) => return wrong("external-pipes is refuse, null or new"),
            ("clock", Some("auto")) => options.clock = ClockRule::Auto,
            ("clock", Some("continue")) => options.clock = ClockRule::Continue,
            ("clock", Some("host")) => options.clock = ClockRule::Host,
            ("clock", Some("refuse")) => options.clock = ClockRule::Refuse,
            ("clock", _) => return wrong("clock is auto, continue, host or refuse"),
            ("terminal", Some("same")) => options.terminal = TerminalRule::Same,
            ("terminal", Some("refuse")) => options.terminal = TerminalRule::Refuse,
            ("terminal", Some("null")) => options.terminal = TerminalRule::Null,
            ("terminal", _) => return wrong("terminal is same, refuse or null"),
            ("key", Some(file)) if !file.is_empty() => self.key = Some(file.into()),
            ("key", _) => return wrong("needs the file of a key: key=FILE"),
            (name, value) => {
                let id = name.strip_prefix("pipe:")?;
                return Some(pipe(options, option, id, value.unwrap_or_default()));
            }
        }
        Some(Ok(()))
    }

    /// The decisions. The file of the key is read now, if one is named.
    pub fn read(self) -> Result<RestoreOptions> {
        let key = self.key.as_deref().map(key_file::read).transpose()?;
        Ok(RestoreOptions { key, ..self.options })
    }
}

/// `pipe:ID=PATH`
fn pipe(options: &mut RestoreOptions, option: &str, id: &str, file: &str) -> Result<()> {
    let wrong = || {
        let form = "not of the form pipe:ID=PATH, with the number of the pipe, as in pipe:1234=/var/log/job";
        wrong_usage(format!("-o {option}: {form}"))
    };
    let id = id.parse::<u64>().map_err(|_| wrong())?;
    // The daemon of a mount leaves this directory.
    let file = std::path::absolute(file).map_err(|_| wrong())?;
    options.pipes.insert(id, file);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    fn parsed(text: &str) -> Result<RestoreOptions> {
        ParsedRestore::parse(&[text.to_owned()])?.read()
    }

    #[test]
    fn later_ones_win() {
        assert_eq!(parsed("").unwrap(), RestoreOptions::default());
        let options = parsed("changed-files=warn,changed-files=refuse,external-pipes=null,external-pipes=new").unwrap();
        assert_eq!((options.changed_files, options.external_pipes), (ChangedFiles::Refuse, ExternalPipes::New));
        let rules = [("auto", ClockRule::Auto), ("continue", ClockRule::Continue), ("host", ClockRule::Host)];
        for (name, rule) in rules.into_iter().chain([("refuse", ClockRule::Refuse)]) {
            assert_eq!(parsed(&format!("clock=host,clock={name}")).unwrap().clock, rule);
        }
        let rules = [("same", TerminalRule::Same), ("refuse", TerminalRule::Refuse), ("null", TerminalRule::Null)];
        for (name, rule) in rules {
            assert_eq!(parsed(&format!("terminal=refuse,terminal={name}")).unwrap().terminal, rule);
        }
        let options = parsed("external-pipes=new,external-pipes=keep,pipe:7=/a,pipe:8=b=c,pipe:7=/d").unwrap();
        assert_eq!(options.external_pipes, ExternalPipes::Refuse);
        let here = std::env::current_dir().unwrap();
        assert_eq!((&*options.pipes[&7], &*options.pipes[&8]), (Path::new("/d"), &*here.join("b=c")));
    }

    #[test]
    fn only_the_last_key_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, [7; 32]).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut parsed = ParsedRestore::parse(&[format!("key=/missing,key={}", path.display())]).unwrap();
        assert_eq!(parsed.clone().read().unwrap().key, ckptfs_dumper::Key::new(&[7; 32]));
        parsed.set("key=/missing").unwrap().unwrap();
        assert!(parsed.read().unwrap_err().to_string().starts_with("key /missing: "));
    }

    #[test]
    fn a_wrong_one_is_named() {
        for (bad, why) in [
            ("freeze-timeout=1", "unknown option"),
            ("external-pipes", "is refuse, null or new"),
            ("external-pipes=no", "is refuse, null or new"),
            ("changed-files", "is warn or refuse"),
            ("clock=now", "is auto, continue, host or refuse"),
            ("terminal=new", "is same, refuse or null"),
            ("pipe:x=/dev/null", "pipe:ID=PATH"),
            ("pipe:=/dev/null", "pipe:ID=PATH"),
            ("pipe:7", "pipe:ID=PATH"),
            ("pipe:7=", "pipe:ID=PATH"),
            ("key", "key=FILE"),
            ("key=", "key=FILE"),
        ] {
            let text = parsed(bad).unwrap_err().to_string();
            assert!(text.starts_with(&format!("-o {bad}: ")) && text.contains(why), "{text}");
        }
    }
}
