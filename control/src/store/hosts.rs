//! Hosts. The machine that Weir runs on is always one of them.

use sqlx::SqliteConnection;
use weir_config::{Host, HostManifest, HostName, HostSpec, Hostname, Problems};

use super::{
    Kind, StoreError,
    objects::{Object, Record},
};

impl Object for Host {
    const KIND: Kind = Kind::Host;

    type Name = HostName;
    type Spec = HostSpec;
    type Extra = ();
    type Extras = ();
    type Meant = Self;

    fn name(&self) -> &HostName {
        &self.name
    }

    fn extra(_: &mut (), _: &HostName, _: &HostSpec) -> Result<(), StoreError> {
        Ok(())
    }

    fn meant(record: &Record<Self>, _: &Hostname) -> Result<Self, Problems> {
        let (kind, name) = (Kind::Host.as_str().to_owned(), record.name.to_string());
        Self::from_manifest(&HostManifest { kind, name, spec: record.spec.clone() })
    }

    /// Whether something runs on it is not known here.
    ///
    /// # Errors
    /// [`StoreError::LocalHost`].
    async fn delete_extra(_: &mut SqliteConnection, name: &HostName) -> Result<(), StoreError> {
        if name.is_local() { Err(StoreError::LocalHost) } else { Ok(()) }
    }
}
