//! The keys of session tickets, kept in the state directory: clients come back without a full
//! handshake after a restart and an upgrade too.

use std::{
    fs,
    io::ErrorKind,
    path::PathBuf,
    pin::pin,
    time::{Duration, SystemTime},
};

use tokio::{task::block_in_place, time::interval};
use weir_control::{StateDir, write_private};
use weir_proxy::{TicketKeys, TicketKeysError, Tickets};

/// The file, and the tickets that are sealed with what is in it.
pub(crate) struct TicketFile {
    file: PathBuf,
    tickets: Tickets,
    keys: TicketKeys,
    /// Whether the file holds these keys; if it could not be written it is tried again.
    saved: bool,
}

/// How often it is looked whether new keys are due. Rather than to sleep until then: a clock may be
/// set, and a machine suspended.
const LOOK: Duration = Duration::from_secs(60);

impl TicketFile {
    /// Takes the kept keys, or new ones where there are none that can be used, and seals tickets
    /// with them from now on.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(crate) fn open(dir: &StateDir, tickets: Tickets) -> Result<Self, TicketKeysError> {
        let file = dir.file("ticket.keys");
        let kept = match fs::read_to_string(&file).map(|text| TicketKeys::parse(&text)) {
            Ok(Ok(keys)) => Some(keys),
            Ok(Err(error)) => {
                tracing::warn!(file = %file.display(), %error, "the ticket keys are damaged");
                None
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the ticket keys cannot be read");
                None
            }
        };
        let saved = kept.is_some();
        let keys = kept.map_or_else(|| TicketKeys::generate(SystemTime::now()), Ok)?;
        tickets.replace(&keys);
        let mut opened = Self { file, tickets, keys, saved };
        opened.look(SystemTime::now())?;
        Ok(opened)
    }

    /// Rotates the keys when it is time, until `end`. The file is in the state directory, so it is
    /// for the process to write that has the directory: after this has returned, nothing is written.
    pub(crate) async fn rotate(mut self, end: impl Future<Output = ()>) -> Self {
        let mut end = pin!(end);
        let mut looks = interval(LOOK);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return self,
                _ = looks.tick() => {}
            }
            // The disk may take its time.
            if let Err(error) = block_in_place(|| self.look(SystemTime::now())) {
                tracing::warn!(%error, "the ticket keys could not be rotated");
            }
        }
    }

    /// Does what is due now: new keys are used at once, and written.
    fn look(&mut self, now: SystemTime) -> Result<(), TicketKeysError> {
        if let Some(keys) = self.keys.rotate(now)? {
            self.tickets.replace(&keys);
            (self.keys, self.saved) = (keys, false);
        }
        if !self.saved {
            let written = write_private(&self.file, self.keys.serialize().as_bytes());
            self.saved = written.is_ok();
            if let Err(error) = written {
                tracing::warn!(
                    file = %self.file.display(), %error,
                    "the ticket keys cannot be written; clients would make full handshakes after a \
                     restart"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls::server::ProducesTickets;

    use super::*;

    fn tickets() -> Tickets {
        Tickets::new(&TicketKeys::generate(SystemTime::now()).unwrap())
    }

    #[test]
    fn keys_outlive_a_restart_and_new_ones_stand_in_for_what_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ticket.keys");
        let open = || {
            let dir = StateDir::open(folder.path()).unwrap();
            TicketFile::open(&dir, tickets()).unwrap()
        };
        let first = open();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let ticket = first.tickets.encrypt(b"session").unwrap();
        let mut second = open();
        assert_eq!(second.tickets.decrypt(&ticket).as_deref(), Some(&b"session"[..]));

        second.look(SystemTime::now() + TicketKeys::ROTATION).unwrap();
        let rotated = second.tickets.encrypt(b"rotated").unwrap();
        assert_eq!(first.tickets.decrypt(&rotated), None, "sealed with a new key");
        assert_eq!(second.tickets.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(fs::read_to_string(&file).unwrap(), second.keys.serialize());

        fs::write(&file, "nonsense").unwrap();
        let third = open();
        assert_eq!(third.tickets.decrypt(&ticket), None);
        assert_eq!(fs::read_to_string(&file).unwrap(), third.keys.serialize());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_written_once_the_directory_is_another_process_s() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let file = folder.path().join("ticket.keys");
        let mut opened = TicketFile::open(&dir, tickets()).unwrap();
        fs::remove_file(&file).unwrap();
        opened.saved = false;
        let opened = opened.rotate(async {}).await;
        assert!(!file.exists(), "it had ended before there was anything to do");
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let rotating = tokio::spawn(opened.rotate(async { drop(ended.await) }));
        while !file.exists() {
            tokio::task::yield_now().await;
        }
        drop(end);
        assert!(rotating.await.unwrap().saved);
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let file = folder.path().join("ticket.keys");
        fs::create_dir(&file).unwrap();
        let mut opened = TicketFile::open(&dir, tickets()).unwrap();
        assert!(!opened.saved);
        fs::remove_dir(&file).unwrap();
        opened.look(SystemTime::now()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), opened.keys.serialize());
    }
}
