//! The only way long work talks to the outside: progress and interruption.

/// Looks on while something long runs.
pub trait Watch {
    /// A piece of work begins; `total` steps of it.
    fn begin(&mut self, what: &str, total: u64);
    /// `done` steps are done; `note` says how it goes.
    fn at(&mut self, done: u64, note: &str);
    /// The piece is finished.
    fn end(&mut self) {}
    /// Something that was decided on the way.
    fn note(&mut self, _message: &str) {}
    /// Something that the user should know, though the work goes on.
    fn warn(&mut self, _message: &str) {}
    /// What was noted and warned of so far, each once.
    fn said(&self) -> &[String] {
        &[]
    }
    /// Whether the user wants to stop; asked after each step.
    fn interrupted(&self) -> bool;
}

/// Watches nothing and never interrupts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Watch for Quiet {
    fn begin(&mut self, _what: &str, _total: u64) {}
    fn at(&mut self, _done: u64, _note: &str) {}
    fn interrupted(&self) -> bool {
        false
    }
}

/// Remembers the warnings.
#[derive(Debug, Default)]
pub(crate) struct WarningRecorder(pub(crate) Vec<String>);

impl Watch for WarningRecorder {
    fn begin(&mut self, _what: &str, _total: u64) {}
    fn at(&mut self, _done: u64, _note: &str) {}
    fn warn(&mut self, message: &str) {
        self.0.push(message.to_owned());
    }
    fn interrupted(&self) -> bool {
        false
    }
}

/// Interrupts after some steps; the second number is how many are done.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct InterruptAfter(pub(crate) u64, pub(crate) u64);

#[cfg(test)]
impl Watch for InterruptAfter {
    fn begin(&mut self, _what: &str, _total: u64) {}
    fn at(&mut self, done: u64, _note: &str) {
        self.1 = done;
    }
    fn interrupted(&self) -> bool {
        self.1 >= self.0
    }
}
