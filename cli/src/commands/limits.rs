//! How many files and sockets the process may have open.

/// Connections need descriptors, and the usual soft limit of 1,024 is for programs that use `select`.
#[cfg(unix)]
pub(crate) fn raise() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "cannot raise the limit of open files");
        }
    }
}

#[cfg(not(unix))]
pub(crate) fn raise() {}
