//! The completions of bash, zsh and fish.

use std::fs;
use std::io::{Error, Result};
use std::path::Path;

use clap::{Command, ValueHint};
use clap_complete::{Shell, generate_to};

/// Writes one file for each shell.
pub fn write(command: &mut Command, dir: &Path) -> Result<()> {
    for shell in [Shell::Zsh, Shell::Fish] {
        generate_to(shell, command, "ckptfs", dir)?;
    }
    let bash = generate_to(Shell::Bash, command, "ckptfs", dir)?;
    let mut script = fs::read_to_string(&bash)?;
    for subcommand in command.get_subcommands() {
        let files = subcommand.get_positionals().next().filter(|arg| arg.get_value_hint() != ValueHint::Other);
        if let Some(arg) = files {
            script = with_files(&script, subcommand.get_name(), arg.get_value_hint() == ValueHint::DirPath)?;
        }
    }
    fs::write(bash, script)
}

/// Makes the completions of `script` offer files, or only folders, for the subcommand `name`.
/// clap_complete makes bash offer the options of a subcommand where its files belong. So the
/// options are offered only behind a `-`, and files or folders otherwise.
fn with_files(script: &str, name: &str, folders: bool) -> Result<String> {
    let missing = |what: &str| Error::other(format!("bash completion of {name}: {what} is not where it was"));
    // A hyphen of a name is written like the one between a command and its subcommand.
    let head = format!("        ckptfs__subcmd__{})\n            opts=", name.replace('-', "__subcmd__"));
    let begin = script.find(&head).ok_or_else(|| missing("its beginning"))?;
    let end = script[begin..].find(";;\n        ckptfs__").or_else(|| script[begin..].find(";;\n    esac\n}"));
    let (before, rest) = script.split_at(begin);
    let (section, after) = rest.split_at(end.ok_or_else(|| missing("its end"))?);
    let options = r#"COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )"#;
    let (section, last) = section.rsplit_once(options).ok_or_else(|| missing("the offer of options"))?;
    let section = section.replace(" || ${COMP_CWORD} -eq 2 ]]", " ]]");
    let offer = match folders {
        true => {
            "compopt -o filenames +o default +o bashdefault\n            mapfile -t COMPREPLY < <(compgen -d -- \"${cur}\")"
        }
        // Without a reply bash offers files.
        false => "COMPREPLY=()",
    };
    Ok(format!("{before}{section}{offer}{last}{after}"))
}
