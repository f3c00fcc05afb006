//! How the source is cut: sizes, what is written twice, import circles, and what a name means.

mod duplicates;
mod imports;
mod names;
mod sizes;
mod source;
