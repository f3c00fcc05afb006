//! Progress on stderr: bars with an ETA on a terminal, a line every ten seconds elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::watch::Watch;

/// Whether the user wants to stop.
static STOP: AtomicBool = AtomicBool::new(false);
/// Whether something runs that looks whether he does.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// Hears Ctrl-C from here on: the first ends the step and saves, the second ends at once, as does
/// the first where nothing long runs.
pub(super) fn listen() {
    let heard = ctrlc::set_handler(|| {
        let again = STOP.swap(true, Ordering::SeqCst);
        if again || !WATCHED.load(Ordering::SeqCst) {
            // At once: libtorch's destructors would run beside the threads that still use what they
            // destroy.
            crate::files::abandon();
            crate::torch::exit_now(130);
        }
        drop(writeln!(std::io::stderr(), "\nstopping after this step; once more to stop at once"));
    });
    drop(heard);
}

/// Shows progress.
pub(super) struct Bars {
    mode: Mode,
    what: String,
    total: u64,
    began: Instant,
    first: u64,
    reported: Instant,
    /// What was noted and warned of, each once.
    said: Vec<String>,
}

enum Mode {
    Quiet,
    Lines,
    Bar(ProgressBar),
}

const PAUSE: Duration = Duration::from_secs(10);

impl Bars {
    pub(super) fn new(quiet: bool) -> Self {
        WATCHED.store(true, Ordering::SeqCst);
        let mode = if quiet {
            Mode::Quiet
        } else if std::io::stderr().is_terminal() {
            Mode::Bar(ProgressBar::hidden())
        } else {
            Mode::Lines
        };
        let now = Instant::now();
        Self {
            mode,
            what: String::new(),
            total: 0,
            began: now,
            first: 0,
            reported: now,
            said: Vec::new(),
        }
    }
}

impl Bars {
    /// Remembers a message; whether it was not said before.
    fn is_new(&mut self, message: &str) -> bool {
        let new = !self.said.iter().any(|said| said == message);
        if new {
            self.said.push(message.to_owned());
        }
        new
    }
}

impl Watch for Bars {
    fn begin(&mut self, what: &str, total: u64) {
        what.clone_into(&mut self.what);
        self.total = total;
        self.began = Instant::now();
        self.reported = Instant::now();
        self.first = u64::MAX;
        if let Mode::Bar(bar) = &mut self.mode {
            let colour = if std::env::var_os("NO_COLOR").is_some() { "" } else { ".cyan/dim" };
            let style = ProgressStyle::with_template(&format!(
                "{{prefix:<24}} {{bar:28{colour}}} {{pos:>6}}/{{len}} {{elapsed:>4}} eta \
                 {{eta:<4}} {{msg}}"
            ))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
            *bar = ProgressBar::new(total).with_style(style).with_prefix(what.to_owned());
        }
    }

    fn at(&mut self, done: u64, note: &str) {
        if self.first == u64::MAX {
            self.first = done;
            if let Mode::Bar(bar) = &self.mode {
                bar.set_position(done);
                bar.reset_eta();
            }
        }
        match &self.mode {
            Mode::Bar(bar) => {
                bar.set_message(note.to_owned());
                bar.set_position(done);
            }
            Mode::Lines if self.reported.elapsed() >= PAUSE && done < self.total => {
                self.reported = Instant::now();
                let fresh = done.saturating_sub(self.first).max(1);
                let eta =
                    self.began.elapsed().as_secs_f64() / fresh as f64 * (self.total - done) as f64;
                say(&format!("{}: {done}/{}, eta {} {note}", self.what, self.total, span(eta)));
            }
            Mode::Lines | Mode::Quiet => {}
        }
    }

    fn end(&mut self) {
        match &self.mode {
            Mode::Quiet => {}
            Mode::Bar(bar) => bar.finish(),
            Mode::Lines => {
                say(&format!(
                    "{}: {} in {}",
                    self.what,
                    self.total,
                    span(self.began.elapsed().as_secs_f64())
                ));
            }
        }
    }

    fn note(&mut self, message: &str) {
        if !self.is_new(message) {
            return;
        }
        // It is no progress: what was ignored, guessed or left out must be heard.
        match &self.mode {
            Mode::Bar(bar) => bar.suspend(|| say(message)),
            Mode::Lines | Mode::Quiet => say(message),
        }
    }

    fn warn(&mut self, message: &str) {
        if !self.is_new(message) {
            return;
        }
        match &self.mode {
            Mode::Bar(bar) => bar.suspend(|| say(&format!("warning: {message}"))),
            Mode::Lines | Mode::Quiet => say(&format!("warning: {message}")),
        }
    }

    fn said(&self) -> &[String] {
        &self.said
    }

    fn interrupted(&self) -> bool {
        STOP.load(Ordering::SeqCst)
    }
}

fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// Seconds as people say them.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 600.0 => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
