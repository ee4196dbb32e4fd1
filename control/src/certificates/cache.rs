//! Certificates as files of the state directory, sealed as in the store: so that a start shows them
//! before the database has answered, and also when it does not.
//!
//! One file for each, so that one more costs one file. A file's name is of what is in it, so that
//! none is ever changed: the store's rows say which files there should be.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weir_config::{Certificate, Certificates, Hostname};

use super::{Source, Table, read::parse};
use crate::{
    authority::{AuthorityError, wildcard},
    key_file::KeyFile,
    seal::Sealed,
    state_dir::{StateDir, write_private},
    store::StoredCertificate,
};

#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    name: Hostname,
    source: String,
    chain: String,
    key_id: String,
    sealed: String,
}

/// What to show to clients from the start: the local authority's certificate for the base domain, and
/// what was shown for other names.
///
/// # Errors
/// When the local authority's cannot be made. What cannot be read of the others is logged.
pub fn certificates(dir: &StateDir, base: &Hostname) -> Result<Arc<Certificates>, AuthorityError> {
    let mut table = Table::new(base.clone(), Arc::new(wildcard(dir, base)?));
    let (cache, keys) = (Cache::of(dir), KeyFile::new(dir.key_file()));
    for file in cache.files().unwrap_or_default() {
        match load(&cache.folder.join(&file), &keys) {
            Ok((source, certificate)) => {
                let certificate = table.share(certificate);
                table.change(&certificate.names[0].clone(), |kept| {
                    let is_newer = |c: &Arc<_>| certificate.valid.1 >= ends(c);
                    if kept.certificate.as_ref().is_none_or(is_newer) {
                        (kept.source, kept.certificate) = (source, Some(certificate));
                    }
                });
            }
            Err(why) => tracing::warn!(file, why, "a certificate is not shown yet"),
        }
    }
    Ok(table.served().clone())
}

fn ends(certificate: &Arc<Certificate>) -> i64 {
    certificate.valid.1
}

fn load(file: &Path, keys: &KeyFile) -> Result<(Source, Certificate), String> {
    let bytes = fs::read(file).map_err(|error| error.to_string())?;
    let entry: Entry = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let source = Source::parse(&entry.source).ok_or("its source is not known")?;
    let sealed = Sealed { key: entry.key_id, text: entry.sealed };
    let keys = keys.keys().map_err(|error| error.to_string())?;
    let key = keys.open(&["certificate", &entry.name], &sealed);
    let key = key.map_err(|error| error.to_string())?;
    let key = str::from_utf8(&key).map_err(|error| error.to_string())?;
    Ok((source, parse(&entry.chain, key).map_err(|error| error.to_string())?))
}

impl Cache {
    pub(crate) fn of(dir: &StateDir) -> Self {
        Self { folder: dir.file("certificates") }
    }

    /// Makes it what the store has: writes what is missing, and removes everything else.
    pub(crate) fn keep(&self, stored: &[StoredCertificate]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut superfluous: HashSet<_> = self.files()?.into_iter().collect();
        for one in stored {
            if !superfluous.remove(&file_name(one)) {
                self.write(one)?;
            }
        }
        superfluous.iter().try_for_each(|file| fs::remove_file(self.folder.join(file)))
    }

    /// Puts one in the place of a former one.
    pub(crate) fn replace(
        &self,
        former: Option<&StoredCertificate>,
        latter: Option<&StoredCertificate>,
    ) -> io::Result<()> {
        if let Some(latter) = latter {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            self.write(latter)?;
        }
        let gone = former
            .map(file_name)
            .filter(|former| latter.is_none_or(|latter| file_name(latter) != *former));
        match gone.map(|file| fs::remove_file(self.folder.join(file))) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn write(&self, one: &StoredCertificate) -> io::Result<()> {
        let entry = Entry {
            name: one.name.clone(),
            source: one.source.as_str().to_owned(),
            chain: one.chain.clone(),
            key_id: one.sealed.key.clone(),
            sealed: one.sealed.text.clone(),
        };
        write_private(&self.folder.join(file_name(one)), &serde_json::to_vec(&entry)?)
    }

    fn files(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }
}

fn file_name(one: &StoredCertificate) -> String {
    let mut hash = Sha256::new();
    for part in [&one.name, &*one.chain, &one.sealed.key, &one.sealed.text] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hex = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{hex}.json")
}
