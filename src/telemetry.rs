//! Diagnostics: what the process says about itself, on stderr. Exchanges go to the access log instead.

use std::io::{self, Write as _};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

/// `log.format`: how diagnostics look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why diagnostics cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not one.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// The process has a subscriber already.
    #[error("diagnostics were set up already")]
    AlreadySet,
}

/// Why a text is no filter. The text itself is left out: callers know where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a log filter is a level (off, error, warn, info, debug or trace) or a list such as `info,keybearer=debug`: one level, \
     and further levels for the targets they are meant for"
)]
pub struct InvalidFilter;

/// Sends the diagnostics of the whole process to stderr from now on.
///
/// # Errors
/// [`Error::Filter`] when `filter` is not one, [`Error::AlreadySet`] at a second call.
pub fn install(filter: &str, format: Format) -> Result<(), Error> {
    let color = match anstream::AutoStream::choice(&io::stderr()) {
        anstream::ColorChoice::Never => Color::Off,
        anstream::ColorChoice::Auto | anstream::ColorChoice::Always | anstream::ColorChoice::AlwaysAnsi => Color::On,
    };
    let subscriber = subscriber(filter, format, color, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::AlreadySet)
}

/// From now on a panic is told by its place alone. The standard hook prints the message, too, and that can hold what
/// was being worked on: one about a slice of a text quotes the text.
pub fn tell_panics_by_place() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if tracing::dispatcher::has_been_set() {
            tracing::error!(%place, "a defect in keybearer: a thread panicked");
        } else {
            let _ = writeln!(io::stderr(), "a defect in keybearer: a thread panicked at {place}");
        }
    }));
}

/// Whether `filter` is one, without using it.
///
/// # Errors
/// [`InvalidFilter`] when it is not.
pub fn check(filter: &str) -> Result<(), InvalidFilter> {
    parse(filter).map(drop)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Color {
    On,
    Off,
}

fn parse(filter: &str) -> Result<EnvFilter, InvalidFilter> {
    let parts: Vec<&str> = filter.split(',').map(str::trim).collect();
    for part in &parts {
        // The library takes a word that is no level for a target, so that `inof` would silence everything else, and
        // nothing at all for `error`.
        let is_level = !part.is_empty() && part.parse::<LevelFilter>().is_ok();
        if !is_level && !part.contains(['=', '[', ']']) {
            return Err(InvalidFilter);
        }
    }
    EnvFilter::builder().parse(parts.join(",")).map_err(|_| InvalidFilter)
}

fn subscriber<W>(
    filter: &str,
    format: Format,
    color: Color,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, InvalidFilter>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let registry = tracing_subscriber::registry().with(parse(filter)?);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(color == Color::On);
    Ok(match format {
        Format::Text => Box::new(registry.with(layer)),
        Format::Json => Box::new(registry.with(layer.json().flatten_event(true))),
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::{Color, Format, InvalidFilter, check, subscriber};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: Format, say: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(filter, format, Color::Off, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, say);
        String::from_utf8(sink.0.lock().clone()).unwrap()
    }

    #[test]
    fn a_filter_is_levels_and_targets_with_levels() {
        for good in
            ["info", "off", "WARN", "info,keybearer=debug", "keybearer=trace", "warn, hyper=debug", "[mint]=debug"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "inof", "keybearer=loud", "info,,", "keybearer", "info;debug"] {
            assert_eq!(check(bad), Err(InvalidFilter), "{bad}");
        }
    }

    #[test]
    fn the_filter_decides_what_is_said() {
        let text = logged("warn", Format::Text, || {
            tracing::info!("too quiet");
            tracing::warn!(named_credential = "orders", "loud enough");
        });
        assert!(text.contains("loud enough") && text.contains("named_credential=\"orders\""), "{text}");
        assert!(!text.contains("too quiet") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        let text = logged("info", Format::Json, || tracing::info!(named_credential = "orders", "renewed\n\"twice\""));
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["named_credential"], "orders");
        assert_eq!(line["message"], "renewed\n\"twice\"");
        assert_eq!(line["level"], "INFO");
    }
}
