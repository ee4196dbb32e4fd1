use super::*;

/// As many lives as a test has time for; `make bench` lives through a thousand.
const LIVES: u64 = 2;
const DAYS: u64 = 30;

/// Goals F1 by probes alone, F4, F5, F6 and F8.
#[test]
fn in_no_weather_it_leaves_a_target_that_is_well_and_what_is_dead_it_leaves_in_time() {
    for weather in Weather::all() {
        let report = weather.simulate(LIVES, DAYS);
        assert_eq!((report.lives, report.wrong), (LIVES, 0), "{report}");
        // It looks for longer where much is lost, and one in twenty of its last probes is lost, too.
        let noisy = if weather.loss > 0.02 { 500 } else { 0 };
        for (fault, most) in [(Fault::Refuse, 1400), (Fault::Flap, 1400), (Fault::BlackHole, 2100)]
        {
            // After a restart, targets have to prove themselves before anybody goes there.
            if weather.faults.is_empty() || weather.restarts.is_some() {
                continue;
            }
            let times = &report.detections[&fault];
            assert!(times.len() >= 40, "{fault:?} was seldom seen\n{report}");
            let most = Duration::from_millis(most + noisy);
            assert!(times.quantile(0.99) <= most, "{fault:?} was seen late\n{report}");
            assert!(report.most_transitions[&fault] <= 2, "{fault:?} made it flap\n{report}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_life() {
    let weather = Weather { loss: 0.05, faults: Fault::ALL, ..Weather::FINE };
    let [one, other] = [(); 2].map(|()| weather.simulate(2, 3).to_string());
    assert_eq!(one, other);
}
