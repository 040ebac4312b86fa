//! How many files this process may have open: as many as it is permitted at all.
//!
//! An agent keeps a dozen files of each workload's control groups open, a manager one for each connection. The usual limit of
//! 1,024 is there for programs that use select(2), which nothing here does.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's limit to what it may raise it to. Returns the limit in force; none: there is none.
pub fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, ?current, "the limit of open files stays: files that do not fit are opened each time");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_permitted_and_stays_so() {
        let permitted = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise_limit(), permitted);
        assert_eq!(getrlimit(Resource::Nofile).current, permitted);
        assert_eq!(raise_limit(), permitted);
    }
}
