//! Who changes what, and what must hold for it.

use super::{Kind, StoreError, objects::Meta};

/// What must hold for a write to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Precondition {
    #[default]
    None,
    /// The object must not exist.
    New,
    /// The object must exist.
    Exists,
    /// The object must be at this revision.
    Revision(u64),
}

/// Who makes a change, and which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause<'a> {
    pub(crate) actor: &'a str,
    pub(crate) verb: Verb,
    /// Of the request that asks for it, if it may be sent again.
    pub(crate) key: Option<&'a str>,
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Put,
    /// Put, with a new deployment even if its template is that of the newest one.
    Deploy,
    /// The same, of exactly the image of another app.
    Promote,
    RollBack,
    Cancel,
    /// Its secrets were changed, and with them its template.
    Secrets,
    Delete,
    Sleep,
    Wake,
    /// The instances of apps are brought to the hosts that they would be placed on now.
    Converge,
    /// The apps on a shard's hosts are deployed, some at a time.
    RollingUpdate,
    /// Everything that is secret is sealed with a new key.
    RotateKey,
    /// What the gate keeps from being served is right.
    Confirm,
    /// A certificate has come from an authority.
    Issue,
    /// A certificate of somebody's own.
    Upload,
    /// Another certificate is to be ordered.
    Renew,
    /// The owner of a domain has said that an app may have it.
    Verify,
    /// All clients of a failover policy go to one target.
    Force,
    /// The shares of a failover policy stay as they are.
    Freeze,
    /// A failover policy's law decides again.
    Release,
    /// A provider's caches forget some names.
    Purge,
    /// Somebody is told of an incident by rule.
    Page,
}

impl Cause<'static> {
    /// What Weir does by itself.
    pub(crate) fn of_weir(verb: Verb) -> Self {
        Self { actor: "weir", verb, key: None }
    }
}

impl Verb {
    const ALL: [Self; 22] = [
        Self::Put,
        Self::Deploy,
        Self::Promote,
        Self::RollBack,
        Self::Cancel,
        Self::Secrets,
        Self::Delete,
        Self::Sleep,
        Self::Wake,
        Self::Converge,
        Self::RollingUpdate,
        Self::RotateKey,
        Self::Confirm,
        Self::Issue,
        Self::Upload,
        Self::Renew,
        Self::Verify,
        Self::Force,
        Self::Freeze,
        Self::Release,
        Self::Purge,
        Self::Page,
    ];

    /// Those that take many steps of their own, which [`crate::conductor`] takes: nothing but the
    /// same anew, or a cancel by its number, comes before they are done.
    pub(crate) const CONDUCTED: [Self; 2] = [Self::Converge, Self::RollingUpdate];

    /// As in the column `verb`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Deploy => "deploy",
            Self::Promote => "promote",
            Self::RollBack => "rollback",
            Self::Cancel => "cancel",
            Self::Secrets => "secrets",
            Self::Delete => "delete",
            Self::Sleep => "sleep",
            Self::Wake => "wake",
            Self::Converge => "converge",
            Self::RollingUpdate => "rolling-update",
            Self::RotateKey => "rotate-key",
            Self::Confirm => "confirm",
            Self::Issue => "issue",
            Self::Upload => "upload",
            Self::Renew => "renew",
            Self::Verify => "verify",
            Self::Force => "force",
            Self::Freeze => "freeze",
            Self::Release => "release",
            Self::Purge => "purge",
            Self::Page => "page",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text)
    }
}

impl Precondition {
    pub(super) fn check(
        self,
        former: Option<&Meta>,
        kind: Kind,
        name: &str,
    ) -> Result<(), StoreError> {
        match (self, former) {
            (Self::New, Some(_)) => Err(StoreError::NameTaken { kind, name: name.to_owned() }),
            // What is not there is at no revision (RFC 9110 section 13.1.1).
            (Self::Exists | Self::Revision(_), None) => {
                Err(StoreError::Absent { kind, name: name.to_owned() })
            }
            (Self::Revision(expected), Some(former)) if former.revision != expected => {
                Err(StoreError::Conflict { kind, found: former.revision, expected })
            }
            _ => Ok(()),
        }
    }
}
