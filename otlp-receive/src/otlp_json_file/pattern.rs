//! Paths with wildcards.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders below folders, for `**`.
const DEPTH_MAX: usize = 32;

/// Every file that one of `include` names and none of `exclude`, in order.
pub(super) fn find(include: &[String], exclude: &[String]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for pattern in include {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let root = if pattern.starts_with('/') { PathBuf::from("/") } else { PathBuf::new() };
        walk(root, &parts, DEPTH_MAX, &mut found);
    }
    found.retain(|path| !exclude.iter().any(|pattern| matches(pattern, path)));
    found
}

fn walk(folder: PathBuf, parts: &[&str], depth: usize, found: &mut BTreeSet<PathBuf>) {
    let Some((&part, rest)) = parts.split_first() else { return };
    if part == "**" {
        walk(folder.clone(), rest, depth, found);
        if depth > 0 {
            // Links are not followed: they may lead round in a circle.
            let folders = entries(&folder).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            folders.for_each(|entry| walk(folder.join(entry.file_name()), parts, depth - 1, found));
        }
        return;
    }
    if !part.contains(['*', '?', '[']) {
        step(folder.join(part), rest, depth, found);
        return;
    }
    for entry in entries(&folder) {
        if entry.file_name().to_str().is_some_and(|name| name_matches(part, name)) {
            step(folder.join(entry.file_name()), rest, depth, found);
        }
    }
}

fn step(path: PathBuf, rest: &[&str], depth: usize, found: &mut BTreeSet<PathBuf>) {
    if !rest.is_empty() {
        walk(path, rest, depth, found);
    } else if path.is_file() {
        found.insert(path);
    }
}

/// A folder that cannot be read has none: it may be made later.
fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// Whether a pattern names a path.
pub(super) fn matches(pattern: &str, path: &Path) -> bool {
    let Some(path) = path.to_str() else { return false };
    let split = |text: &str| -> Vec<String> {
        text.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
    };
    pattern.starts_with('/') == path.starts_with('/') && parts_match(&split(pattern), &split(path))
}

fn parts_match(pattern: &[String], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((part, rest)), _) if part == "**" => {
            parts_match(rest, path) || path.split_first().is_some_and(|(_, below)| parts_match(pattern, below))
        }
        (Some((part, rest)), Some((name, below))) => name_matches(part, name) && parts_match(rest, below),
        _ => false,
    }
}

/// One name. Backtracks to the last star only, so that it takes at most the product of the lengths.
fn name_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, in_name));
            at += 1;
        } else if let Some(next) = one(&pattern, at, name[in_name]) {
            at = next;
            in_name += 1;
        } else if let Some((star_at, taken)) = star {
            star = Some((star_at, taken + 1));
            (at, in_name) = (star_at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&character| character == '*')
}

/// Where the pattern goes on if its element at `at` takes the character.
fn one(pattern: &[char], at: usize, character: char) -> Option<usize> {
    match *pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => {
            // A bracket without an end is a bracket.
            let Some(len) = pattern[at + 1..].iter().skip(1).position(|&end| end == ']').map(|len| len + 1) else {
                return (character == '[').then_some(at + 1);
            };
            let set = &pattern[at + 1..at + 1 + len];
            let (not, set) = match set {
                ['!' | '^', rest @ ..] if !rest.is_empty() => (true, rest),
                set => (false, set),
            };
            let mut inside = false;
            let mut index = 0;
            while index < set.len() {
                if index + 2 < set.len() && set[index + 1] == '-' {
                    inside |= (set[index]..=set[index + 2]).contains(&character);
                    index += 3;
                } else {
                    inside |= set[index] == character;
                    index += 1;
                }
            }
            (inside != not).then_some(at + len + 2)
        }
        plain => (plain == character).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_paths() {
        for (pattern, path, expected) in [
            ("/a/*.json", "/a/b.json", true),
            ("/a/*.json", "/a/b/c.json", false),
            ("/a/*.json", "a/b.json", false),
            ("./a/*.json", "a/b.json", true),
            ("/a/**/*.json", "/a/b.json", true),
            ("/a/**/*.json", "/a/b/c/d.json", true),
            ("/a/**", "/a/b/c", true),
            ("/a/x?z*", "/a/xyz", true),
            ("/a/x?z", "/a/xz", false),
            ("*a*b*c", "xxaxxbxxbc", true),
            ("*a*b*c", "xxaxxbxxbcd", false),
            ("[a-c]1", "b1", true),
            ("[!a-c]1", "b1", false),
            ("[^a-c]1", "d1", true),
            ("[]x]", "]", true),
            ("[", "[", true),
            ("[a-]", "-", true),
            ("*", "", false),
        ] {
            assert_eq!(matches(pattern, Path::new(path)), expected, "{pattern} {path}");
        }
        let hard = "a*".repeat(50) + "b";
        assert!(!matches(&hard, Path::new(&"a".repeat(200))));
    }
}
