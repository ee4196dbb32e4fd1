//! Calls that apps on devices make to other apps.

use std::{convert::Infallible, fmt, net::SocketAddr};

use weir_config::{AppName, HostName, InstanceId};
use weir_deploy::{Caller, Duplex, Link};

use super::Gatekeeper;

/// Calls of apps on one device that are taken at once; each that is taken makes room for another.
const WAITING: usize = 4;

/// Where calls go that apps on devices make to other apps.
pub trait Calls: fmt::Debug + Send + Sync + 'static {
    /// Carries the requests on a connection of an app, which has this address on its device. Does
    /// not wait for them.
    fn carry(&self, stream: Box<dyn Duplex>, from: SocketAddr, caller: AppName);
}

impl Gatekeeper {
    /// Takes the calls that apps on a device make to others.
    pub(super) async fn take_calls(&self, device: &HostName, link: &Link) -> Infallible {
        let take = async || {
            while let Ok((caller, stream)) = link.next_caller().await {
                let Caller { instance, from } = caller;
                // A device says which app calls; whether that is there is known here.
                let instance = InstanceId { host: device.clone(), ..instance };
                if self.world.borrow().observed.instances.contains_key(&instance) {
                    self.calls.carry(stream, from, instance.app);
                } else {
                    tracing::warn!(%device, %instance, "a call by what does not run there");
                }
            }
        };
        futures::future::join_all(std::iter::repeat_with(take).take(WAITING)).await;
        // An agent that knows of no calls is as good for everything else.
        std::future::pending().await
    }
}
