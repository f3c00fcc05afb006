//! The recipes that make the shipped models from nothing. What they learn from is the canvas.
//!
//! [`train_miniature`] makes a Stable Diffusion in small and its judge, [`train_miniature_gan`] a
//! `StyleGAN2` in small and the labeller of its samples.

mod autoencoder;
mod canvas_dataset;
mod canvas_images;
mod clip;
mod contrastive;
mod denoising;
mod diffusion;
mod encoded_canvas;
mod folders;
mod gan;
mod gan_recipe;
mod left_out;
mod mapping;
mod reading;
mod reconstruction;
mod sample_sheets;
mod shipping;
mod stripe_probe;
mod training_part;

pub use clip::ClipPart;
pub use diffusion::{MiniatureRecipe, UnetPart, VaePart, train_miniature};
pub use gan::train_miniature_gan;
pub use gan_recipe::{GanPart, Labeller, MiniatureGanRecipe, ReconstructionPart};
pub use training_part::TrainingPart;
