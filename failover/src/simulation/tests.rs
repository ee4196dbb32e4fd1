use super::*;

/// As many lives as a test has time for; `make bench` lives through a thousand.
const LIVES: u64 = 4;
const DAYS: u64 = 30;

/// Goal F4.
#[test]
fn no_weather_makes_it_leave_a_target_that_is_well() {
    for weather in Weather::all() {
        let began = std::time::Instant::now();
        let report = weather.simulate(LIVES, DAYS);
        eprintln!("{report}\n    in {:.1?}", began.elapsed());
        assert_eq!(report.lives, LIVES);
        assert_eq!(report.wrong, 0, "{report}");
    }
}
