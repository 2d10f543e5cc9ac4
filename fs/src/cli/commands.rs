//! The commands that need no mount.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ckptfs_dumper::{ChangedFiles, Doing, Pid, Result};

use crate::cli::assets;
use crate::cli::attach;
use crate::cli::failure::{Failure, wrong_usage};
use crate::cli::inspect::{self, Form};
use crate::cli::key_file;
use crate::cli::progress::{Input, complain};
use crate::cli::restore::restore_all;
use crate::cli::restore_options::ParsedRestore;

/// `ckptfs core`
pub fn core(image: &Path, pid: Option<Pid>) -> std::result::Result<ExitCode, Failure> {
    crate::cli::core::write(image, pid)?;
    Ok(ExitCode::SUCCESS)
}

/// `ckptfs restore`
pub fn restore(
    attach: bool,
    changed_files: Option<&str>,
    options: &[String],
    files: &[PathBuf],
) -> std::result::Result<ExitCode, Failure> {
    let failed = if attach { Failure::not_attached } else { Failure::from };
    let mut options = ParsedRestore::parse(options).map_err(Failure::usage)?.read().map_err(failed)?;
    match changed_files {
        Some("refuse") => options.changed_files = ChangedFiles::Refuse,
        Some(_) => options.changed_files = ChangedFiles::Warn,
        None => {}
    }
    match files {
        [file] if attach => return attach::restore(file, options),
        _ if attach => return Err(Failure::usage(wrong_usage("--attach takes one FILE".to_owned()))),
        _ => {}
    }
    Ok(each(files, |input, out| restore_all(input, &options, out)))
}

/// `ckptfs inspect`
pub fn inspect(file: &Path, json: bool, records: bool) -> std::result::Result<ExitCode, Failure> {
    let form = match (json, records) {
        (true, _) => Form::Json,
        (false, true) => Form::Records,
        (false, false) => Form::Tables,
    };
    with_output(|out| {
        let mut input = Input::open(file)?;
        let (name, mut out) = (input.name.clone(), input.above_bar(out));
        let inspected = inspect::inspect(&mut input, &name, form, &mut out);
        inspected.and(out.flush().doing(|| "writing standard output"))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `ckptfs diff`
pub fn diff(a: &Path, b: &Path, json: bool) -> std::result::Result<ExitCode, Failure> {
    let compare = |out: &mut dyn Write| {
        let (mut a, mut b) = (Input::open(a)?, Input::open(b)?);
        let (name_a, name_b) = (a.name.clone(), b.name.clone());
        inspect::diff((&mut a, &name_a), (&mut b, &name_b), json, out)
    };
    let are_equal = with_output(compare).map_err(Failure::trouble)?;
    Ok(if are_equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `ckptfs verify`
pub fn verify(key: Option<&Path>, files: &[PathBuf]) -> std::result::Result<ExitCode, Failure> {
    let key = key.map(key_file::read).transpose()?;
    Ok(each(files, |input, out| {
        let name = input.name.clone();
        inspect::verify(input, &name, key.as_ref(), out)
    }))
}

/// `ckptfs install-assets`
pub fn install_assets(prefix: &Path) -> std::result::Result<ExitCode, Failure> {
    with_output(|out| assets::install(prefix, out))?;
    Ok(ExitCode::SUCCESS)
}

/// `ckptfs why`
pub fn why(pid: Option<Pid>) -> std::result::Result<ExitCode, Failure> {
    with_output(|out| crate::cli::why::why(pid, out))?;
    Ok(ExitCode::SUCCESS)
}

/// `ckptfs check`
pub fn check(pids: &[Pid]) -> std::result::Result<ExitCode, Failure> {
    let is_clear = with_output(|out| crate::cli::check::check(pids, out))?;
    Ok(if is_clear { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `ckptfs ps`
pub fn ps() -> std::result::Result<ExitCode, Failure> {
    with_output(crate::cli::ps::ps)?;
    Ok(ExitCode::SUCCESS)
}

/// Does the same with each input. If one fails, the others are still tried.
fn each(files: &[PathBuf], mut act: impl FnMut(&mut Input, &mut dyn Write) -> Result<()>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for file in files {
        if let Err(error) = with_output(|out| act(&mut Input::open(file)?, out)) {
            complain(&error);
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Runs `act` with a buffered standard output, which is flushed even if `act` fails: results found
/// before a failure are printed.
fn with_output<T>(act: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let done = act(&mut out);
    let flushed = out.flush().doing(|| "writing standard output");
    let done = done?;
    flushed.map(|()| done)
}
