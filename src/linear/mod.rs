//! Computes linear layers: converts rows to the form that a layer's weights need ([`input`]), multiplies them with the weights
//! ([`product`]), and cuts the product into tasks for the threads ([`task`]). The weights themselves are in `weights`.

mod input;
mod product;
mod task;

pub(crate) use input::{Activations, InputRows};
pub(crate) use product::Product;
pub(crate) use task::{LinearTask, run_linear};
