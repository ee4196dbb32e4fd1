//! How many files and sockets may be open: the system's first offer is too few for a proxy.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes as many as this process may take by itself, and says so if that is too few for the
/// connections that the settings allow: each may need one to its client and one to an instance.
pub(crate) fn raise(max_connections: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let wanted = max_connections.saturating_mul(2);
    if let Some(allowed) = getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < wanted) {
        tracing::warn!(
            allowed,
            wanted,
            "fewer open files are allowed than `proxy.max_connections` may need: raise the limit \
             (LimitNOFILE= of systemd, --ulimit nofile= of Docker) or lower the setting"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_taken_is_taken() {
        raise(1);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
