//! What the fuzz target calls: loading any text, alone and put into a configuration that is good.

use std::collections::BTreeMap;

use super::{Format, Sources, load};

const GOOD: &str = "\
receivers:
  otlp:
    protocols:
      http:
processors:
  batch:
exporters:
  debug:
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [batch]
      exporters: [debug]
";

/// Loading never panics, and what it takes is taken again as it is printed. The first two bytes say where in a good
/// configuration the text is put, and how much of that it replaces.
///
/// # Panics
///
/// Where that does not hold.
pub fn yaml(bytes: &[u8]) {
    let Some((at, text)) = bytes.split_at_checked(2) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    // Files and variables of the machine say nothing about the text.
    if text.contains("file:") {
        return;
    }
    let start = usize::from(at[0]).min(GOOD.len());
    let end = (start + usize::from(at[1])).min(GOOD.len());
    for text in [text.to_owned(), format!("{}{text}{}", &GOOD[..start], &GOOD[end..])] {
        let Ok(loaded) = read(text) else { continue };
        let shown = loaded.tree.print(Format::Yaml, true);
        match read(shown.clone()) {
            Ok(again) => assert_eq!(again.tree.print(Format::Yaml, true), shown),
            Err(report) => panic!("what was taken is refused as it is printed: {report}\n{shown}"),
        }
    }
}

fn read(text: String) -> Result<super::Loaded, super::Report> {
    let environment = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    load(&Sources::new(vec![format!("yaml:{text}")], Vec::new()).with_environment(environment))
}
