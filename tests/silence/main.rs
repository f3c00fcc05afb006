//! What people's files and habits do to a result is honoured, said or refused; nothing wrong passes
//! with exit code 0 and no word. A file a kind; every case is made from the shipped models.

mod adapters;
mod evidence;
mod gans;
mod judges;
mod models;
mod pictures;
mod prompts;
mod runs;
mod single_files;
mod studies;
mod tools;
mod usage;
