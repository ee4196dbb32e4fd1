//! The law of failover in virtual time: a month of each weather, some hundred times over.

use std::time::Instant;

use weir_failover::simulation::Weather;

use crate::report::Report;

const DAYS: u64 = 30;

pub(crate) fn measure(report: &mut Report, lives: u64) {
    for weather in Weather::all() {
        let began = Instant::now();
        let seen = weather.simulate(lives, DAYS);
        let took = began.elapsed().as_secs_f64();
        println!("{seen}");
        let name = |what: &str| format!("failover, {}: {what}", weather.name);
        let per_life = seen.wrong as f64 / lives.max(1) as f64;
        report.figure(&name("wrong departures in 30 days"), per_life, "", "0");
        report.figure(&name("in the worst of them"), seen.worst as f64, "", "<= 1");
        report.figure(&name("to simulate all"), took, "s", "");
        for (fault, times) in &seen.detections {
            let name = name(&format!("to leave, {fault:?}, p99"));
            report.figure(&name, times.quantile(0.99).as_secs_f64(), "s", "");
        }
    }
}
