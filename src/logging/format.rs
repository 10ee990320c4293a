//! How a line of the log looks: text for people, one JSON object a line for programs, and what the journal wants.

use std::fmt;
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// One JSON object a line: `ts`, `level`, `target`, `message`, the fields of the event, and `spans` as text.
pub(super) struct Json;

/// As text, without the time, which the journal has, and with the level as it wants it (sd-daemon(3)).
pub(super) struct Journal(pub(super) Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = Map::new();
        let metadata = event.metadata();
        let ts =
            jiff::Timestamp::try_from(SystemTime::now()).map(|ts| format!("{ts:.6}")).unwrap_or_default();
        line.insert("ts".to_owned(), Value::String(ts));
        line.insert("level".to_owned(), Value::String(metadata.level().as_str().to_ascii_lowercase()));
        line.insert("target".to_owned(), Value::String(metadata.target().to_owned()));
        // What a field is called must not hide these.
        for (name, value) in fields.0 {
            let is_taken = line.contains_key(&name) || name == "spans";
            line.insert(if is_taken { format!("field_{name}") } else { name }, value);
        }
        let spans = ctx.event_scope().into_iter().flat_map(|scope| scope.from_root());
        let spans: Vec<Value> = spans
            .map(|span| {
                let extensions = span.extensions();
                let fields =
                    extensions.get::<FormattedFields<N>>().map(|fields| fields.as_str()).unwrap_or_default();
                Value::String(format!("{}{{{fields}}}", span.name()))
            })
            .collect();
        if !spans.is_empty() {
            line.insert("spans".to_owned(), Value::Array(spans));
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        // Each line is an entry of its own to the journal, so each has its level.
        let mut text = String::new();
        self.0.format_event(ctx, Writer::new(&mut text), event)?;
        text.lines().try_for_each(|line| writeln!(writer, "<{priority}>{line}"))
    }
}

/// The fields of one event, as JSON.
#[derive(Default)]
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.push((field.name().to_owned(), value.into()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What one thread writes to its log.
    fn written<E>(format: E) -> String
    where
        E: FormatEvent<tracing_subscriber::Registry, tracing_subscriber::fmt::format::DefaultFields>
            + Send
            + Sync
            + 'static,
    {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).event_format(format);
        let layer = layer.with_writer(move || writer.clone());
        let subscriber =
            tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), layer);
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::error_span!("camera", name = "yard").entered();
            tracing::warn!(level = "odd", n = 3, is = true, why = "a \"quote\"\nand a line", "camera lost");
        });
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line_whatever_is_in_it() {
        let text = written(Json);
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"warn".into(), &"camera lost".into()), "{line}");
        assert_eq!((&line["n"], &line["is"], &line["field_level"]), (&3.into(), &true.into(), &"odd".into()));
        assert_eq!(
            (&line["why"], &line["spans"][0]),
            (&"a \"quote\"\nand a line".into(), &"camera{name=\"yard\"}".into())
        );
        let ts = line["ts"].as_str().unwrap();
        assert!(ts.ends_with('Z') && ts.parse::<jiff::Timestamp>().is_ok(), "{ts}");
    }

    #[test]
    fn the_journal_gets_the_level_and_no_time() {
        let text = written(Journal(
            tracing_subscriber::fmt::format().without_time().with_level(false).with_ansi(false),
        ));
        assert!(text.starts_with("<4>camera{name=\"yard\"}: "), "{text}");
        assert!(text.lines().all(|line| line.starts_with("<4>")), "{text}");
    }
}
