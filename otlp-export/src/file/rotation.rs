//! What old files are called, and which of them are deleted. No clock, no disk.
//!
//! `traces.json` becomes `traces-2026-01-31T23-59-59.999.json`: the time of its end in UTC, before the extension. Names of
//! this form sort by age.

use std::time::{Duration, SystemTime};

use otlp_core::clock::rfc3339;

use super::Rotation;

const DAY: Duration = Duration::from_secs(86_400);

/// The name of an old file of `name` that ended at `time`.
pub(super) fn backup_name(name: &str, time: SystemTime) -> String {
    let (stem, extension) = split(name);
    format!("{stem}-{}{extension}", stamp(time))
}

/// Those of a folder's `names` that are old files of `name` and are not to be kept any longer.
pub(super) fn surplus<'a>(
    rotation: &Rotation,
    name: &str,
    names: impl IntoIterator<Item = &'a str>,
    now: SystemTime,
) -> Vec<&'a str> {
    let oldest = (rotation.max_days > 0)
        .then(|| DAY.checked_mul(u32::try_from(rotation.max_days).unwrap_or(u32::MAX)))
        .flatten()
        .and_then(|age| now.checked_sub(age))
        .map(stamp);
    let mut backups: Vec<(&str, &str)> =
        names.into_iter().filter_map(|candidate| Some((stamp_of(name, candidate)?, candidate))).collect();
    backups.sort_unstable_by(|one, two| two.cmp(one));
    let kept = if rotation.max_backups == 0 { usize::MAX } else { rotation.max_backups };
    backups
        .into_iter()
        .enumerate()
        .filter(|(place, (stamp, _))| *place >= kept || oldest.as_deref().is_some_and(|oldest| *stamp < oldest))
        .map(|(_, (_, candidate))| candidate)
        .collect()
}

/// `2026-01-31T23-59-59.999`: no colons, which some systems do not take in names.
fn stamp(time: SystemTime) -> String {
    rfc3339(time).trim_end_matches('Z').replace(':', "-")
}

/// The time in the name of an old file of `name`; none where it is something else.
fn stamp_of<'a>(name: &str, candidate: &'a str) -> Option<&'a str> {
    let (stem, extension) = split(name);
    let stamp = candidate.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(extension)?;
    let form = b"0000-00-00T00-00-00.000";
    let fits = stamp.len() == form.len()
        && stamp.bytes().zip(form).all(|(byte, &form)| if form == b'0' { byte.is_ascii_digit() } else { byte == form });
    fits.then_some(stamp)
}

fn split(name: &str) -> (&str, &str) {
    name.split_at(name.rfind('.').unwrap_or(name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use otlp_core::Clock;
    use proptest::prelude::*;

    #[test]
    fn the_time_stands_before_the_extension() {
        let time = Clock::simulated().wall() + Duration::from_millis(1234);
        for (name, expected) in [
            ("traces.json", "traces-2026-01-01T00-00-01.234.json"),
            ("a.b.json", "a.b-2026-01-01T00-00-01.234.json"),
            ("plain", "plain-2026-01-01T00-00-01.234"),
            (".hidden", "-2026-01-01T00-00-01.234.hidden"),
        ] {
            assert_eq!(backup_name(name, time), expected);
            assert_eq!(stamp_of(name, expected), Some("2026-01-01T00-00-01.234"));
        }
        for other in [
            "traces.json",
            "traces-old.json",
            "traces-2026-01-01T00-00-01.234.json.gz",
            "x-2026-01-01T00-00-01.234.json",
        ] {
            assert_eq!(stamp_of("traces.json", other), None, "{other}");
        }
    }

    #[test]
    fn files_go_by_number_and_by_age() {
        let now = Clock::simulated().wall();
        let old: Vec<String> = (0..6).map(|days| backup_name("a.json", now - DAY * days)).collect();
        let names = || old.iter().map(String::as_str).chain(["a.json", "b.json"]);
        let left = |max_backups, max_days| {
            let rotation = Rotation { max_backups, max_days, ..Rotation::default() };
            6 - surplus(&rotation, "a.json", names(), now).len()
        };
        assert_eq!([left(0, 0), left(4, 0), left(0, 2), left(1, 2), left(100, 3)], [6, 4, 3, 1, 4]);
        let rotation = Rotation { max_backups: 1, max_days: 0, ..Rotation::default() };
        assert!(!surplus(&rotation, "a.json", names(), now).contains(&old[0].as_str()), "the newest is kept");
    }

    proptest! {
        #[test]
        fn names_sort_by_time(one in 0u64..1 << 42, two in 0u64..1 << 42) {
            let name = |ms| backup_name("x.json", SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
            prop_assert_eq!(one.cmp(&two), name(one).cmp(&name(two)));
        }
    }
}
