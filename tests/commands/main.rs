//! The program from outside: what it prints, how it fails, and that nothing is lost. A file a
//! subject.
//!
//! Everything runs on a toy that `unsee train` makes in seconds: the same networks as the
//! miniature, untrained.

#![expect(clippy::print_stdout, reason = "says what is skipped")]

mod adversarial;
mod attack_command;
mod attacks;
mod classes;
mod gan_studies;
mod gans;
mod judging;
mod models;
mod other_attacks;
mod prompts;
mod resuming;
mod strengths;
mod tools;
mod usage;
