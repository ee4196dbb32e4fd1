//! Hints from the data plane to control.

use crate::{AppName, EndpointId};

/// What the data plane tells as it happens. Called on the request path: an implementation never
/// blocks, and may drop a hint when control is behind. A dropped hint costs a delay, because a
/// wake that is still wanted is asked for again and every fact is also a level in
/// [`Activity`](crate::Activity).
pub trait Observe: Send + Sync + 'static {
    /// A request waits for this app.
    fn wake_wanted(&self, app: &AppName);

    /// No connection could be made to an endpoint that the snapshot says is ready.
    fn connect_failed(&self, endpoint: &EndpointId);
}

/// Hears nothing; for a proxy without a control loop, such as in its own tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observe for NoObserver {
    fn wake_wanted(&self, _app: &AppName) {}
    fn connect_failed(&self, _endpoint: &EndpointId) {}
}
