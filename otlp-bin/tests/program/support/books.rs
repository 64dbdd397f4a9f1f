//! The report that the program prints when it ends.

use std::collections::BTreeMap;

/// The figures of each pipeline's destination, by `pipeline -> destination`.
#[derive(Debug, Default)]
pub(crate) struct Books(BTreeMap<String, BTreeMap<String, u64>>);

impl Books {
    /// Reads lines like `traces -> debug: accepted 10, removed 0, exported 10, rejected 0, dropped 0, held 0`.
    pub(crate) fn read(log: &str) -> Books {
        let mut books = Books::default();
        for line in log.lines() {
            let Some((place, figures)) = line.rsplit_once(": accepted ") else { continue };
            let place = place.rsplit('\t').next().unwrap();
            let figures = format!("accepted {figures}");
            let figures = figures
                .split(", ")
                .map(|figure| {
                    let mut words = figure.split_whitespace();
                    let (name, count) = (words.next().unwrap(), words.next().unwrap());
                    (name.to_owned(), count.parse().unwrap_or_else(|_| panic!("no figure in {line:?}")))
                })
                .collect();
            books.0.insert(place.to_owned(), figures);
        }
        books
    }

    /// One figure of one destination.
    pub(crate) fn get(&self, place: &str, figure: &str) -> u64 {
        let figures = self.0.get(place).unwrap_or_else(|| panic!("no {place:?} in {self:?}"));
        *figures.get(figure).unwrap_or_else(|| panic!("no {figure:?} of {place:?} in {self:?}"))
    }

    /// Every item accepted stands in exactly one column of each destination, and none is held after the end.
    pub(crate) fn assert_balanced(&self) {
        for place in self.0.keys() {
            let figure = |name| self.get(place, name);
            let sum: u64 = ["removed", "exported", "rejected", "dropped", "held"].into_iter().map(figure).sum();
            assert_eq!(figure("accepted"), sum, "{place} does not balance: {self:?}");
        }
    }
}
