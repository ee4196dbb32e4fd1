//! Certificates: how soon one comes from nothing, and what very many cost.

mod issuance;
mod many;
mod pebble;
mod peers;
mod server;

use crate::{Options, report::Report};

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct CertificateScale {
    /// How often a certificate is ordered from nothing
    #[arg(long, default_value_t = 20)]
    orders: usize,
    /// How many certificates are loaded
    #[arg(long, default_value_t = 100_000)]
    certificates: usize,
}

pub(crate) async fn measure(report: &mut Report, options: &Options) -> anyhow::Result<()> {
    issuance::measure(report, options.certificates).await?;
    many::measure(report, options.certificates).await
}
