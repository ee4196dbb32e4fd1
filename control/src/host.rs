//! A host as it has been seen: whether its engine answers, and since when it does not.

use std::{fmt, sync::LazyLock};

use weir_config::{Disconnect, Moment};
use weir_deploy::EngineInfo;

/// How a host stands, by when its engine answered last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HostState {
    /// Its containers have not been listed yet since this process began.
    #[default]
    Unknown,
    Ready,
    /// It did not answer the last time.
    Suspect,
    /// It has been silent for longer than a restart of an engine takes.
    Disconnected,
    /// It is not waited for any longer.
    Lost,
    /// It was lost and answers again; what was started elsewhere meanwhile is being sorted out.
    Returned,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HostSeen {
    pub(crate) state: HostState,
    /// Of its engine; `None` as long as its containers have not been listed.
    pub(crate) info: Option<EngineInfo>,
    /// Why it does not answer, if it does not.
    pub(crate) error: Option<String>,
    /// When it answered last, or was first waited for.
    pub(crate) answered_at: Moment,
    /// Whether it was a host before this process began, so that there may be containers on it.
    pub(crate) may_hold: bool,
}

/// A host that nothing is known of yet.
static UNSEEN: LazyLock<HostSeen> = LazyLock::new(HostSeen::default);

impl HostState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ready => "ready",
            Self::Suspect => "suspect",
            Self::Disconnected => "disconnected",
            Self::Lost => "lost",
            Self::Returned => "returned",
        }
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl HostSeen {
    pub(crate) fn unseen() -> &'static Self {
        &UNSEEN
    }

    pub(crate) fn new(may_hold: bool, now: Moment) -> Self {
        Self { may_hold, answered_at: now, ..Self::default() }
    }

    /// Whether its engine does what it is asked.
    pub(crate) fn answers(&self) -> bool {
        matches!(self.state, HostState::Ready | HostState::Returned)
    }

    /// Whether its containers have been listed, so that what is not seen is not there.
    pub(crate) fn is_listed(&self) -> bool {
        self.info.is_some()
    }

    /// Whether it may have containers that are not known of yet, and is worth waiting for.
    pub(crate) fn is_expected(&self) -> bool {
        self.may_hold && !self.is_listed() && self.state != HostState::Lost
    }

    /// Its engine has answered and its containers are listed.
    pub(crate) fn listed(&mut self, info: EngineInfo, now: Moment) {
        self.state = match self.state {
            HostState::Lost if self.is_listed() => HostState::Returned,
            _ => HostState::Ready,
        };
        (self.info, self.error, self.answered_at) = (Some(info), None, now);
    }

    /// Its engine has answered; returns whether that changes anything.
    pub(crate) fn answered(&mut self, now: Moment) -> bool {
        self.answered_at = now;
        let returned = self.state == HostState::Returned;
        if returned {
            self.state = HostState::Ready;
        }
        returned
    }

    /// Its engine has not answered; returns whether that changes anything.
    pub(crate) fn silent(&mut self, error: String, policy: &Disconnect, now: Moment) -> bool {
        let silence = now.since(self.answered_at);
        let state = match self.state {
            _ if silence >= policy.lost_after => HostState::Lost,
            _ if silence >= policy.after => HostState::Disconnected,
            _ if !self.is_listed() => HostState::Unknown,
            _ => HostState::Suspect,
        };
        let is_news = self.state != state || self.error.is_none();
        (self.state, self.error) = (state, Some(error));
        is_news
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::tests::info;

    #[test]
    fn a_silent_host_is_suspected_disconnected_and_lost_in_time_and_returns() {
        let policy = Disconnect {
            after: Duration::from_secs(30),
            lost_after: Duration::from_secs(60),
            replace: true,
        };
        let start = Moment(1_000_000);
        let mut host = HostSeen::new(true, start);
        assert!(host.is_expected() && !host.answers());
        host.listed(info(), start);
        assert!(host.answers() && !host.is_expected());
        for (after, state, is_news) in [
            (5, HostState::Suspect, true),
            (29, HostState::Suspect, false),
            (30, HostState::Disconnected, true),
            (60, HostState::Lost, true),
            (90, HostState::Lost, false),
        ] {
            let now = start + Duration::from_secs(after);
            assert_eq!(host.silent("refused".to_owned(), &policy, now), is_news, "after {after} s");
            assert_eq!(host.state, state, "after {after} s");
            assert!(!host.answers());
        }
        let now = start + Duration::from_secs(100);
        host.listed(info(), now);
        assert_eq!((host.state, host.answers()), (HostState::Returned, true));
        assert!(host.answered(now) && host.state == HostState::Ready);
        assert!(!host.answered(now), "that is no news any more");
    }
}
