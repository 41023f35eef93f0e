//! A scrape of `/metrics`, read as far as tests need.

use std::collections::BTreeSet;

use super::proxy::Proxy;

/// What was scraped.
pub(crate) struct Scrape {
    text: String,
}

impl Scrape {
    /// Scrapes a running proxy.
    pub(crate) async fn of(proxy: &Proxy) -> Self {
        let answer = proxy.admin("/metrics").await.expect("the admin listener answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        Self { text: String::from_utf8(answer.body).unwrap() }
    }

    /// The families, by the name in their `# TYPE` line, and their types.
    pub(crate) fn families(&self) -> Vec<(&str, &str)> {
        self.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect()
    }

    /// The labels of the first sample of this name; none when there is no such sample.
    pub(crate) fn labels(&self, name: &str) -> Option<BTreeSet<String>> {
        let rest =
            self.text.lines().find_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' '])))?;
        let inside = rest.strip_prefix('{').map_or("", |rest| rest.split('}').next().unwrap_or_default());
        let names = inside.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        Some(names.collect())
    }

    /// The sum of all samples of this name that carry these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
        });
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}
