//! What becomes of a refusal: a dump ends with the first one, and a check lists all.

use crate::error::{Error, Kind, Result};

/// The refusals of a dump or a check. Whatever looks at processes hands its results over to it.
pub struct Refusals {
    /// `None`: the first refusal ends the search.
    found: Option<Vec<Error>>,
    /// Whether processes ended while they were compared with each other.
    missed: bool,
}

impl Refusals {
    /// Those of a dump. The first refusal is its error.
    pub fn first() -> Self {
        Self { found: None, missed: false }
    }

    /// Those of a check. All are kept, and the search goes on.
    pub fn all() -> Self {
        Self { found: Some(Vec::new()), missed: false }
    }

    /// The value of `result`, or `None` if it is refused and the search goes on.
    ///
    /// # Errors
    /// In a dump: that of `result`.
    pub fn sift<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let Some(found) = &mut self.found else { return Err(error) };
        // A process that runs may end, and close a file or unmap memory, while it is examined.
        if !is_gone(&error) {
            found.push(error);
        }
        Ok(None)
    }

    /// The same for what several processes have to do with each other. If one of them ends, nothing
    /// is found about the others: see [`Refusals::has_missed`].
    pub fn sift_of_several<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        self.missed |= result.as_ref().is_err_and(is_gone);
        self.sift(result)
    }

    /// Whether some of it was not found, because a process ended.
    pub fn has_missed(&self) -> bool {
        self.missed
    }

    /// Notes a refusal.
    ///
    /// # Errors
    /// In a dump: `error`.
    pub fn refuse(&mut self, error: Error) -> Result<()> {
        self.sift(Err::<(), _>(error)).map(drop)
    }

    /// Whether nothing was refused so far.
    pub fn is_empty(&self) -> bool {
        self.found.as_ref().is_none_or(Vec::is_empty)
    }

    /// What was refused, each sentence once.
    pub fn into_errors(self) -> Vec<Error> {
        let mut errors = self.found.unwrap_or_default();
        let mut known = std::collections::BTreeSet::new();
        errors.retain(|error| known.insert(error.to_string()));
        errors
    }
}

/// Whether the error is that of a process, a descriptor or a mapping that is gone.
pub fn is_gone(error: &Error) -> bool {
    error.kind() == Kind::NoProcess || matches!(error.errno(), Some(libc::ESRCH | libc::ENOENT | libc::EBADF))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_ends_with_the_first_and_a_check_has_all() {
        let no = |what: &str| Error::unsupported(what);
        let mut first = Refusals::first();
        assert_eq!(first.sift(Ok(7)).unwrap(), Some(7));
        assert_eq!(first.refuse(no("a")).unwrap_err().to_string(), "a");
        let mut all = Refusals::all();
        for what in ["a", "b", "a"] {
            assert!(all.sift(Err::<(), _>(no(what))).unwrap().is_none());
        }
        all.refuse(Error::os("closed meanwhile", libc::ENOENT)).unwrap();
        assert_eq!(all.into_errors().iter().map(Error::to_string).collect::<Vec<_>>(), ["a", "b"]);
    }
}
