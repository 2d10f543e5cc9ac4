//! `ckptfs restore --attach`: restores one tree, brings it to the terminal as `fg` of a shell does,
//! waits for it, and ends with its exit status.
//!
//! The engine decides how the tree gets the terminal. In the caller's session the terminal itself
//! sends ^C and ^Z to the job, and when the job stops this command stops too, as the shell expects.
//! Otherwise the tree has a pseudo-terminal of its own, and bytes are copied.

mod job;
mod relay;
mod terminal;

use std::path::Path;
use std::process::ExitCode;

use ckptfs_dumper::{Context, Error, RestoreOptions, Restorer, Result, image};

use crate::cli::attach::job::Job;
use crate::cli::attach::terminal::OwnTerminal;
use crate::cli::failure::Failure;
use crate::cli::progress::{Input, complain};
use crate::cli::restore::feed;

/// Restores the tree of an image and brings it to the foreground. Returns its exit status.
pub fn restore(file: &Path, options: RestoreOptions) -> std::result::Result<ExitCode, Failure> {
    attach(file, options).map_err(Failure::not_attached)
}

fn attach(file: &Path, options: RestoreOptions) -> Result<ExitCode> {
    // Dropped last: whatever happens, the caller finds its terminal as it was.
    let terminal = OwnTerminal::open()?;
    let options = RestoreOptions { attach: Some(terminal.path().to_owned()), ..options };
    let mut input = Input::quiet(file)?;
    let name = input.name.clone();
    // It stays until the job has ended: its thread is the parent that a parent-death signal means.
    let mut restorer = Restorer::new(options)?;
    let fed = feed(&mut input, &name, &mut restorer, &mut |restorer| restorer.restored().is_empty());
    let finished = restorer.finish().on(|| &name);
    let fed = fed.and(finished);
    let Some(restored) = restorer.restored().first().cloned() else {
        fed?;
        return Err(image::empty(&name));
    };
    // The job runs, and whoever typed the command waits for that.
    fed.unwrap_or_else(|error| complain(&error));
    restored.warnings.iter().for_each(|warning| complain(warning));
    let attached = restored.attached.ok_or_else(|| Error::damaged(format!("{name}: it was not attached to")))?;
    Job::new(restored.root, attached, &terminal)?.wait()
}
